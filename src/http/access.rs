//! Authentication: with a configured API key, every path except the probes requires it.

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

/// Paths without a key: those of probes and scrapers, and the script that users' pages load.
const OPEN_PATHS: &[&str] = &["/health", "/ready", "/metrics", "/inbox.js"];
/// The prefix of the inbox, which checks access itself: it accepts the key and the tokens of users.
pub(super) const INBOXES: &str = "/api/v1/inbox/";

/// The prefix of unsubscribe links, which contain a token.
pub(super) const UNSUBSCRIBE: &str = "/unsubscribe/";

/// The key that requests must have, if one is configured.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<SecretString>>);

impl Access {
    /// Requires this key. Without a key, every request is allowed.
    pub fn new(key: Option<SecretString>) -> Self {
        Self(key.map(Arc::new))
    }

    fn allows(&self, request: &ServiceRequest) -> bool {
        let path = request.path();
        let is_open =
            OPEN_PATHS.contains(&path) || path.starts_with(INBOXES) || path.starts_with(UNSUBSCRIBE);
        is_open || self.grants_all(request.headers())
    }

    /// Returns true if a request with these headers may do everything: it has the key, or no key is configured.
    pub fn grants_all(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.0 else { return true };
        let token = bearer(headers).unwrap_or_default();
        // in constant time, so that the duration reveals nothing about the key
        token.as_bytes().ct_eq(key.expose_secret().as_bytes()).into()
    }
}

/// Returns the token of the header `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns 401 for a request without a valid key.
pub fn unauthorized(title: &'static str, what_to_do: &str) -> HttpResponse {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "/problems/unauthorized", title, what_to_do);
    let mut response = problem.response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Returns 401 for a request without a valid key. A wrong key is answered only after a delay, and with 429 if the delay
/// would be too long.
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
            // no delay while the service stops
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
        "this address sent too many wrong keys; retry after 60 s",
    );
    let mut response = problem.response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

/// The middleware that checks the key; wrap it with `actix_web::middleware::from_fn`.
///
/// # Errors
/// Errors of the wrapped service.
pub async fn check<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let allowed = request.app_data::<web::Data<Access>>().is_none_or(|access| access.allows(&request));
    if allowed {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let what_to_do = "send Authorization: Bearer <the key of API_KEY or API_KEY_FILE>";
    let response = refused(request.request(), "Unauthorized", what_to_do).await;
    Ok(request.into_response(response).map_into_right_body())
}
