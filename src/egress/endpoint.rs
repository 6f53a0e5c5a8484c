//! One provider's address, and the connections to it.
//!
//! HTTP/1.1 by hyper alone. A connection is polled by the exchange that has it, in one task: nothing is handed from
//! task to task, and a request that is given up (its future is dropped) takes its connection with it.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

use super::{CONNECT_TIMEOUT, IDLE_TIMEOUT};
use crate::error::Error;
use crate::failpoint;

/// How often an idle connection is asked whether the other side is still there, and how often it may not answer, as
/// reqwest does: what a router has forgotten is found out before a message is sent on it.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection: nothing was sent.
    Unreachable,
    /// The connection broke before an answer came; in a word, how.
    Broken(&'static str),
}

/// Why an answer's body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBody {
    /// It is longer than was asked for.
    TooLong,
    /// The connection broke in its middle.
    Broken,
}

type Unsent = TrySendError<Request<String>>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A provider's address. Connections that are not in use are kept open for the next requests.
pub struct Endpoint {
    connector: HttpsConnector<HttpConnector>,
    base: Uri,
    headers: HeaderMap,
    idle: Arc<Idle>,
}

impl Endpoint {
    /// For `base`, `http[s]://host[:port][/path]`; `headers` go with every request, besides `Host`. The proxy variables
    /// of the environment are ignored.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `field` when `base` is another kind of address; when the TLS stack cannot be set up.
    pub fn new(field: &str, base: &str, mut headers: HeaderMap) -> crate::error::Result<Self> {
        let wrong = || {
            Error::invalid(field, "must be http[s]://HOST[:PORT][/PATH], without user, password and query")
        };
        let base: Uri = base.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let authority =
            base.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.query().is_some() {
            return Err(wrong());
        }
        headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::ring::default_provider())
            .map_err(|e| Error::Internal(e.into()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { connector, base, headers, idle: Arc::default() })
    }

    /// The headers of every request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Posts `body` to `path`: a [`request`](Self::request).
    ///
    /// # Errors
    /// Why no answer came. Dropping the future closes the connection.
    pub async fn post(&self, path: &str, headers: HeaderMap, body: String) -> Result<Reply<'_>, NoAnswer> {
        self.request(Method::POST, path, headers, body).await
    }

    /// Asks for `path`, which begins with a slash, is appended to the base and may bear a query. Redirects are not
    /// followed: a message must not wander.
    ///
    /// # Errors
    /// Why no answer came. Dropping the future closes the connection.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<Reply<'_>, NoAnswer> {
        let prefix = self.base.path().trim_end_matches('/');
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            Uri::try_from(format!("{prefix}{path}")).map_err(|_| NoAnswer::Broken("not a path"))?;
        *request.headers_mut() = headers;
        loop {
            let (mut connection, is_new) = match self.idle.take().await {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            match connection.send(request).await {
                Ok(response) => return Ok(Reply { response, connection, idle: &self.idle }),
                // closed by the other side while it was idle, before anything was sent
                Err(mut unsent) => match unsent.take_message() {
                    Some(back) if !is_new => request = back,
                    _ => return Err(NoAnswer::Broken(reason(&unsent.into_error()))),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, NoAnswer> {
        let stream =
            self.connector.clone().call(self.base.clone()).await.map_err(|_| NoAnswer::Unreachable)?;
        let (sender, exchange) = http1::handshake(stream).await.map_err(|_| NoAnswer::Unreachable)?;
        Ok(Box::new(Connection { sender, exchange: Some(exchange) }))
    }
}

/// Short, and without the address.
fn reason(error: &hyper::Error) -> &'static str {
    if error.is_parse() { "not HTTP" } else { "cut off" }
}

/// An answer whose body has yet to be read.
pub struct Reply<'e> {
    response: Response<Incoming>,
    connection: Box<Connection>,
    idle: &'e Arc<Idle>,
}

impl Reply<'_> {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The body, if it is no longer than `limit` bytes.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, NoBody> {
        let Self { response, mut connection, idle } = self;
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = connection.drive(poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx))).await {
            let frame = frame.map_err(|_| NoBody::Broken)?;
            let Some(data) = frame.data_ref() else { continue };
            if body.len() + data.len() > limit {
                return Err(NoBody::TooLong);
            }
            body.extend_from_slice(data);
        }
        idle.keep(connection);
        Ok(body)
    }

    /// Of no interest: the connection is kept if all of the body is here already, and closed otherwise.
    pub fn skip_body(self, limit: usize) {
        let _ = self.body(limit).now_or_never();
    }
}

/// An open connection.
struct Connection {
    sender: http1::SendRequest<String>,
    /// Gone once it has ended: while it is there, the sender takes requests, and nobody would answer them.
    exchange: Option<http1::Connection<Stream, String>>,
}

impl Connection {
    /// Whether the other side has kept it open.
    async fn is_open(&mut self) -> bool {
        self.poll_once().await;
        self.sender.is_ready()
    }

    /// Waits for `work`, which waits for this connection.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
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

    async fn send(&mut self, request: Request<String>) -> Result<Response<Incoming>, Unsent> {
        let response = self.sender.try_send_request(request);
        // writes the request
        self.poll_once().await;
        failpoint::reach("request-written");
        self.drive(response).await
    }
}

/// Connections that are not in use, the longest unused first.
#[derive(Default)]
struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    connections: VecDeque<(Instant, Box<Connection>)>,
    is_swept: bool,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one used last that is still open.
    async fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.lock().connections.pop_back()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_open().await {
                return Some(connection);
            }
        }
    }

    fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        if connection.exchange.is_none() {
            return;
        }
        let mut kept = self.lock();
        kept.connections.push_back((Instant::now(), connection));
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes those that were not used for long; answers whether any are left.
    fn close_old(&self) -> bool {
        let mut kept = self.lock();
        while kept.connections.front().is_some_and(|(since, _)| since.elapsed() >= IDLE_TIMEOUT) {
            kept.connections.pop_front();
        }
        kept.is_swept = !kept.connections.is_empty();
        kept.is_swept
    }
}

/// Runs while there are connections that are not in use.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        if !idle.upgrade().is_some_and(|idle| idle.close_old()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
