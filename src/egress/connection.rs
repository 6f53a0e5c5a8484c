//! Connections to other services, and those of them that are kept for the next request.
//!
//! HTTP/1.1 by hyper alone. A connection is polled by the exchange that has it, in one task: nothing is handed from
//! task to task, and a request that is given up (its future is dropped) takes its connection with it.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::IDLE_TIMEOUT;
use super::lenient::{AnswerState, Lenient};
use crate::failpoint;

/// A request whose body is shared by its copies.
pub(super) type Outgoing = Request<Full<Bytes>>;
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// hyper takes no smaller buffer.
const SHORTEST_HEAD: usize = 8 * 1024;

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Gone once it has ended: while it is there, the sender takes requests, and nobody would answer them.
    exchange: Option<http1::Connection<Lenient<Stream>, Full<Bytes>>>,
    answer: AnswerState,
    /// Its place among all that may be open, where they are counted.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Over `stream`, with a `place` that it gives back when it is closed. The heads of answers have `longest_head`
    /// bytes at most, and no fewer than hyper's smallest buffer, 8 KiB.
    ///
    /// # Errors
    /// When it ends at once.
    pub(super) async fn open(
        stream: Stream,
        longest_head: usize,
        place: Option<OwnedSemaphorePermit>,
    ) -> hyper::Result<Box<Self>> {
        let longest_head = longest_head.max(SHORTEST_HEAD);
        let answer = AnswerState::default();
        let stream = Lenient::new(stream, longest_head, answer.clone());
        let (sender, exchange) = http1::Builder::new().max_buf_size(longest_head).handshake(stream).await?;
        Ok(Box::new(Self { sender, exchange: Some(exchange), answer, _place: place }))
    }

    /// Whether the other side has kept it open.
    async fn is_open(&mut self) -> bool {
        self.poll_once().await;
        self.sender.is_ready()
    }

    /// Waits for `work`, which waits for this connection.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.poll_exchange(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    async fn poll_once(&mut self) {
        poll_fn(|cx| {
            self.poll_exchange(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) {
        // how it ended is told to who waits for it
        if self.exchange.as_mut().is_some_and(|exchange| Pin::new(exchange).poll(cx).is_ready()) {
            self.exchange = None;
        }
    }

    /// Writes a request and waits for the head of its answer.
    ///
    /// # Errors
    /// With the request, if nothing of it was sent.
    async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, TrySendError<Outgoing>> {
        self.answer.expect();
        let response = self.sender.try_send_request(request);
        // writes the request
        self.poll_once().await;
        failpoint::reach("request-written");
        self.drive(response).await
    }

    /// The next piece of a body that comes over it; `None` at its end.
    ///
    /// # Errors
    /// When it breaks.
    pub(super) async fn next_piece(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        loop {
            match self.drive(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await? {
                // trailers are of no interest
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue,
                },
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// Why a request was not answered.
pub(super) enum Unanswered<E> {
    /// No connection could be made: nothing was sent.
    NotConnected(E),
    /// The connection ended, or what came over it is not HTTP.
    Broken(hyper::Error),
}

/// Sends a request over a connection that was kept, or over a new one.
///
/// A server may close a kept connection at the moment when a request arrives on it. Nothing is known to be wrong then,
/// so a request to which not a byte was answered is sent once more, over a new connection, as RFC 9110, 9.2.2, has it.
/// Every request that may not be made twice has an `Idempotency-Key`.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn exchange<K, E, C>(
    idle: &Idle<K>,
    to: &K,
    mut request: Outgoing,
    connect: impl FnOnce() -> C,
) -> Result<(Response<Incoming>, Box<Connection>), Unanswered<E>>
where
    K: PartialEq + Send + 'static,
    C: Future<Output = Result<Box<Connection>, E>>,
{
    while let Some(mut connection) = idle.take(to).await {
        let again = request.clone();
        match connection.send(request).await {
            Ok(response) => return Ok((response, connection)),
            // closed while it was idle, before anything was sent
            Err(mut unsent) => match unsent.take_message() {
                Some(back) => request = back,
                None if connection.answer.is_awaited() => {
                    request = again;
                    break;
                }
                None => return Err(Unanswered::Broken(unsent.into_error())),
            },
        }
    }
    let mut connection = connect().await.map_err(Unanswered::NotConnected)?;
    match connection.send(request).await {
        Ok(response) => Ok((response, connection)),
        Err(unsent) => Err(Unanswered::Broken(unsent.into_error())),
    }
}

/// Connections that are not in use, by where they lead to, the longest unused first.
pub(super) struct Idle<K> {
    kept: Mutex<Kept<K>>,
    most: usize,
    most_of_each: usize,
}

struct Kept<K> {
    connections: VecDeque<(Instant, K, Box<Connection>)>,
    is_swept: bool,
}

impl<K: PartialEq + Send + 'static> Idle<K> {
    /// At most so many altogether, and so many to each place. They are looked through one by one.
    pub(super) fn new(most: usize, most_of_each: usize) -> Arc<Self> {
        let kept = Kept { connections: VecDeque::new(), is_swept: false };
        Arc::new(Self { kept: Mutex::new(kept), most, most_of_each })
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one to there that was used last and is still open.
    pub(super) async fn take(&self, to: &K) -> Option<Box<Connection>> {
        loop {
            let (since, _, mut connection) = {
                let kept = &mut self.lock().connections;
                let at = kept.iter().rposition(|(_, key, _)| key == to)?;
                kept.remove(at)?
            };
            if since.elapsed() < IDLE_TIMEOUT && connection.is_open().await {
                return Some(connection);
            }
        }
    }

    /// For the next request to there, in the place of another one where there are too many.
    pub(super) fn keep(self: &Arc<Self>, to: K, connection: Box<Connection>) {
        if connection.exchange.is_none() || self.most == 0 || self.most_of_each == 0 {
            return;
        }
        let mut kept = self.lock();
        // most are below both limits, and then nobody counts
        if kept.connections.len() >= self.most_of_each
            && kept.connections.iter().filter(|(_, key, _)| *key == to).count() >= self.most_of_each
        {
            let oldest = kept.connections.iter().position(|(_, key, _)| *key == to);
            oldest.map(|at| kept.connections.remove(at));
        } else if kept.connections.len() >= self.most {
            kept.connections.pop_front();
        }
        kept.connections.push_back((Instant::now(), to, connection));
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes the one that was not used for longest.
    pub(super) fn close_oldest(&self) {
        self.lock().connections.pop_front();
    }

    /// Closes those that were not used for long; answers whether any are left.
    fn close_old(&self) -> bool {
        let mut kept = self.lock();
        while kept.connections.front().is_some_and(|(since, _, _)| since.elapsed() >= IDLE_TIMEOUT) {
            kept.connections.pop_front();
        }
        kept.is_swept = !kept.connections.is_empty();
        kept.is_swept
    }
}

/// Runs while there are connections that are not in use.
async fn sweep<K: PartialEq + Send + 'static>(idle: Weak<Idle<K>>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        if !idle.upgrade().is_some_and(|idle| idle.close_old()) {
            return;
        }
    }
}
