//! The base URL of one provider, and the connections to it.

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
use super::connection::{Connection, ConnectionPool, Unanswered, exchange};
use super::local::is_local;
use crate::error::Error;

/// The interval of TCP keepalive probes on an idle connection. With the retries below, as in reqwest, it detects that a
/// router has forgotten the connection before a message is sent on it.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// The longest head of a response, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// A body without a length ends with the connection. If the connection stays open and silent for this long, the body is
/// complete.
const SILENCE: Duration = Duration::from_secs(2);

/// The reason why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoResponse {
    /// No connection could be opened: nothing was sent.
    Unreachable,
    /// No connection could be opened, because this machine lacks a resource: nothing was sent.
    LocalFault,
    /// The connection broke before a response arrived; the text says how.
    Broken(&'static str),
}

/// The reason why a response's body could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// The body is longer than the limit.
    TooLong,
    /// The connection broke within the body, after these bytes. If the server sent a wrong length, they are the whole
    /// body.
    Broken(Vec<u8>),
}

impl BodyError {
    /// Returns the bytes that were received.
    pub fn into_beginning(self) -> Option<Vec<u8>> {
        match self {
            Self::TooLong => None,
            Self::Broken(came) => Some(came),
        }
    }
}

/// The base URL of a provider. Idle connections are reused.
pub struct Endpoint {
    connector: HttpsConnector<HttpConnector>,
    base: Uri,
    headers: HeaderMap,
    idle: Arc<ConnectionPool<()>>,
}

impl Endpoint {
    /// Creates an endpoint for `base`, `http[s]://host[:port][/path]`. `headers` and `Host` are sent with every
    /// request. The proxy variables of the environment are ignored.
    ///
    /// # Errors
    /// [`Error::Invalid`] with `field` if `base` has another form; [`Error::Internal`] if TLS cannot be set up.
    pub fn new(field: &str, base: &str, mut headers: HeaderMap) -> crate::error::Result<Self> {
        let wrong =
            || Error::invalid(field, "must be http[s]://HOST[:PORT][/PATH], without user, password or query");
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
        Ok(Self { connector, base, headers, idle: ConnectionPool::new(usize::MAX, usize::MAX) })
    }

    /// The headers of every request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Posts `body` to `path`; see [`request`](Self::request).
    ///
    /// # Errors
    /// The reason why there is no response. Dropping the future closes the connection.
    pub async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<EndpointResponse<'_>, NoResponse> {
        self.request(Method::POST, path, headers, body).await
    }

    /// Sends a request to `path`, which begins with a slash, is appended to the base and may have a query. Redirects
    /// are not followed, since a message must not reach another server.
    ///
    /// # Errors
    /// The reason why there is no response. Dropping the future closes the connection.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<EndpointResponse<'_>, NoResponse> {
        let prefix = self.base.path().trim_end_matches('/');
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            Uri::try_from(format!("{prefix}{path}")).map_err(|_| NoResponse::Broken("not a path"))?;
        *request.headers_mut() = headers;
        match exchange(&self.idle, &(), request, || self.connect()).await {
            Ok((response, connection)) => Ok(EndpointResponse { response, connection, idle: &self.idle }),
            Err(Unanswered::NotConnected(why)) => Err(why),
            Err(Unanswered::Broken(error)) => Err(NoResponse::Broken(reason(&error))),
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, NoResponse> {
        let stream = self.connector.clone().call(self.base.clone()).await;
        let stream = stream.map_err(|error| match is_local(&*error) {
            true => NoResponse::LocalFault,
            false => NoResponse::Unreachable,
        })?;
        Connection::open(stream, LONGEST_HEAD, None).await.map_err(|_| NoResponse::Unreachable)
    }
}

/// Describes the error briefly, without the address.
fn reason(error: &hyper::Error) -> &'static str {
    if error.is_parse() { "not HTTP" } else { "cut off" }
}

/// A response whose body has yet to be read.
pub struct EndpointResponse<'e> {
    response: Response<Incoming>,
    connection: Box<Connection>,
    idle: &'e Arc<ConnectionPool<()>>,
}

impl EndpointResponse<'_> {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns the body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// The reason why it could not be read.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let Self { response, mut connection, idle } = self;
        let ends_with_connection = response.body().size_hint().exact().is_none()
            && !response.headers().contains_key(TRANSFER_ENCODING);
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        loop {
            let piece = connection.next_piece(&mut incoming);
            let piece = if ends_with_connection { timeout(SILENCE, piece).await } else { Ok(piece.await) };
            match piece {
                Ok(Some(Ok(data))) if body.len() + data.len() > limit => return Err(BodyError::TooLong),
                Ok(Some(Ok(data))) => body.extend_from_slice(&data),
                Ok(Some(Err(_))) => return Err(BodyError::Broken(body)),
                Ok(None) => break,
                // the end cannot be told from silence, so the connection cannot be reused
                Err(_) => return Ok(body),
            }
        }
        idle.keep((), connection);
        Ok(body)
    }

    /// Discards the body. The connection is reused if the whole body was already received, and closed otherwise.
    pub fn skip_body(self, limit: usize) {
        let _ = self.body(limit).now_or_never();
    }
}

#[cfg(test)]
mod tests;
