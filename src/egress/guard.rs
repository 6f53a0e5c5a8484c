//! The one way out to an address that a user gave: webhooks, Discord, scheduled requests.
//!
//! A URL is checked when it is stored ([`Guard::check_url`]) and again when it is asked: its name is looked up once, and
//! only addresses that were checked are dialled, so that a name that leads elsewhere the second time gains nothing.
//! Redirects are not followed, the proxy variables of the environment are ignored, nothing is unpacked, and there are no
//! cookies. Time, head and body of an answer are bounded, and so are the connections.

pub mod address;
mod dial;
mod target;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use address::Networks;
pub use dial::Resolver;
pub use target::{LONGEST_URL, Plain, Refusal, Target};

use super::connection::{Connection, Idle, Unanswered, exchange};
use crate::error::{Error as ServiceError, Result};
use dial::{Dialler, system_resolver};
use target::Place;

/// They are the connection's, and the guard's to set.
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

/// Whether a header is the connection's, and the guard's to set: it is taken out of what a user sends.
pub fn is_the_guards(name: &HeaderName) -> bool {
    NOT_THE_USERS.contains(name) || NOT_THE_USERS_EITHER.contains(&name.as_str())
}

/// What the guard is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Networks that are fine though not everybody can reach them.
    pub allowed: Networks,
    /// For a name to be looked up; waiting for a thread included.
    pub lookup_timeout: Duration,
    /// For a TCP connection to be there.
    pub connect_timeout: Duration,
    /// For everything: lookup, connection, request, and the answer to its last byte.
    pub timeout: Duration,
    /// Bytes of an answer's head, at most; less than 8 KiB is 8 KiB.
    pub longest_head: usize,
    /// Names that are looked up at once, each on a thread.
    pub lookups_at_once: usize,
    /// Connections at once, in use or not; who comes later waits.
    pub connections: usize,
    /// Connections that are kept for the next requests, altogether and for each host and port.
    pub idle: usize,
    /// See `idle`.
    pub idle_of_host: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed: Networks::default(),
            lookup_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            longest_head: 64 * 1024,
            lookups_at_once: 32,
            connections: 1024,
            idle: 256,
            idle_of_host: 64,
        }
    }
}

/// A request to a user's address. `Host` and what belongs to the connection are set by the guard, whatever the headers
/// say of it.
#[derive(Debug)]
pub struct Ask {
    /// Any but CONNECT and TRACE.
    pub method: Method,
    /// Where to.
    pub target: Target,
    /// Without a `User-Agent`, it is the service's.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: String,
    /// Bytes of the answer's body that are read, at most.
    pub most_body: usize,
    /// For everything, in place of [`Settings::timeout`].
    pub timeout: Option<Duration>,
    /// For the body to be there once the head is; never beyond the time for everything.
    pub body_timeout: Duration,
}

/// How much of an answer's body there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it.
    Whole,
    /// It is longer than was asked for: its beginning.
    TooLong,
    /// The connection broke in its middle.
    Broken,
    /// Its end had not come in time.
    TimedOut,
}

/// An answer, as it came: of a status like 302, too.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, packed if the other side packed it.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub end: BodyEnd,
}

/// Why there is no answer. Its words bear nothing of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failure {
    /// It is not allowed, and will not be.
    #[error("{0}")]
    Refused(Refusal),
    /// No such name, or the name servers do not answer for it.
    #[error("the name of the host could not be found")]
    NameNotFound,
    /// Neither an address nor a word that there is none.
    #[error("the name of the host could not be looked up in time")]
    LookupTimedOut,
    /// No connection.
    #[error("the host could not be reached")]
    Unreachable,
    /// No connection, because this machine lacks something for one.
    #[error("{}", super::local::LOCAL_FAULT)]
    LocalFault,
    /// A connection, and no TLS over it: its certificate, say.
    #[error(
        "no TLS connection could be made: the certificate is not valid for the host, or it speaks no TLS"
    )]
    Tls,
    /// No answer in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The connection ended before an answer came.
    #[error("the connection broke before an answer came")]
    CutOff,
    /// What came is not HTTP.
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    /// The head is longer than [`Settings::longest_head`].
    #[error("the head of the answer is too long")]
    HeadTooLong,
}

