//! The responses to new notifications.

use actix_web::http::StatusCode;

use crate::error::Result;
use crate::http::problem::Problem;
use crate::idempotency::IdempotentResponse;
use crate::notifications::model::{Notification, Status};
use crate::notifications::views::NotificationView;

/// Makes a 201 response.
///
/// # Errors
/// An internal error if the notification cannot be serialized, which does not happen.
pub fn created(notification: &Notification) -> Result<IdempotentResponse> {
    shown(201, notification)
}

/// Makes a 202 response.
///
/// # Errors
/// As [`created`].
pub fn accepted(notification: &Notification) -> Result<IdempotentResponse> {
    shown(202, notification)
}

/// Makes the response to a request that waited: 200 with a final status, else 202.
///
/// # Errors
/// As [`created`].
pub fn after_waiting(found: &Notification) -> Result<IdempotentResponse> {
    shown(if found.status.is_final() { 200 } else { 202 }, found)
}

/// Makes the response of the short path: 2xx if the notification was sent or may still be sent, else a problem.
///
/// # Errors
/// As [`created`].
pub fn sent_or_problem(found: &Notification) -> Result<IdempotentResponse> {
    let (status, title, outcome) = match found.status {
        Status::Failed => (StatusCode::BAD_GATEWAY, "Bad gateway", "failed"),
        Status::Expired => (StatusCode::GATEWAY_TIMEOUT, "Gateway timeout", "expired"),
        Status::Cancelled => (StatusCode::CONFLICT, "Conflict", "was cancelled"),
        Status::Scheduled | Status::Queued | Status::Processing | Status::Sent => {
            return after_waiting(found);
        }
    };
    let why = found.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let detail = format!("notification {} {outcome}{why}", found.id);
    let problem = Problem::new(status, "/problems/not-sent", title, detail).about(found.id.to_string());
    IdempotentResponse::new(status.as_u16(), Some(path(found)), &problem)
}

fn shown(status: u16, notification: &Notification) -> Result<IdempotentResponse> {
    IdempotentResponse::new(status, Some(path(notification)), &NotificationView::from(notification))
}

fn path(notification: &Notification) -> String {
    format!("/api/v1/notifications/{}", notification.id)
}
