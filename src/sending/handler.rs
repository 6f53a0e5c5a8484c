//! `/api/v1/sending`: the switch that pauses and resumes all sending.

use actix_web::{HttpResponse, web};

use super::usecase::{Sending, SendingView};
use crate::error::Result;
use crate::http::operations::{Operations, operations};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_sending: MetricsRead,
        pause_sending: Admin,
        resume_sending: Admin,
    ]
}

/// Read the state of sending
#[utoipa::path(get, path = "/api/v1/sending", operation_id = "get_sending", tag = "sending",
    responses((status = 200, description = "True if sending is paused, and since when", body = SendingView)))]
pub async fn get_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.get().await?))
}

/// Pause all sending
///
/// Pauses the whole installation: no channel sends until sending is resumed, not even after a restart. This includes
/// requests and their reports. Attempts in flight finish. Everything is still accepted, and waits. Windows and expiry
/// times are not extended.
#[utoipa::path(post, path = "/api/v1/sending/pause", operation_id = "pause_sending", tag = "sending",
    responses((status = 200, description = "Sending is paused", body = SendingView)))]
pub async fn pause_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.pause().await?))
}

/// Resume sending
#[utoipa::path(post, path = "/api/v1/sending/resume", operation_id = "resume_sending", tag = "sending",
    responses((status = 200, description = "Sending is not paused", body = SendingView)))]
pub async fn resume_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.resume().await?))
}
