//! Who may call: with an API key configured, every path but the probes wants it.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Paths that probes and scrapers ask without a key, and what browsers load into pages that have none.
const OPEN_PATHS: &[&str] = &["/health", "/ready", "/metrics", "/inbox.js"];
/// What is behind this looks for itself whom it lets in: beside the key it takes tokens of users.
const INBOXES: &str = "/api/v1/inbox/";

/// What is behind this is for a mail's recipient: its path bears a token.
const UNSUBSCRIBE: &str = "/unsubscribe/";

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

/// The middleware; wrap it with `actix_web::middleware::from_fn`.
///
/// # Errors
/// Those of the service behind it.
pub async fn check<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let allowed =
        request.app_data::<actix_web::web::Data<Access>>().is_none_or(|access| access.allows(&request));
    if allowed {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let response = unauthorized(
        "An API key is needed",
        "send Authorization: Bearer <the key that API_KEY or API_KEY_FILE holds>",
    );
    Ok(request.into_response(response).map_into_right_body())
}
