//! The server's connections: limited in number, and closed when their peers are too slow.
//!
//! A connection uses one descriptor. It is idle while no request is in progress on it. At the limit, the connection
//! that has been idle longest is closed for a new one. A peer that reads less than [`LEAST_READ`] bytes of a pending
//! response in [`PATIENCE`] is disconnected.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, ResponseError};
use futures_util::task::AtomicWaker;
use prometheus::IntCounterVec;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::browser;
use crate::error::Error;

/// The time in which a peer must read at least [`LEAST_READ`] bytes of a pending response.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least number of bytes that a peer reads in [`PATIENCE`].
const LEAST_READ: usize = 10 * 1024;
/// The size up to which responses do not count against the common memory, and the unit in which that is counted.
const SMALL: usize = 64 * 1024;
/// Bytes of a response that are given to the server at once.
pub(super) const PIECE: usize = 32 * 1024;
/// Bytes of a response that the system buffers for a peer. Without a limit it would buffer several MiB for each peer
/// that does not read.
const SEND_BUFFER: usize = 256 * 1024;
/// The response to a connection that is refused because all others have requests in progress.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// The shared state of one connection, through which others can close it.
pub struct ConnectionHandle {
    number: u64,
    /// Requests in progress on it.
    requests: AtomicUsize,
    /// The time of the last byte, in milliseconds since the server's start.
    active_at: AtomicU64,
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

impl ConnectionHandle {
    /// Closes the connection; its reader and writer notice at once.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.waker.register(cx.waker());
        // after the registration, so that a concurrent close is not missed
        if self.is_cut.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

/// All connections of the server; cloning it is cheap.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    most: usize,
    closed: IntCounterVec,
    began: Instant,
    open: Mutex<OpenConnection>,
}

#[derive(Default)]
struct OpenConnection {
    links: HashMap<u64, Arc<ConnectionHandle>>,
    numbered: u64,
}

impl Connections {
    /// Allows at most `most` connections at once. `closed` counts the connections that this module closes, by reason.
    pub fn new(most: usize, closed: IntCounterVec) -> Self {
        Self(Arc::new(Inner { most, closed, began: Instant::now(), open: Mutex::default() }))
    }

    /// Returns the number of open connections.
    pub fn count(&self) -> usize {
        self.0.open().links.len()
    }

