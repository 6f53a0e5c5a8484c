//! Who may call: with an API key configured, every path but the probes wants it.

use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use super::wrong_keys::WrongKeys;
use crate::lifecycle::Shutdown;

/// Paths that probes and scrapers ask without a key, and what browsers load into pages that have none.
const OPEN_PATHS: &[&str] = &["/health", "/ready", "/metrics", "/inbox.js"];
/// What is behind this looks for itself whom it lets in: beside the key it takes tokens of users.
pub(super) const INBOXES: &str = "/api/v1/inbox/";

/// What is behind this is for a mail's recipient: its path bears a token.
pub(super) const UNSUBSCRIBE: &str = "/unsubscribe/";

/// The key that requests must bear, if any.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<SecretString>>);

impl Access {
    /// With this key, or open to everyone who reaches the address.
    pub fn new(key: Option<SecretString>) -> Self {
        Self(key.map(Arc::new))
    }

    fn allows(&self, request: &ServiceRequest) -> bool {
        let path = request.path();
        let is_open =
            OPEN_PATHS.contains(&path) || path.starts_with(INBOXES) || path.starts_with(UNSUBSCRIBE);
        is_open || self.grants_all(request.headers())
    }

    /// Whether a request with these headers may do everything: it bears the key, or none is wanted.
    pub fn grants_all(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.0 else { return true };
        let token = bearer(headers).unwrap_or_default();
        // compared in constant time: how long it takes tells nothing of how much was right
        token.as_bytes().ct_eq(key.expose_secret().as_bytes()).into()
    }
}

/// What a request bears as `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The answer to a request that bears nothing that lets it in.
pub fn unauthorized(title: &'static str, what_to_do: &str) -> HttpResponse {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "/problems/unauthorized", title, what_to_do);
    let mut response = problem.response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The answer to a request that nothing lets in, once it may be given: whoever sends wrong keys waits for it.
pub async fn refused(request: &HttpRequest, title: &'static str, what_to_do: &str) -> HttpResponse {
    let is_wrong = bearer(request.headers()).is_some_and(|key| !key.is_empty());
    let wrong_keys = request.app_data::<web::Data<WrongKeys>>().filter(|_| is_wrong);
    let peer = request.peer_addr().map(|address| address.ip());
    let may_be_given = async {
        let Some(wrong_keys) = wrong_keys else { return true };
        let stopping = async {
            match request.app_data::<web::Data<Shutdown>>() {
                Some(shutdown) => shutdown.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            may_be_given = wrong_keys.wait(peer) => may_be_given,
            // nothing waits when the service stops
            () = stopping => true,
        }
    };
    if may_be_given.await {
        return unauthorized(title, what_to_do);
    }
    let problem = Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "/problems/too-many-wrong-keys",
        "Too many wrong keys",
        "too many requests with wrong keys came from this address; stop them, and try again in a minute",
    );
    let mut response = problem.response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

/// The middleware; wrap it with `actix_web::middleware::from_fn`.
///
/// # Errors
/// Those of the service behind it.
pub async fn check<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let allowed = request.app_data::<web::Data<Access>>().is_none_or(|access| access.allows(&request));
    if allowed {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let what_to_do = "send Authorization: Bearer <the key that API_KEY or API_KEY_FILE holds>";
    let response = refused(request.request(), "An API key is needed", what_to_do).await;
    Ok(request.into_response(response).map_into_right_body())
}
