//! Notes the commits of a request: a request that fails after a commit must not be reported as without effect.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::db::effects;

/// Middleware around the handlers.
///
/// # Errors
/// Those of the handlers.
pub async fn note(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    effects::noted(next.call(request)).await
}
