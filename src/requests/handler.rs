//! Requests over HTTP: `/api/v1/requests`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use schema::RequestBody;

use super::recurring::Recurring;
use super::recurring::model::RecurringRequest;
use super::usecase::{Filter, Requests};
use super::view::{RequestDetails, RequestView};
use crate::db::types::ResourceId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Discreet, Query, path_id};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::NotificationStatus as Status;
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/requests")
            .route(get().to(list_requests))
            .route(web::post().to(create_request))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/requests/{id}")
            .route(get().to(get_request))
            .route(web::delete().to(cancel_request))
            .default_service(others("GET, HEAD, DELETE")),
    )
    .service(
        web::resource("/requests/{id}/run")
            .route(web::post().to(run_request))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/requests/{id}/replay")
            .route(web::post().to(replay_request))
            .default_service(others("POST")),
    );
}

/// What a list of requests can be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those in this state; `sending` is taken for `processing`.
    #[param(value_type = Option<Status>, inline, nullable = false)]
    status: Option<String>,
    /// Only the runs of one recurring request.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    recurring_id: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// What was accepted: a request, or with `cron` a recurring one.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum AcceptedRequest {
    /// A request.
    Single(RequestView),
    /// A recurring one.
    Recurring(RecurringRequest),
}

/// Run an HTTP request at a time
///
/// It is on disk when this answers, and with `cron` it runs again and again. A status from 400 to 599, one from 300 to 399 that `retry.on` names, and no answer, are tried again as `retry` says. Its result is
/// posted to `notify`, as `RequestReport` shows it, signed as Standard Webhooks asks.
#[utoipa::path(post, path = "/api/v1/requests", operation_id = "create_request", tag = "requests",
    request_body = RequestBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the request as it would be", body = AcceptedRequest),
        (status = 202, description = "The request, or with `cron` the recurring one, and its address in `Location`",
            body = AcceptedRequest,
            headers(("Location" = String, description = "The path of the request"))),
        (status = 409, description = "An equal request with this key is in work"),
    ))]
pub async fn create_request(
    service: web::Data<Requests>,
    recurring: web::Data<Recurring>,
    dry_run: DryRun,
    posted: Posted<Discreet<RequestBody>>,
) -> Result<HttpResponse> {
    let wanted = posted.value.0?.into_wanted()?;
    let mode = dry_run.mode(posted.key);
    if let Some(recurrence) = &wanted.recurrence {
        let answer = |made: &RecurringRequest| {
            Answer::new(202, Some(format!("/api/v1/requests/recurring/{}", made.id)), made)
        };
        let asked = (wanted.asked, wanted.execute_at);
        return Ok(respond(recurring.create(asked, recurrence, mode, answer).await?));
    }
    let answer = |view: &RequestView| Answer::new(202, Some(format!("/api/v1/requests/{}", view.id)), view);
    let made = service.create((wanted.asked, wanted.execute_at), mode, answer).await?;
    Ok(respond(made))
}

/// List requests
///
/// The latest first: those that were asked for and the runs of recurring ones.
#[utoipa::path(get, path = "/api/v1/requests", operation_id = "list_requests", tag = "requests",
    params(ListQuery),
    responses((status = 200, description = "One page", body = Page<RequestView>)))]
pub async fn list_requests(
    service: web::Data<Requests>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let status = query.status.as_deref().map(Status::parse).transpose();
    let recurring = query.recurring_id.as_deref().map(str::parse::<ResourceId>).transpose();
    let filter = Filter {
        status: status.map_err(|why| Error::invalid("status", why))?,
        recurring: recurring.map_err(|_| Error::invalid("recurring_id", "must be a UUID"))?,
    };
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = service.list(filter, paging::cursor(query.cursor.as_deref())?, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a request with its attempts and its answer
#[utoipa::path(get, path = "/api/v1/requests/{id}", operation_id = "get_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses((status = 200, description = "The request and everything that was tried", body = RequestDetails)))]
pub async fn get_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Cancel a request
///
/// While it waits. Once this has answered 204, no attempt starts, and nothing is reported.
#[utoipa::path(delete, path = "/api/v1/requests/{id}", operation_id = "cancel_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 204, description = "It is cancelled"),
        (status = 409, description = "It is running, or over"),
    ))]
pub async fn cancel_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    service.cancel(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Run a request now
///
/// One that waits for its time or its next attempt.
#[utoipa::path(post, path = "/api/v1/requests/{id}/run", operation_id = "run_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 202, description = "The request, which is due now", body = RequestView),
        (status = 409, description = "It is running, or over"),
    ))]
pub async fn run_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Accepted().json(service.run(path_id(&id)?).await?))
}

/// Replay a request that failed
///
/// It gets all of its attempts again, under the same id, and its result is reported again.
#[utoipa::path(post, path = "/api/v1/requests/{id}/replay", operation_id = "replay_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The request")),
    responses(
        (status = 202, description = "The request, which waits again", body = RequestView),
        (status = 409, description = "It has not failed, or cannot be replayed"),
    ))]
pub async fn replay_request(service: web::Data<Requests>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Accepted().json(service.replay(path_id(&id)?).await?))
}
