//! Notes what a request commits, for the answer to one that fails after that.

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
