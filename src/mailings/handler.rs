//! The HTTP handlers of mailings: `/api/v1/mailings`.

mod filter;
mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{MailingBody, MailingPatch, PreviewBody};
use super::model::{Mailing, MailingStatus};
use super::usecase::Mailings;
use super::views::{CreatedMailing, MailingStatsView, MailingView, OverviewView, PreviewView};
use crate::db::types::MailingId;
use crate::error::{Error, FieldError, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_mailings: MailingsRead,
        create_mailing: MailingsWrite,
        preview_mailing: MailingsRead,
        get_overview: MailingsRead,
        get_mailing: MailingsRead,
        patch_mailing: MailingsWrite,
        delete_mailing: MailingsWrite,
        get_mailing_stats: MailingsRead,
        pause_mailing: MailingsSend,
        resume_mailing: MailingsSend,
        cancel_mailing: MailingsSend,
    ]
}

/// The query parameters of the list of mailings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only mailings with this status.
    #[param(value_type = Option<MailingStatus>, inline, nullable = false)]
    status: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<MailingId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// Create a mailing
///
/// Creates a mailing: every client that the filter selects gets one message between `starts_at` (default: now) and
/// `ends_at`. A mailing whose start is in the past starts at once.
#[utoipa::path(post, path = "/api/v1/mailings", operation_id = "create_mailing", tag = "mailings",
    request_body = MailingBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the preview of the mailing", body = PreviewView),
        (status = 201, description = "The mailing, with its path in `Location`", body = CreatedMailing,
            headers(("Location" = String, description = "The path of the mailing"))),
    ))]
pub async fn create_mailing(
    service: web::Data<Mailings>,
    dry_run: DryRun,
    posted: Posted<MailingBody>,
) -> Result<HttpResponse> {
    let new = posted.value.into_draft()?;
    if dry_run.0 {
        return Ok(HttpResponse::Ok().json(PreviewView::from(&service.rehearse(new).await?)));
    }
    let answer = |mailing: &Mailing, warnings: Vec<FieldError>| {
        let path = format!("/api/v1/mailings/{}", mailing.id);
        IdempotentResponse::created(path, &CreatedMailing::new(mailing, &warnings))
    };
    Ok(respond(service.create(new, posted.key, answer).await?))
}

/// List mailings
///
/// Lists mailings in the order of creation.
#[utoipa::path(get, path = "/api/v1/mailings", operation_id = "list_mailings", tag = "mailings", params(ListQuery),
    responses(
        (status = 200, description = "A page of mailings", body = Page<MailingView>),
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
    Ok(HttpResponse::Ok().json(page.view::<MailingView<'_>>()))
}

/// Preview a mailing
///
/// Returns the number of clients that a filter selects, a sample of them, the expected duration of sending, and a
/// comparison of that with the window.
#[utoipa::path(post, path = "/api/v1/mailings/preview", operation_id = "preview_mailing", tag = "mailings",
    request_body = PreviewBody,
    responses(
        (status = 200, description = "The preview of the mailing", body = PreviewView),
    ))]
pub async fn preview_mailing(service: web::Data<Mailings>, body: Json<PreviewBody>) -> Result<HttpResponse> {
    let preview = service.preview(body.0.into_draft()?).await?;
    Ok(HttpResponse::Ok().json(PreviewView::from(&preview)))
}

/// Count all mailings and their messages
#[utoipa::path(get, path = "/api/v1/mailings/stats", operation_id = "get_mailings_overview", tag = "mailings",
    responses(
        (status = 200, description = "The statistics of all mailings", body = OverviewView),
    ))]
pub async fn get_overview(service: web::Data<Mailings>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(OverviewView::from(&service.overview().await?)))
}

/// Read a mailing
#[utoipa::path(get, path = "/api/v1/mailings/{id}", operation_id = "get_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The mailing with its counts", body = MailingView),
    ))]
pub async fn get_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(MailingView::from(&service.get(path_id(&id)?).await?)))
}

/// Read the statistics of a mailing
#[utoipa::path(get, path = "/api/v1/mailings/{id}/stats", operation_id = "get_mailing_stats", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The statistics of the mailing", body = MailingStatsView),
    ))]
pub async fn get_mailing_stats(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(MailingStatsView::from(&service.stats(path_id(&id)?).await?)))
}

/// Change a mailing
///
/// Changes a mailing. Before it starts, everything can change. After that only `ends_at` and `rate_per_second` can. A
/// finished or cancelled mailing is read-only.
#[utoipa::path(patch, path = "/api/v1/mailings/{id}", operation_id = "patch_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")), request_body = MailingPatch,
    responses(
        (status = 200, description = "The changed mailing", body = MailingView),
        (status = 409, description = "The status of the mailing does not allow the change"),
    ))]
pub async fn patch_mailing(
    service: web::Data<Mailings>,
    id: web::Path<String>,
    body: Json<MailingPatch>,
) -> Result<HttpResponse> {
    let changed = service.patch(path_id(&id)?, body.0.into_change()?).await?;
    Ok(HttpResponse::Ok().json(MailingView::from(&changed)))
}

/// Delete a mailing that has not started
#[utoipa::path(delete, path = "/api/v1/mailings/{id}", operation_id = "delete_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 204, description = "The mailing was deleted"),
        (status = 409, description = "The mailing has started"),
    ))]
pub async fn delete_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    service.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Pause a mailing
///
/// Pauses a mailing: messages in flight are finished, and no more are started. The window goes on meanwhile.
#[utoipa::path(post, path = "/api/v1/mailings/{id}/pause", operation_id = "pause_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The paused mailing", body = MailingView),
        (status = 409, description = "The mailing is neither pending nor running"),
    ))]
pub async fn pause_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(MailingView::from(&service.pause(path_id(&id)?).await?)))
}

/// Resume a paused mailing
#[utoipa::path(post, path = "/api/v1/mailings/{id}/resume", operation_id = "resume_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The resumed mailing", body = MailingView),
        (status = 409, description = "The mailing is not paused"),
    ))]
pub async fn resume_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(MailingView::from(&service.resume(path_id(&id)?).await?)))
}

/// Cancel a mailing for good
///
/// Cancels a mailing for good: messages in flight are finished, and all others become *cancelled* in the background.
#[utoipa::path(post, path = "/api/v1/mailings/{id}/cancel", operation_id = "cancel_mailing", tag = "mailings",
    params(("id" = String, Path, format = Uuid, description = "The mailing")),
    responses(
        (status = 200, description = "The cancelled mailing", body = MailingView),
        (status = 409, description = "The mailing is already finished or cancelled"),
    ))]
pub async fn cancel_mailing(service: web::Data<Mailings>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(MailingView::from(&service.cancel(path_id(&id)?).await?)))
}