    /// Admits a connection. At the limit, the connection that has been idle longest is closed; if all are busy, the new
    /// one is refused with 503.
    ///
    /// # Errors
    /// An error if the connection was refused.
    pub fn admit(&self, stream: TcpStream) -> io::Result<Connection> {
        // each write is complete, so Nagle's algorithm would only delay it
        let _ = stream.set_nodelay(true);
        let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let mut open = self.0.open();
        if open.links.len() >= self.0.most {
            let idle = open.links.values().filter(|link| link.requests.load(Ordering::Acquire) == 0);
            let oldest =
                idle.min_by_key(|link| link.active_at.load(Ordering::Acquire)).map(|link| link.number);
            match oldest.and_then(|number| open.links.remove(&number)) {
                Some(link) => {
                    self.0.count_closed("idle");
                    link.cut();
                }
                None => {
                    drop(open);
                    self.0.count_closed("refused");
                    refuse(stream);
                    return Err(io::Error::other("too many connections, none of them idle"));
                }
            }
        }
        open.numbered += 1;
        let link = Arc::new(ConnectionHandle {
            number: open.numbered,
            requests: AtomicUsize::new(0),
            active_at: AtomicU64::new(self.0.now()),
            is_cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        open.links.insert(link.number, Arc::clone(&link));
        drop(open);
        Ok(Connection { stream, link, all: self.clone(), stall: None })
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, OpenConnection> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Sends the refusal without blocking, and closes the connection.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // non-blocking: bytes that do not fit the socket's buffer are lost, as the connection is closed anyway
        let _ = stream.write(FULL);
    }
}

/// A peer that does not read its pending response.
struct Stall {
    over: Pin<Box<Sleep>>,
    taken: usize,
}

/// A connection as the server reads and writes it.
pub struct Connection {
    stream: TcpStream,
    link: Arc<ConnectionHandle>,
    all: Connections,
    /// Set while the socket's buffer is full.
    stall: Option<Stall>,
}

impl Connection {
    /// Returns the address of the peer.
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        self.stream.peer_addr().ok()
    }

    fn touch(&self) {
        self.link.active_at.store(self.all.0.now(), Ordering::Release);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.0.open().links.remove(&self.link.number);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.check(cx)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.touch();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.check(cx)?;
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                self.touch();
                let is_all = count == bytes.len();
                if let Some(stall) = &mut self.stall {
                    stall.taken += count;
                    if is_all || stall.taken >= LEAST_READ {
                        self.stall = None;
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let new = || Stall { over: Box::pin(sleep(PATIENCE)), taken: 0 };
                if self.stall.get_or_insert_with(new).over.as_mut().poll(cx).is_ready() {
                    self.all.0.count_closed("slow");
                    tracing::info!("connection closed: peer does not read");
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Stores the link in the connection's data for handlers. The server calls it as `on_connect`.
pub fn keep(connection: &Connection, kept: &mut Extensions) {
    kept.insert(Arc::clone(&connection.link));
}

/// Closes the connection of a request whose peer does not read: further output, including the end of the response,
/// would wait behind the unread bytes. It does not keep an ended connection open.
#[derive(Default)]
pub struct Disconnect(Weak<ConnectionHandle>);

impl Disconnect {
    /// Returns the handle of this request's connection.
    pub fn of(request: &HttpRequest) -> Self {
        request
            .conn_data::<Arc<ConnectionHandle>>()
            .map(|link| Self(Arc::downgrade(link)))
            .unwrap_or_default()
    }

    /// Closes the connection; the server notices at once.
    pub fn now(&self) {
        if let Some(link) = self.0.upgrade() {
            link.cut();
        }
    }
}

/// Marks a request in progress: its connection is not idle.
struct RequestInProgress(Option<Arc<ConnectionHandle>>);

impl RequestInProgress {
    fn new(link: Option<&Arc<ConnectionHandle>>) -> Self {
        if let Some(link) = link {
            link.requests.fetch_add(1, Ordering::AcqRel);
        }
        Self(link.cloned())
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.requests.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The body of a response. Until it is dropped, its connection is not idle and its memory stays reserved.
pub struct ResponseBody {
    content: ResponseContent,
    _answering: RequestInProgress,
    _room: Option<OwnedSemaphorePermit>,
}

enum ResponseContent {
    /// A complete body, handed out in pieces: otherwise the server would copy all of it into its own buffer, which
    /// doubles the memory.
    Whole(Bytes),
    Stream(BoxBody),
}

impl MessageBody for ResponseBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match &self.content {
            ResponseContent::Whole(bytes) => bytes.size(),
            ResponseContent::Stream(body) => body.size(),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.content {
            ResponseContent::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseContent::Whole(bytes) => {
                let length = bytes.len().min(PIECE);
                Poll::Ready(Some(Ok(bytes.split_to(length))))
            }
            ResponseContent::Stream(body) => Pin::new(body).poll_next(cx),
        }
    }
}

/// Marks the connection as busy until the response is read, and limits the memory of large responses: a response that
/// does not fit becomes a 503. The outermost middleware.
///
/// # Errors
/// Errors of the wrapped service.
pub async fn track_requests<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<ResponseBody>, actix_web::Error> {
    let track_requests = RequestInProgress::new(request.conn_data::<Arc<ConnectionHandle>>());
    let memory = request.app_data::<web::Data<ResponseMemory>>().cloned();
    let response = next.call(request).await?.map_into_boxed_body();
    let size = match response.response().body().size() {
        BodySize::Sized(size) => usize::try_from(size).unwrap_or(usize::MAX),
        BodySize::None | BodySize::Stream => 0,
    };
    let room = memory.filter(|_| size > SMALL).map(|memory| memory.take(size)).transpose();
    let (response, room) = match room {
        Ok(room) => (response, room),
        Err(busy) => {
            let (request, _) = response.into_parts();
            let mut response = busy.error_response();
            browser::secure(response.headers_mut(), false);
            (ServiceResponse::new(request, response), None)
        }
    };
    Ok(response.map_body(|_, body| {
        let content = match body.try_into_bytes() {
            Ok(bytes) => ResponseContent::Whole(bytes),
            Err(body) => ResponseContent::Stream(body),
        };
        ResponseBody { content, _answering: track_requests, _room: room }
    }))
}

/// The memory of large responses that wait for their peers; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct ResponseMemory {
    free: Arc<Semaphore>,
    units: usize,
}

impl ResponseMemory {
    /// Limits all responses together to `bytes`.
    pub fn new(bytes: usize) -> Self {
        let units = bytes / SMALL;
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// Reserves memory for a response or a part of one.
    ///
    /// # Errors
    /// [`Error::Busy`] if the limit is reached.
    pub(super) fn take(&self, bytes: usize) -> crate::error::Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SMALL)).unwrap_or(u32::MAX);
        Arc::clone(&self.free)
            .try_acquire_many_owned(units)
            .map_err(|_| Error::Busy("other large responses wait for their readers; retry after 1 s".into()))
    }

    /// Waits for memory for the next part of a response, whose last part has released its memory. A part larger than
    /// the limit waits for all of it.
    pub(super) async fn wait(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SMALL).min(self.units)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}
