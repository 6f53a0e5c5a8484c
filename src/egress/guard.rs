//! The only way out to URLs that users provide: webhooks, Discord, scheduled requests.
//!
//! A URL is checked when it is stored ([`Guard::check_url`]) and again at each request. Its name is resolved once, and
//! only checked addresses are dialled, so DNS rebinding gains nothing. Redirects are not followed, the proxy variables
//! of the environment are ignored, bodies are not decompressed, and there are no cookies. The time, head and body of a
//! response are bounded, and so is the number of connections.

pub mod address;
mod dial;
mod failure;
mod settings;
mod target;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use address::Networks;
pub use dial::Resolver;
pub use failure::RequestFailure;
pub use settings::Settings;
pub use target::{LONGEST_URL, PlainHttp, Refusal, Target};

use super::connection::{Connection, ConnectionPool, Unanswered, exchange};
use crate::error::{Error as ServiceError, Result};
use dial::{Dialler, system_resolver};
use target::Destination;

/// Headers that belong to the connection and are set by the guard.
const NOT_THE_USERS: &[HeaderName] = &[
    HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];
const NOT_THE_USERS_EITHER: &[&str] = &["keep-alive", "proxy-connection", "http2-settings"];

/// Returns true for a header that the guard sets for the connection. It is removed from users' requests.
pub fn is_the_guards(name: &HeaderName) -> bool {
    NOT_THE_USERS.contains(name) || NOT_THE_USERS_EITHER.contains(&name.as_str())
}

/// A request to a user's URL. The guard sets `Host` and the headers of the connection itself, and ignores those given.
#[derive(Debug)]
pub struct HttpRequest {
    /// Any method but CONNECT and TRACE.
    pub method: Method,
    /// The checked URL.
    pub target: Target,
    /// The headers. Without a `User-Agent`, the service's own is sent.
    pub headers: HeaderMap,
    /// The body; may be empty.
    pub body: String,
    /// The most bytes of the response's body to read.
    pub most_body: usize,
    /// Timeout of the whole request, in place of [`Settings::timeout`].
    pub timeout: Option<Duration>,
    /// Timeout of the body, counted from the head; never beyond the timeout of the whole request.
    pub body_timeout: Duration,
}

/// The completeness of a response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// The whole body.
    Whole,
    /// The beginning of a body longer than the limit.
    TooLong,
    /// The connection broke within the body.
    Broken,
    /// The timeout expired within the body.
    TimedOut,
}

/// A response as received, redirects included.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still compressed if the server compressed it.
    pub body: Vec<u8>,
    /// The completeness of the body.
    pub end: BodyEnd,
}

/// The client.
pub struct Guard {
    dialler: Dialler,
    idle: Arc<ConnectionPool<Destination>>,
    connections: Arc<Semaphore>,
    longest_head: usize,
    timeout: Duration,
}

impl Guard {
    /// Creates a guard that resolves names with the system's resolver.
    ///
    /// # Errors
    /// If TLS cannot be set up; [`ServiceError::Invalid`] for a limit of zero.
    pub fn new(settings: &Settings) -> Result<Self> {
        Self::with_resolver(settings, system_resolver())
    }

    /// Creates a guard with this resolver.
    ///
    /// # Errors
    /// As [`Guard::new`].
    pub fn with_resolver(settings: &Settings, resolver: Resolver) -> Result<Self> {
        let most = Semaphore::MAX_PERMITS;
        for (name, bound) in
            [("connections", settings.connections), ("lookups_at_once", settings.lookups_at_once)]
        {
            if !(1..=most).contains(&bound) {
                return Err(ServiceError::invalid(format!("egress.{name}"), "must be at least 1"));
            }
        }
        Ok(Self {
            dialler: Dialler::new(settings, resolver)?,
            idle: ConnectionPool::new(settings.idle, settings.idle_of_host),
            connections: Arc::new(Semaphore::new(settings.connections)),
            longest_head: settings.longest_head,
            timeout: settings.timeout,
        })
    }

