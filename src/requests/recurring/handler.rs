//! Recurring requests over HTTP: `/api/v1/requests/recurring`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::{RecurringRequest, RecurringStatus};
use super::usecase::Recurring;
use crate::db::types::RecurringId;
use crate::error::{Error, Result};
use crate::http::json::{Query, path_id};
use crate::http::once::{KeyHeader, Keyed, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::paging::{self, Page};
use crate::requests::view::RequestView;

/// Registers the routes, relative to `/api/v1`; before those of single requests, which take any word for an id.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/requests/recurring")
            .route(get().to(list_recurring_requests))
            .default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/requests/recurring/{id}")
            .route(get().to(get_recurring_request))
            .route(web::delete().to(cancel_recurring_request))
            .default_service(others("GET, HEAD, DELETE")),
    )
    .service(
        web::resource("/requests/recurring/{id}/pause")
            .route(web::post().to(pause_recurring_request))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/requests/recurring/{id}/resume")
            .route(web::post().to(resume_recurring_request))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/requests/recurring/{id}/run")
            .route(web::post().to(run_recurring_request))
            .default_service(others("POST")),
    );
}

/// Which recurring requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those in this state.
    #[param(value_type = Option<RecurringStatus>, inline, nullable = false)]
    status: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<RecurringId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List recurring requests
///
/// The newest first.
#[utoipa::path(get, path = "/api/v1/requests/recurring", operation_id = "list_recurring_requests", tag = "requests",
    params(ListQuery),
    responses((status = 200, description = "One page", body = Page<RecurringRequest>)))]
pub async fn list_recurring_requests(
    service: web::Data<Recurring>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let status = query.status.as_deref().map(str::parse::<RecurringStatus>).transpose();
    let status = status.map_err(|why| Error::invalid("status", why))?;
    let (before, limit) = (paging::cursor(query.cursor.as_deref())?, paging::limit(query.limit.as_deref())?);
    let (items, next) = service.list(status, before, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a recurring request
///
/// With its next runs. Those that were made are `GET /requests?recurring_id=`.
#[utoipa::path(get, path = "/api/v1/requests/recurring/{id}", operation_id = "get_recurring_request", tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses((status = 200, description = "The recurring request", body = RecurringRequest)))]
pub async fn get_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Cancel a recurring request
///
/// For good. Its runs that wait are cancelled too, those that are running go on.
#[utoipa::path(delete, path = "/api/v1/requests/recurring/{id}", operation_id = "cancel_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 204, description = "It is cancelled"),
        (status = 409, description = "It is cancelled already"),
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
/// Nothing is run until it is resumed, but for runs that wait already. The runs of a pause are not made up for.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/pause", operation_id = "pause_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 200, description = "The recurring request as it is now", body = RecurringRequest),
        (status = 409, description = "It is paused, cancelled, or over"),
    ))]
pub async fn pause_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.pause(path_id(&id)?).await?))
}

/// Resume a recurring request
///
/// It goes on with the next of its times.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/resume", operation_id = "resume_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request")),
    responses(
        (status = 200, description = "The recurring request as it is now", body = RecurringRequest),
        (status = 409, description = "It is not paused, or over"),
    ))]
pub async fn resume_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.resume(path_id(&id)?).await?))
}

/// Run a recurring request now
///
/// Once, beside its times; also while it is paused. With a key, a repeated call makes no second run.
#[utoipa::path(post, path = "/api/v1/requests/recurring/{id}/run", operation_id = "run_recurring_request",
    tag = "requests",
    params(("id" = String, Path, format = Uuid, description = "The recurring request"), KeyHeader),
    responses(
        (status = 202, description = "The run, and its address in `Location`", body = RequestView,
            headers(("Location" = String, description = "The path of the run"))),
        (status = 409, description = "It is cancelled, or over"),
    ))]
pub async fn run_recurring_request(
    service: web::Data<Recurring>,
    id: web::Path<String>,
    Keyed(key): Keyed,
) -> Result<HttpResponse> {
    let answer = |run: &RequestView| Answer::new(202, Some(format!("/api/v1/requests/{}", run.id)), run);
    Ok(respond(service.run(path_id(&id)?, key, answer).await?))
}