impl Failure {
    /// Whether another try may end otherwise.
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// The client.
pub struct Guard {
    dialler: Dialler,
    idle: Arc<Idle<Place>>,
    connections: Arc<Semaphore>,
    longest_head: usize,
    timeout: Duration,
}

impl Guard {
    /// With the system's name resolution.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up; [`ServiceError::Invalid`] for a bound of zero.
    pub fn new(settings: &Settings) -> Result<Self> {
        Self::with_resolver(settings, system_resolver())
    }

    /// With this name resolution.
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
            idle: Idle::new(settings.idle, settings.idle_of_host),
            connections: Arc::new(Semaphore::new(settings.connections)),
            longest_head: settings.longest_head,
            timeout: settings.timeout,
        })
    }

    /// Reads a URL and says whether it may be asked, as far as can be known without looking its name up.
    ///
    /// # Errors
    /// What is against it, in words for who gave it.
    pub fn check_url(&self, url: &str, plain: Plain) -> Result<Target, Refusal> {
        Target::read(url, plain, self.dialler.allowed())
    }

    /// Makes one request. Nothing is tried again but what met a kept connection as the other side closed it.
    ///
    /// # Errors
    /// Why no answer came. Dropping the future closes the connection.
    pub async fn send(&self, ask: Ask) -> Result<Answered, Failure> {
        let Ask { method, target, headers, body, most_body, timeout, body_timeout } = ask;
        let deadline = Instant::now() + timeout.unwrap_or(self.timeout);
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(Failure::Refused(Refusal::Method));
        }
        let Target { place, path } = target;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path;
        *request.headers_mut() = complete(headers, &place)?;
        let exchanged = timeout_at(deadline, exchange(&self.idle, &place, request, || self.connect(&place)));
        let (response, connection) =
            exchanged.await.map_err(|_| Failure::TimedOut)?.map_err(|why| match why {
                Unanswered::NotConnected(failure) => failure,
                Unanswered::Broken(error) => failure_of(&error),
            })?;
        let until = deadline.min(Instant::now() + body_timeout);
        Ok(self.read(place, response, connection, (most_body, until)).await)
    }

    async fn connect(&self, place: &Place) -> Result<Box<Connection>, Failure> {
        let mut free = Arc::clone(&self.connections).try_acquire_owned();
        if free.is_err() {
            // one that is not in use makes room for one that will be
            self.idle.close_oldest();
            free =
                Ok(Arc::clone(&self.connections).acquire_owned().await.map_err(|_| Failure::Unreachable)?);
        }
        let stream = self.dialler.dial(place).await?;
        Connection::open(stream, self.longest_head, free.ok()).await.map_err(|_| Failure::Unreachable)
    }

    async fn read(
        &self,
        place: Place,
        response: Response<Incoming>,
        mut connection: Box<Connection>,
        (most, until): (usize, Instant),
    ) -> Answered {
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
        // while others wait for a place, it goes to them
        if end == BodyEnd::Whole && self.connections.available_permits() > 0 {
            self.idle.keep(place, connection);
        }
        Answered { status: head.status, headers: head.headers, body, end }
    }
}

/// The headers of a request to there.
fn complete(mut headers: HeaderMap, place: &Place) -> Result<HeaderMap, Failure> {
    NOT_THE_USERS.iter().for_each(|name| drop(headers.remove(name)));
    NOT_THE_USERS_EITHER.iter().for_each(|name| drop(headers.remove(*name)));
    let host = HeaderValue::from_str(&place.authority());
    headers.insert(HOST, host.map_err(|_| Failure::Refused(Refusal::NoUrl))?);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
    Ok(headers)
}

fn failure_of(error: &hyper::Error) -> Failure {
    // hyper tells this apart by words alone, to clients
    if error.to_string().contains("too large") {
        Failure::HeadTooLong
    } else if error.is_parse() {
        Failure::NotHttp
    } else {
        Failure::CutOff
    }
}

#[cfg(test)]
mod tests;
