//! The HTTP handlers of recurring requests: `/api/v1/requests/recurring`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::RecurringStatus;
use super::usecase::Recurring;
use super::views::RecurringRequestView;
use crate::db::types::RecurringId;
use crate::error::{Error, Result};
use crate::http::idempotency_header::{KeyHeader, Keyed, respond};
use crate::http::json::{Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::paging::{self, Page};
use crate::requests::model::Request;
use crate::requests::views::RequestView;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_recurring_requests: RequestsRead,
        get_recurring_request: RequestsRead,
        cancel_recurring_request: RequestsWrite,
        pause_recurring_request: RequestsWrite,
        resume_recurring_request: RequestsWrite,
        run_recurring_request: RequestsWrite,
    ]
}

/// The query parameters of the list of recurring requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only recurring requests with this status.
    #[param(value_type = Option<RecurringStatus>, inline, nullable = false)]
    status: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<RecurringId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List recurring requests
///
/// Lists recurring requests, the newest first.
#[utoipa::path(get, path = "/api/v1/requests/recurring", operation_id = "list_recurring_requests", tag = "requests",
    params(ListQuery),
    responses((status = 200, description = "A page of recurring requests", body = Page<RecurringRequestView>)))]
pub async fn list_recurring_requests(
    service: web::Data<Recurring>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let status = query.status.as_deref().map(str::parse::<RecurringStatus>).transpose();
    let status = status.map_err(|why| Error::invalid("status", why))?;
    let (before, limit) = (paging::cursor(query.cursor.as_deref())?, paging::limit(query.limit.as_deref())?);
    let (items, next) = service.list(status, before, limit).await?;
    let page = Page { items, next_cursor: next.map(|id| id.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<RecurringRequestView<'_>>()))
}

/// Read a recurring request
///
/// Returns a recurring request with its next occurrences. `GET /requests?recurring_id=` lists the previous ones.
#[utoipa::path(get, path = "/api/v1/requests/recurring/{id}", operation_id = "get_recurring_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses((status = 200, description = "The recurring request", body = RecurringRequestView)))]
pub async fn get_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RecurringRequestView::from(&service.get(path_id(&id)?).await?)))
}

/// Cancel a recurring request
///
/// Cancels a recurring request for good. Its waiting occurrences are cancelled too; running ones continue.
#[utoipa::path(delete, path = "/api/v1/requests/recurring/{id}", operation_id = "cancel_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 204, description = "The recurring request is cancelled"),
        (status = 409, description = "The recurring request was already cancelled"),
    ))]
pub async fn cancel_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    service.cancel(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Pause a recurring request
///
/// Pauses a recurring request: it has no occurrences until it is resumed, and skips the occurrences of the pause.
/// Occurrences that wait already still run.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/pause", operation_id = "pause_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 200, description = "The changed recurring request", body = RecurringRequestView),
        (status = 409, description = "The recurring request is paused, cancelled or at its end"),
    ))]
pub async fn pause_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RecurringRequestView::from(&service.pause(path_id(&id)?).await?)))
}

/// Resume a recurring request
///
/// Resumes a recurring request, which continues with its next occurrence.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/resume", operation_id = "resume_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 200, description = "The changed recurring request", body = RecurringRequestView),
        (status = 409, description = "The recurring request is not paused, or is at its end"),
    ))]
pub async fn resume_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RecurringRequestView::from(&service.resume(path_id(&id)?).await?)))
}

/// Run a recurring request now
///
/// Runs a recurring request once, in addition to its times, even while it is paused. With a key, a repeated call does
/// not run it twice.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/run", operation_id = "run_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request"), KeyHeader),
    responses(
        (status = 202, description = "The occurrence; its path is in `Location`", body = RequestView,
            headers(("Location" = String, description = "The path of the occurrence"))),
        (status = 409, description = "The recurring request is cancelled or at its end"),
    ))]
pub async fn run_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
    Keyed(key): Keyed,
) -> Result<HttpResponse> {
    let answer = |run: &Request| {
        let path = format!("/api/v1/requests/{}", run.id);
        IdempotentResponse::new(202, Some(path), &RequestView::from(run))
    };
    Ok(respond(service.run(path_id(&id)?, key, answer).await?))
}
