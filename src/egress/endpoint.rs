//! One provider's address, and the connections to it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tower_service::Service;

use super::CONNECT_TIMEOUT;
use super::connection::{Connection, Idle, Unanswered, exchange};
use super::local::is_local;
use crate::error::Error;

/// How often an idle connection is asked whether the other side is still there, and how often it may not answer, as
/// reqwest does: what a router has forgotten is found out before a message is sent on it.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// Bytes of an answer's head, at most.
const LONGEST_HEAD: usize = 64 * 1024;
/// A body without a length ends with the connection. One that is left open and silent for so long says no more.
const SILENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection: nothing was sent.
    Unreachable,
    /// No connection, because this machine lacks something for one: nothing was sent.
    LocalFault,
    /// The connection broke before an answer came; in a word, how.
    Broken(&'static str),
}

/// Why an answer's body cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBody {
    /// It is longer than was asked for.
    TooLong,
    /// The connection broke in its middle, after this much. A server that is wrong about its length has said it all.
    Broken(Vec<u8>),
}

impl NoBody {
    /// The body, as far as it came.
    pub fn into_beginning(self) -> Option<Vec<u8>> {
        match self {
            Self::TooLong => None,
            Self::Broken(came) => Some(came),
        }
    }
}

/// A provider's address. Connections that are not in use are kept open for the next requests.
pub struct Endpoint {
    connector: HttpsConnector<HttpConnector>,
    base: Uri,
    headers: HeaderMap,
    idle: Arc<Idle<()>>,
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
        Ok(Self { connector, base, headers, idle: Idle::new(usize::MAX, usize::MAX) })
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
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            Uri::try_from(format!("{prefix}{path}")).map_err(|_| NoAnswer::Broken("not a path"))?;
        *request.headers_mut() = headers;
        match exchange(&self.idle, &(), request, || self.connect()).await {
            Ok((response, connection)) => Ok(Reply { response, connection, idle: &self.idle }),
            Err(Unanswered::NotConnected(why)) => Err(why),
            Err(Unanswered::Broken(error)) => Err(NoAnswer::Broken(reason(&error))),
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, NoAnswer> {
        let stream = self.connector.clone().call(self.base.clone()).await;
        let stream = stream.map_err(|error| match is_local(&*error) {
            true => NoAnswer::LocalFault,
            false => NoAnswer::Unreachable,
        })?;
        Connection::open(stream, LONGEST_HEAD, None).await.map_err(|_| NoAnswer::Unreachable)
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
    idle: &'e Arc<Idle<()>>,
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
        let ends_with_connection = response.body().size_hint().exact().is_none()
            && !response.headers().contains_key(TRANSFER_ENCODING);
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        loop {
            let piece = connection.next_piece(&mut incoming);
            let piece = if ends_with_connection { timeout(SILENCE, piece).await } else { Ok(piece.await) };
            match piece {
                Ok(Some(Ok(data))) if body.len() + data.len() > limit => return Err(NoBody::TooLong),
                Ok(Some(Ok(data))) => body.extend_from_slice(&data),
                Ok(Some(Err(_))) => return Err(NoBody::Broken(body)),
                Ok(None) => break,
                // nothing tells its end from silence: the connection cannot be used again
                Err(_) => return Ok(body),
            }
        }
        idle.keep((), connection);
        Ok(body)
    }

    /// Of no interest: the connection is kept if all of the body is here already, and closed otherwise.
    pub fn skip_body(self, limit: usize) {
        let _ = self.body(limit).now_or_never();
    }
}

#[cfg(test)]
mod tests;
