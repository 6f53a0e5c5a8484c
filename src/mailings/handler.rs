//! Mailings over HTTP: `/api/v1/mailings`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{MailingBody, MailingPatch, PreviewBody};
use super::model::{CreatedMailing, Mailing, MailingStats, MailingStatus, Overview, Preview};
use super::usecase::Mailings;
use crate::db::types::MailingId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, path_id};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/mailings")
            .route(get().to(list_mailings))
            .route(web::post().to(create_mailing))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/mailings/preview")
            .route(web::post().to(preview_mailing))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/mailings/stats").route(get().to(get_overview)).default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/mailings/{id}")
            .route(get().to(get_mailing))
            .route(web::patch().to(patch_mailing))
            .route(web::delete().to(delete_mailing))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    )
    .service(
        web::resource("/mailings/{id}/stats")
            .route(get().to(get_mailing_stats))
            .default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/mailings/{id}/pause")
            .route(web::post().to(pause_mailing))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/mailings/{id}/resume")
            .route(web::post().to(resume_mailing))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/mailings/{id}/cancel")
            .route(web::post().to(cancel_mailing))
            .default_service(others("POST")),
    );
}

/// What a list of mailings can be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those in this state.
    #[param(value_type = Option<MailingStatus>, inline, nullable = false)]
    status: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<MailingId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// Create a mailing
///
/// Every client that the filter lets through gets one message between `starts_at` (default: now) and `ends_at`. A
/// mailing whose start is past begins at once.
#[utoipa::path(post, path = "/api/v1/mailings", operation_id = "create_mailing", tag = "mailings",
    request_body = MailingBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: what the mailing would be", body = Preview),
        (status = 201, description = "The mailing, and its address in `Location`", body = CreatedMailing,
            headers(("Location" = String, description = "The path of the mailing"))),
    ))]
pub async fn create_mailing(
    service: web::Data<Mailings>,
    dry_run: DryRun,
    posted: Posted<MailingBody>,
) -> Result<HttpResponse> {
    let new = posted.value.into_new()?;
    if dry_run.0 {
        return Ok(HttpResponse::Ok().json(service.rehearse(new).await?));
    }
    let answer = |mailing: &Mailing, warnings| {
        let path = format!("/api/v1/mailings/{}", mailing.id);
        Answer::created(path, &CreatedMailing { mailing, warnings })
    };
    Ok(respond(service.create(new, posted.key, answer).await?))
}

/// List mailings
///
/// In the order of their creation.
#[utoipa::path(get, path = "/api/v1/mailings", operation_id = "list_mailings", tag = "mailings", params(ListQuery),
    responses(
        (status = 200, description = "One page", body = Page<Mailing>),
    ))]
pub async fn list_mailings(
    service: web::Data<Mailings>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let status = query.status.as_deref().map(str::parse::<MailingStatus>).transpose();
    let status = status.map_err(|why| Error::invalid("status", why))?;
    let page = service
        .list(status, paging::limit(query.limit.as_deref())?, paging::cursor(query.cursor.as_deref())?)
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// Preview a mailing
///
/// How many clients a filter lets through, a few of them, how long sending will take, and whether it fits the window.
#[utoipa::path(post, path = "/api/v1/mailings/preview", operation_id = "preview_mailing", tag = "mailings",
    request_body = PreviewBody,
    responses(
        (status = 200, description = "What the mailing would be", body = Preview),
    ))]
pub async fn preview_mailing(service: web::Data<Mailings>, body: Json<PreviewBody>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.preview(body.0.into_question()?).await?))
}

/// Count all mailings and their messages
#[utoipa::path(get, path = "/api/v1/mailings/stats", operation_id = "get_mailings_overview", tag = "mailings",
    responses(
        (status = 200, description = "The books of all mailings", body = Overview),
    ))]
pub async fn get_overview(service: web::Data<Mailings>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.overview().await?))
}

/// Read a mailing
#[utoipa::path(get, path = "/api/v1/mailings/{id}", operation_id = "get_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The mailing with its counts", body = Mailing),
    ))]
pub async fn get_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Read the books of a mailing
#[utoipa::path(get, path = "/api/v1/mailings/{id}/stats", operation_id = "get_mailing_stats", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "What became of its messages", body = MailingStats),
    ))]
pub async fn get_mailing_stats(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.stats(path_id(&id)?).await?))
}

/// Change a mailing
///
/// Before it begins everything may change, then only `ends_at`; a finished or cancelled one is read-only.
#[utoipa::path(patch, path = "/api/v1/mailings/{id}", operation_id = "patch_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")), request_body = MailingPatch,
    responses(
        (status = 200, description = "The mailing as it is now", body = Mailing),
        (status = 409, description = "Its state does not allow it"),
    ))]
pub async fn patch_mailing(
    service: web::Data<Mailings>,
    id: web::Path<String>,
    body: Json<MailingPatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.patch(path_id(&id)?, body.0.into_change()?).await?))
}

/// Delete a mailing that has not begun
#[utoipa::path(delete, path = "/api/v1/mailings/{id}", operation_id = "delete_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It has begun"),
    ))]
pub async fn delete_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    service.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Pause a mailing
///
/// What is in flight is finished, nothing more is started. Its window goes on meanwhile.
#[utoipa::path(post, path = "/api/v1/mailings/{id}/pause", operation_id = "pause_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The paused mailing", body = Mailing),
        (status = 409, description = "It cannot be paused"),
    ))]
pub async fn pause_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.pause(path_id(&id)?).await?))
}

/// Resume a paused mailing
#[utoipa::path(post, path = "/api/v1/mailings/{id}/resume", operation_id = "resume_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The mailing, going on", body = Mailing),
        (status = 409, description = "It is not paused"),
    ))]
pub async fn resume_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.resume(path_id(&id)?).await?))
}

/// Cancel a mailing for good
///
/// What is in flight is finished; all else becomes *cancelled*, in the background.
#[utoipa::path(post, path = "/api/v1/mailings/{id}/cancel", operation_id = "cancel_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The cancelled mailing", body = Mailing),
        (status = 409, description = "It is over"),
    ))]
pub async fn cancel_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.cancel(path_id(&id)?).await?))
}