    /// Parses a URL, and checks whether it is allowed, as far as possible without resolving its name.
    ///
    /// # Errors
    /// The reason for refusing it, addressed to the user.
    pub fn check_url(&self, url: &str, plain: PlainHttp) -> Result<Target, Refusal> {
        Target::read(url, plain, self.dialler.allowed())
    }

    /// Sends one request. It is repeated only if the server closed an idle connection as the request arrived on it.
    ///
    /// # Errors
    /// The reason why there is no response. Dropping the future closes the connection.
    pub async fn send(&self, ask: HttpRequest) -> Result<HttpResponse, RequestFailure> {
        let HttpRequest { method, target, headers, body, most_body, timeout, body_timeout } = ask;
        let deadline = Instant::now() + timeout.unwrap_or(self.timeout);
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(RequestFailure::Refused(Refusal::Method));
        }
        let Target { place, path } = target;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path;
        *request.headers_mut() = complete(headers, &place)?;
        let exchanged = timeout_at(deadline, exchange(&self.idle, &place, request, || self.connect(&place)));
        let (response, connection) =
            exchanged.await.map_err(|_| RequestFailure::TimedOut)?.map_err(|why| match why {
                Unanswered::NotConnected(failure) => failure,
                Unanswered::Broken(error) => failure_of(&error),
            })?;
        let until = deadline.min(Instant::now() + body_timeout);
        Ok(self.read(place, response, connection, (most_body, until)).await)
    }

    async fn connect(&self, place: &Destination) -> Result<Box<Connection>, RequestFailure> {
        let mut free = Arc::clone(&self.connections).try_acquire_owned();
        if free.is_err() {
            // an idle connection makes room for the new one
            self.idle.close_oldest();
            free = Ok(Arc::clone(&self.connections)
                .acquire_owned()
                .await
                .map_err(|_| RequestFailure::Unreachable)?);
        }
        let stream = self.dialler.dial(place).await?;
        Connection::open(stream, self.longest_head, free.ok()).await.map_err(|_| RequestFailure::Unreachable)
    }

    async fn read(
        &self,
        place: Destination,
        response: Response<Incoming>,
        mut connection: Box<Connection>,
        (most, until): (usize, Instant),
    ) -> HttpResponse {
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let end = loop {
            match timeout_at(until, connection.next_piece(&mut incoming)).await {
                Err(_) => break BodyEnd::TimedOut,
                Ok(None) => break BodyEnd::Whole,
                Ok(Some(Err(_))) => break BodyEnd::Broken,
                Ok(Some(Ok(piece))) => {
                    let room = most - body.len();
                    body.extend(piece.iter().take(room));
                    if piece.len() > room {
                        break BodyEnd::TooLong;
                    }
                }
            }
        };
        // while other requests wait for a connection, the permit goes to them
        if end == BodyEnd::Whole && self.connections.available_permits() > 0 {
            self.idle.keep(place, connection);
        }
        HttpResponse { status: head.status, headers: head.headers, body, end }
    }
}

/// Completes the headers of a request to this destination.
fn complete(mut headers: HeaderMap, place: &Destination) -> Result<HeaderMap, RequestFailure> {
    NOT_THE_USERS.iter().for_each(|name| drop(headers.remove(name)));
    NOT_THE_USERS_EITHER.iter().for_each(|name| drop(headers.remove(*name)));
    let host = HeaderValue::from_str(&place.authority());
    headers.insert(HOST, host.map_err(|_| RequestFailure::Refused(Refusal::NoUrl))?);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
    Ok(headers)
}

fn failure_of(error: &hyper::Error) -> RequestFailure {
    // hyper tells this case apart only in the error's text
    if error.to_string().contains("too large") {
        RequestFailure::HeadTooLong
    } else if error.is_parse() {
        RequestFailure::NotHttp
    } else {
        RequestFailure::CutOff
    }
}

#[cfg(test)]
mod tests;
