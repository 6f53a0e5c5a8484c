//! The stream from which hyper reads responses. It rewrites a malformed head so that hyper can read it, and tracks
//! whether any byte of a response has arrived.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::head::{EndFinder, Rewritten, is_strict, rewrite};

/// Bytes per read while a head is awaited.
const CHUNK: usize = 1024;

/// No head is awaited, or it has arrived: reads go straight to hyper.
const PASSING: u8 = 0;
/// A request is being sent, and no byte of its response has arrived.
const AWAITED: u8 = 1;
/// A part of the head has arrived.
const BEGUN: u8 = 2;

/// The progress of the response on a connection, shared by the stream and the sender.
#[derive(Clone, Default)]
pub(super) struct AnswerState(Arc<AtomicU8>);

impl AnswerState {
    /// Records that a request is about to be written.
    pub(super) fn expect(&self) {
        self.set(AWAITED);
    }

    /// Returns true if no byte of the response to the last request has arrived.
    pub(super) fn is_awaited(&self) -> bool {
        self.get() == AWAITED
    }

    // one task owns the stream and the sender, so relaxed ordering is enough
    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// A stream that reads responses leniently.
pub(super) struct Lenient<S> {
    stream: S,
    state: AnswerState,
    longest_head: usize,
    /// The received part of a head that is not complete yet.
    head: Vec<u8>,
    end: EndFinder,
    /// Bytes for hyper; those before `taken` were already read.
    ready: Vec<u8>,
    taken: usize,
}

impl<S> Lenient<S> {
    /// Wraps `stream`, for heads of at most this many bytes; a longer one is left for hyper to refuse.
    pub(super) fn new(stream: S, longest_head: usize, state: AnswerState) -> Self {
        let (head, ready) = Default::default();
        Self { stream, state, longest_head, head, end: EndFinder::default(), ready, taken: 0 }
    }

    /// Passes ready bytes to hyper; returns true if there were any.
    fn hand_on(&mut self, buf: &mut ReadBufCursor<'_>) -> bool {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let piece = rest.get(..buf.remaining()).unwrap_or(rest);
        if rest.is_empty() {
            return false;
        }
        buf.put_slice(piece);
        self.taken += piece.len();
        if self.taken == self.ready.len() {
            (self.ready, self.taken) = Default::default();
        }
        true
    }

    fn read_head(&mut self, bytes: &[u8]) {
        self.state.set(BEGUN);
        self.head.extend_from_slice(bytes);
        while let Some(end) = self.end.find(&self.head) {
            self.end = EndFinder::default();
            let rest = self.head.split_off(end);
            let head = std::mem::replace(&mut self.head, rest);
            match rewrite(&head) {
                Rewritten::Interim => continue,
                Rewritten::Final(strict) => self.ready = strict,
                Rewritten::NotHttp => self.ready = head,
            }
            return self.pass();
        }
        if self.head.len() > self.longest_head {
            self.pass();
        }
    }

    /// Passes on all received bytes, and everything that follows.
    fn pass(&mut self) {
        self.ready.append(&mut self.head);
        self.end = EndFinder::default();
        self.state.set(PASSING);
    }
}

impl<S: Read + Unpin> Read for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_on(&mut buf) {
                return Poll::Ready(Ok(()));
            }
            if this.state.get() == PASSING {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, read.unfilled()))?;
            match read.filled() {
                // end of stream: pass on the rest; if there is none, it stays known that nothing arrived
                [] if this.head.is_empty() => return Poll::Ready(Ok(())),
                [] => this.ready = std::mem::take(&mut this.head),
                bytes if this.head.is_empty() && is_strict(bytes) => {
                    this.state.set(PASSING);
                    let (now, later) = bytes.split_at(bytes.len().min(buf.remaining()));
                    buf.put_slice(now);
                    this.ready.extend_from_slice(later);
                    return Poll::Ready(Ok(()));
                }
                bytes => this.read_head(bytes),
            }
        }
    }
}

impl<S: Write + Unpin> Write for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
