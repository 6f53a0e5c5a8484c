//! The server's connections: bounded in number, and closed when their peers are too slow.
//!
//! A connection is one descriptor. It is idle while no request is answered on it; when there are as many connections as
//! may be, the one that has been idle longest makes room for a new one. A peer that takes less than
//! [`LEAST_READ`] bytes in [`PATIENCE`] of an answer that waits for it is cut off.

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

/// In this time a peer takes at least [`LEAST_READ`] of what waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a peer takes in [`PATIENCE`].
const LEAST_READ: usize = 10 * 1024;
/// Answers of at most so many bytes need no room of the common memory; in such units it is counted.
const SMALL: usize = 64 * 1024;
/// Bytes of an answer that are handed to the server at once.
pub(super) const PIECE: usize = 32 * 1024;
/// Bytes of an answer that the system keeps for a peer. Without a bound it would keep several MiB for each that does not
/// read.
const SEND_BUFFER: usize = 256 * 1024;
/// The answer to a connection for which there is no room, because on all others requests are being answered.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// The state of one connection, which others may look at and cut.
pub struct Link {
    number: u64,
    /// Requests that are being answered on it.
    requests: AtomicUsize,
    /// Milliseconds from the first connection to the last byte or answer.
    active_at: AtomicU64,
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

impl Link {
    /// Closes the connection; whatever reads or writes it notices at once.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.waker.register(cx.waker());
        // after the registration: a cut in between is not missed
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
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    links: HashMap<u64, Arc<Link>>,
    numbered: u64,
}

impl Connections {
    /// At most so many at once. `closed` counts those that are closed from here, by the reason.
    pub fn new(most: usize, closed: IntCounterVec) -> Self {
        Self(Arc::new(Inner { most, closed, began: Instant::now(), open: Mutex::default() }))
    }

    /// The number of open connections.
    pub fn count(&self) -> usize {
        self.0.open().links.len()
    }

    /// Admits a connection. If there are too many, the one that has been idle longest is cut; if none is idle, the new one
    /// is refused with 503.
    ///
    /// # Errors
    /// That it was refused.
    pub fn admit(&self, stream: TcpStream) -> io::Result<Connection> {
        // what is written goes out at once: waiting for more would only delay it
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
                    return Err(io::Error::other("there are too many connections, and none is idle"));
                }
            }
        }
        open.numbered += 1;
        let link = Arc::new(Link {
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
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Answers without waiting for anything, and closes.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // it does not block: what finds no room in the socket's buffer is lost, and so is the connection
        let _ = stream.write(FULL);
    }
}

/// A peer that does not take what waits for it.
struct Stall {
    over: Pin<Box<Sleep>>,
    taken: usize,
}

/// A connection as the server reads and writes it.
pub struct Connection {
    stream: TcpStream,
    link: Arc<Link>,
    all: Connections,
    /// There while the socket's buffer is full.
    stall: Option<Stall>,
}

impl Connection {
    /// The address of the peer.
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
                    tracing::info!("a connection was cut off: its peer does not read");
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

/// Keeps the link with each connection's data, for handlers; for the server's `on_connect`.
pub fn keep(connection: &Connection, kept: &mut Extensions) {
    kept.insert(Arc::clone(&connection.link));
}

/// Closes the connection of a request whose peer does not read: whatever a handler answers waits behind what is not read,
/// the end too. It does not keep a connection open that has ended.
#[derive(Default)]
pub struct Disconnect(Weak<Link>);

impl Disconnect {
    /// For this request's connection.
    pub fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Arc<Link>>().map(|link| Self(Arc::downgrade(link))).unwrap_or_default()
    }

    /// Closes it; the server notices at once.
    pub fn now(&self) {
        if let Some(link) = self.0.upgrade() {
            link.cut();
        }
    }
}

/// A request that is being answered: its connection is not idle.
struct Answering(Option<Arc<Link>>);

impl Answering {
    fn new(link: Option<&Arc<Link>>) -> Self {
        if let Some(link) = link {
            link.requests.fetch_add(1, Ordering::AcqRel);
        }
        Self(link.cloned())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.requests.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The body of an answer. Its connection is not idle, and its memory is not given back, while it lasts.
pub struct AnswerBody {
    content: Content,
    _answering: Answering,
    _room: Option<OwnedSemaphorePermit>,
}

enum Content {
    /// All of it, handed out a piece at a time: the server would copy it whole into its buffer, where it would wait for the
    /// peer a second time.
    Whole(Bytes),
    Stream(BoxBody),
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::Whole(bytes) => bytes.size(),
            Content::Stream(body) => body.size(),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => {
                let length = bytes.len().min(PIECE);
                Poll::Ready(Some(Ok(bytes.split_to(length))))
            }
            Content::Stream(body) => Pin::new(body).poll_next(cx),
        }
    }
}

/// Notes that a request is being answered, until its answer was taken, and keeps the memory of large answers within its
/// bound: an answer for which there is no room is a 503. The outermost middleware.
///
/// # Errors
/// Those of the service behind it.
pub async fn answering<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<AnswerBody>, actix_web::Error> {
    let answering = Answering::new(request.conn_data::<Arc<Link>>());
    let memory = request.app_data::<web::Data<AnswerMemory>>().cloned();
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
            Ok(bytes) => Content::Whole(bytes),
            Err(body) => Content::Stream(body),
        };
        AnswerBody { content, _answering: answering, _room: room }
    }))
}

/// The memory of large answers that wait for their peers; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct AnswerMemory {
    free: Arc<Semaphore>,
    units: usize,
}

impl AnswerMemory {
    /// So many bytes for all answers together.
    pub fn new(bytes: usize) -> Self {
        let units = bytes / SMALL;
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// Takes room for an answer, or for a part of one.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is none.
    pub(super) fn take(&self, bytes: usize) -> crate::error::Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SMALL)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(units).map_err(|_| {
            Error::Busy("other large answers wait for their readers; repeat the request in a moment".into())
        })
    }

    /// Waits for room for the next part of an answer, whose last part has given its room back. A part larger than all room
    /// there is waits for all of it.
    pub(super) async fn wait(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SMALL).min(self.units)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}
