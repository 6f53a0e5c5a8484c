//! The HTTP handlers of requests: `/api/v1/requests`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use schema::RequestBody;

use super::model::Request;
use super::recurring::Recurring;
use super::recurring::model::RecurringRequest;
use super::recurring::views::RecurringRequestView;
use super::usecase::{RequestFilter, Requests};
use super::views::{RequestDetailsView, RequestView};
use crate::db::types::ResourceId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Query, Redacted, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::kinds::NotificationStatus as Status;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_requests: RequestsRead,
        create_request: RequestsWrite,
        get_request: RequestsRead,
        cancel_request: RequestsWrite,
        run_request: RequestsWrite,
        replay_request: RequestsWrite,
    ]
}

/// The query parameters of the list of requests.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only requests with this status; `sending` is accepted for `processing`.
    #[param(value_type = Option<Status>, inline, nullable = false)]
    status: Option<String>,
    /// Lists only the occurrences of this recurring request.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    recurring_id: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// The accepted request; with `cron` a recurring request.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum AcceptedRequest<'m> {
    /// A request without `cron`.
    Single(RequestView<'m>),
    /// A recurring request.
    Recurring(RecurringRequestView<'m>),
}

/// Schedule an HTTP request
///
/// Accepts an HTTP request that runs once, or with `cron` again and again. It is durable before the response. A status
/// from 400 to 599, a status from 300 to 399 that `retry.on` names, and a missing response are retried according to
/// `retry`. The result is posted to `notify` as a `RequestReport`, signed according to Standard Webhooks.
#[utoipa::path(post, path = "/api/v1/requests", operation_id = "create_request", tag = "requests",
    request_body = RequestBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "A dry run: the request that would be accepted", body = AcceptedRequest),
        (status = 202, description = "The request, or with `cron` the recurring request; its path is in `Location`",
            body = AcceptedRequest,
            headers(("Location" = String, description = "The path of the request"))),
        (status = 409, description = "An equal request with this key is in progress"),
    ))]
pub async fn create_request(
    service: web::Data<Requests>,
    recurring: web::Data<Recurring>,
    dry_run: DryRun,
    posted: Posted<Redacted<RequestBody>>,
) -> Result<HttpResponse> {
    let wanted = posted.value.0?.into_wanted()?;
    let mode = dry_run.mode(posted.key);
    if let Some(recurrence) = &wanted.recurrence {
        let answer = |made: &RecurringRequest| {
            let path = format!("/api/v1/requests/recurring/{}", made.id);
            IdempotentResponse::new(202, Some(path), &RecurringRequestView::from(made))
        };
        let asked = (wanted.asked, wanted.execute_at);
        return Ok(respond(recurring.create(asked, recurrence, mode, answer).await?));
    }
    let answer = |made: &Request| {
        let path = format!("/api/v1/requests/{}", made.id);
        IdempotentResponse::new(202, Some(path), &RequestView::from(made))
    };
    let made = service.create((wanted.asked, wanted.execute_at), mode, answer).await?;
    Ok(respond(made))
}

/// List requests
///
/// Lists requests and the occurrences of recurring requests, the newest first.
#[utoipa::path(get, path = "/api/v1/requests", operation_id = "list_requests", tag = "requests",
    params(ListQuery),
    responses((status = 200, description = "A page of requests", body = Page<RequestView>)))]
pub async fn list_requests(
    service: web::Data<Requests>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let status = query.status.as_deref().map(Status::parse).transpose();
    let recurring = query.recurring_id.as_deref().map(str::parse::<ResourceId>).transpose();
    let filter = RequestFilter {
        status: status.map_err(|why| Error::invalid("status", why))?,
        recurring: recurring.map_err(|_| Error::invalid("recurring_id", "must be a UUID"))?,
    };
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = service.list(filter, paging::cursor(query.cursor.as_deref())?, limit).await?;
    let page = Page { items, next_cursor: next.map(|id| id.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<RequestView<'_>>()))
}

/// Read a request with its attempts and its response
#[utoipa::path(get, path = "/api/v1/requests/{id}", operation_id = "get_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses((status = 200, description = "The request with its attempts, response and reports",
        body = RequestDetailsView)))]
pub async fn get_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RequestDetailsView::from(&service.get(path_id(&id)?).await?)))
}

/// Cancel a request
///
/// Cancels a request that waits. After a 204 no attempt starts, and no result is reported.
#[utoipa::path(delete, path = "/api/v1/requests/{id}", operation_id = "cancel_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 204, description = "The request is cancelled"),
        (status = 409, description = "The request is running or has ended"),
    ))]
pub async fn cancel_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    service.cancel(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Run a request now
///
/// Makes a request due now that waits for its time or for its next attempt.
#[utoipa::path(post, path = "/api/v1/requests/{id}/run", operation_id = "run_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 202, description = "The request, which is due now", body = RequestView),
        (status = 409, description = "The request is running or has ended"),
    ))]
pub async fn run_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Accepted().json(RequestView::from(&service.run(path_id(&id)?).await?)))
}

/// Replay a request that failed
///
/// Queues a failed request again, with all of its attempts and under the same id. Its result is reported again.
#[utoipa::path(post, path = "/api/v1/requests/{id}/replay", operation_id = "replay_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 202, description = "The request, which is queued again", body = RequestView),
        (status = 409, description = "The request has not failed, or cannot be replayed"),
    ))]
pub async fn replay_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Accepted().json(RequestView::from(&service.replay(path_id(&id)?).await?)))
}
