//! HTTP connections to other services, and the pool of idle ones.
//!
//! HTTP/1.1 on hyper alone. A connection is polled by the exchange that owns it, within one task: nothing is passed
//! between tasks, and an abandoned request (its future is dropped) drops its connection too.

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

/// hyper's smallest buffer.
const SHORTEST_HEAD: usize = 8 * 1024;

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended. Until it is polled to that end, the sender would still accept requests,
    /// which would get no response.
    exchange: Option<http1::Connection<Lenient<Stream>, Full<Bytes>>>,
    answer: AnswerState,
    /// Its permit, if connections are limited.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Opens a connection over `stream`; `place` is released when it is closed. The heads of responses have at most
    /// `longest_head` bytes, or 8 KiB (hyper's smallest buffer) if that is more.
    ///
    /// # Errors
    /// If the connection ends at once.
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

    /// Returns true if the peer has kept the connection open.
    async fn is_open(&mut self) -> bool {
        self.poll_once().await;
        self.sender.is_ready()
    }

    /// Polls this connection until `work`, which depends on it, is done.
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
        // the waiter for the response gets the error
        if self.exchange.as_mut().is_some_and(|exchange| Pin::new(exchange).poll(cx).is_ready()) {
            self.exchange = None;
        }
    }

    /// Writes a request, and waits for the head of its response.
    ///
    /// # Errors
    /// The error, with the request if no part of it was sent.
    async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, TrySendError<Outgoing>> {
        self.answer.expect();
        let response = self.sender.try_send_request(request);
        // writes the request
        self.poll_once().await;
        failpoint::reach("request-written");
        self.drive(response).await
    }

    /// Returns the next chunk of a body; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(super) async fn next_piece(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        loop {
            match self.drive(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await? {
                // trailers are ignored
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue,
                },
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The reason why a request got no response.
pub(super) enum Unanswered<E> {
    /// No connection could be opened: nothing was sent.
    NotConnected(E),
    /// The connection ended, or the response is not HTTP.
    Broken(hyper::Error),
}

/// Sends a request over an idle connection, or over a new one.
///
/// A server may close an idle connection just as a request arrives on it. That is not a fault, so a request without a
/// single byte of response is sent once more over a new connection, as RFC 9110, 9.2.2 allows. Every request that must
/// not run twice has an `Idempotency-Key`.
///
/// # Errors
/// The reason why there is no response.
pub(super) async fn exchange<K, E, C>(
    idle: &ConnectionPool<K>,
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
            // the connection was closed while idle, before anything was sent
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

/// Idle connections by destination, the longest unused first.
pub(super) struct ConnectionPool<K> {
    kept: Mutex<PooledConnections<K>>,
    most: usize,
    most_of_each: usize,
}

struct PooledConnections<K> {
    connections: VecDeque<(Instant, K, Box<Connection>)>,
    is_swept: bool,
}

impl<K: PartialEq + Send + 'static> ConnectionPool<K> {
    /// Creates a pool for at most `most` connections in total, and `most_of_each` per destination. Lookups are linear.
    pub(super) fn new(most: usize, most_of_each: usize) -> Arc<Self> {
        let kept = PooledConnections { connections: VecDeque::new(), is_swept: false };
        Arc::new(Self { kept: Mutex::new(kept), most, most_of_each })
    }

    fn lock(&self) -> MutexGuard<'_, PooledConnections<K>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recently used connection to this destination that is still open.
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

    /// Stores a connection for reuse. At a limit it replaces the oldest one.
    pub(super) fn keep(self: &Arc<Self>, to: K, connection: Box<Connection>) {
        if connection.exchange.is_none() || self.most == 0 || self.most_of_each == 0 {
            return;
        }
        let mut kept = self.lock();
        // usually the pool is below both limits, which saves counting
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

    /// Closes the connection that was idle for longest.
    pub(super) fn close_oldest(&self) {
        self.lock().connections.pop_front();
    }

    /// Closes the connections that were idle for too long. Returns true if any are left.
    fn close_old(&self) -> bool {
        let mut kept = self.lock();
        while kept.connections.front().is_some_and(|(since, _, _)| since.elapsed() >= IDLE_TIMEOUT) {
            kept.connections.pop_front();
        }
        kept.is_swept = !kept.connections.is_empty();
        kept.is_swept
    }
}

/// Closes old connections for as long as any are idle.
async fn sweep<K: PartialEq + Send + 'static>(idle: Weak<ConnectionPool<K>>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        if !idle.upgrade().is_some_and(|idle| idle.close_old()) {
            return;
        }
    }
}
