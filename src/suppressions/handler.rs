//! The HTTP handlers of suppressions: `/api/v1/suppressions`.

mod body;
pub mod file;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use self::body::SuppressionBody;
use super::model::{Suppression, SuppressionFilter, SuppressionReason};
use super::usecase::Suppressions;
use crate::clients::reach;
use crate::db::types::SuppressionId;
use crate::error::{Complaints, Result};
use crate::http::export;
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::kinds::{ChannelKind, ChannelToPeople, group};
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_suppressions: SuppressionsRead,
        create_suppression: SuppressionsWrite,
        get_suppression: SuppressionsRead,
        delete_suppression: SuppressionsWrite,
    ]
    .and(file::operations())
}

/// Suppress an address
///
/// Suppresses all messages to an address, or those of a group, whichever client has the address now or later. Queued
/// messages are cancelled. An address that is already suppressed for this reason stays as it is.
#[utoipa::path(post, path = "/api/v1/suppressions", operation_id = "create_suppression", tag = "suppressions",
    request_body = SuppressionBody, params(KeyHeader),
    responses(
        (status = 201, description = "The suppression, with its path in `Location`", body = Suppression,
            headers(("Location" = String, description = "The path of the suppression"))),
        (status = 200, description = "The existing suppression", body = Suppression),
    ))]
pub async fn create_suppression(
    suppressions: web::Data<Suppressions>,
    posted: Posted<SuppressionBody>,
) -> Result<HttpResponse> {
    let new = posted.value.into_new((SuppressionReason::Manual, "api"))?;
    let answer = |stored: &Suppression, is_new: bool| {
        let location = format!("/api/v1/suppressions/{}", stored.id);
        if is_new {
            IdempotentResponse::created(location, stored)
        } else {
            IdempotentResponse::new(200, None, stored)
        }
    };
    Ok(respond(suppressions.create(new, posted.key, answer).await?))
}

/// The query parameters of the list of suppressions; all must match.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuppressionQuery {
    /// Lists only addresses of this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Lists only this address, in any spelling; requires `channel`.
    #[param(nullable = false)]
    address: Option<String>,
    /// Lists only suppressions with this reason.
    #[param(value_type = Option<SuppressionReason>, inline, nullable = false)]
    reason: Option<String>,
    /// Lists only suppressions of this group.
    #[param(nullable = false, pattern = "^[a-z0-9_.-]{1,64}$")]
    group: Option<String>,
    /// The largest number of items to return, 1 to 1000; for a CSV file the largest number of rows, unlimited if
    /// absent.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<SuppressionId>, inline, nullable = false)]
    cursor: Option<String>,
}

impl SuppressionQuery {
    fn filter(&self) -> Result<SuppressionFilter> {
        let mut wrong = Complaints::default();
        let channel = self.channel.as_deref().map(ChannelKind::to_people);
        let channel = channel.and_then(|channel| wrong.check("channel", channel));
        let address = match (channel, self.address.as_deref()) {
            (Some(channel), Some(text)) => {
                wrong.check("address", reach::parse(channel, text)).map(|address| (channel, address))
            }
            (None, Some(_)) => {
                wrong.add("address", "requires `channel`, which determines the format of an address");
                None
            }
            (_, None) => None,
        };
        let reason = self.reason.as_deref().map(str::parse::<SuppressionReason>);
        let reason = reason.and_then(|reason| wrong.check("reason", reason));
        let group = self.group.as_deref().and_then(|word| wrong.check("group", group(word)));
        wrong.finish()?;
        Ok(SuppressionFilter { channel, reason, group, address })
    }
}

/// List suppressions
///
/// Lists suppressions in the order of creation, a page at a time. With `Accept: text/csv` it returns all of them as a
/// file that can be imported again.
#[utoipa::path(get, path = "/api/v1/suppressions", operation_id = "list_suppressions", tag = "suppressions",
    params(SuppressionQuery),
    responses((status = 200, description = "A page of suppressions, or all of them as CSV", content(
        (Page<Suppression> = "application/json"), (String = "text/csv")))))]
pub async fn list_suppressions(
    suppressions: web::Data<Suppressions>,
    request: HttpRequest,
    Query(query): Query<SuppressionQuery>,
) -> Result<HttpResponse> {
    let filter = query.filter()?;
    let cursor = paging::cursor(query.cursor.as_deref())?;
    if export::is_wanted(&request) {
        let most = export::limit(query.limit.as_deref())?;
        return file::export(&request, suppressions.into_inner(), filter, (cursor, most)).await;
    }
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = suppressions.list(filter, cursor, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a suppression
#[utoipa::path(get, path = "/api/v1/suppressions/{id}", operation_id = "get_suppression", tag = "suppressions",
    params(("id" = String, Path, format = Uuid, description = "The id of the suppression")),
    responses((status = 200, description = "The suppression", body = Suppression)))]
pub async fn get_suppression(
    suppressions: web::Data<Suppressions>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(suppressions.get(path_id(&id)?).await?))
}

/// Remove a suppression
///
/// Removes a suppression. Messages are sent to the address again, unless it has another suppression. Only do this if
/// its owner asked for it.
#[utoipa::path(delete, path = "/api/v1/suppressions/{id}", operation_id = "delete_suppression", tag = "suppressions",
    params(("id" = String, Path, format = Uuid, description = "The id of the suppression")),
    responses((status = 204, description = "Removed")))]
pub async fn delete_suppression(
    suppressions: web::Data<Suppressions>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    suppressions.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
