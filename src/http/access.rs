//! Who may call: with an API key configured, every path but the probes wants it.

use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Paths that probes and scrapers ask without a key.
const OPEN_PATHS: &[&str] = &["/health", "/ready", "/metrics"];

/// The key that requests must bear, if any.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<SecretString>>);

impl Access {
    /// With this key, or open to everyone who reaches the address.
    pub fn new(key: Option<SecretString>) -> Self {
        Self(key.map(Arc::new))
    }

    fn allows(&self, request: &ServiceRequest) -> bool {
        let Some(key) = &self.0 else { return true };
        if OPEN_PATHS.contains(&request.path()) {
            return true;
        }
        let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = header.and_then(|value| value.split_once(' ')).unwrap_or_default();
        // compared in constant time: how long it takes tells nothing of how much was right
        let equal = token.trim().as_bytes().ct_eq(key.expose_secret().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") && bool::from(equal)
    }
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
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "/problems/unauthorized",
        "An API key is needed",
        "send Authorization: Bearer <the key that API_KEY or API_KEY_FILE holds>",
    );
    let mut response = problem.response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    Ok(request.into_response(response).map_into_right_body())
}
