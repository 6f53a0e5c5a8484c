//! Suppressions over HTTP: `/api/v1/suppressions`.

pub mod file;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use self::file::import_suppressions;
use super::model::{LONGEST_SOURCE, NewSuppression, Suppression, SuppressionFilter, SuppressionReason};
use super::usecase::Suppressions;
use crate::clients::reach;
use crate::db::types::SuppressionId;
use crate::error::{Complaints, Error, Result};
use crate::http::export;
use crate::http::json::{Query, given, path_id};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::{ChannelKind, ChannelToPeople, description, group};
use crate::paging::{self, Page};

/// Registers the routes under the API's root.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/suppressions")
            .route(get().to(list_suppressions))
            .route(web::post().to(create_suppression))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/suppressions/import")
            .route(web::post().to(import_suppressions))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/suppressions/{id}")
            .route(get().to(get_suppression))
            .route(web::delete().to(delete_suppression))
            .default_service(others("GET, HEAD, DELETE")),
    );
}

/// An address that nothing is to be sent to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"channel": "email", "address": "dora@example.com", "reason": "bounced"}))]
pub struct SuppressionBody {
    /// The channel that the address is one of.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The address, in any spelling.
    #[schema(min_length = 1, max_length = 4096)]
    pub address: String,
    /// Only this group of messages; absent: all messages.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, pattern = "^[a-z0-9_.-]{1,64}$")]
    pub group: Option<String>,
    /// Why; `manual` when absent. Transactional messages pass `unsubscribed` and `imported`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<SuppressionReason>, nullable = false)]
    pub reason: Option<String>,
    /// Where it comes from; `api` when absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    pub source: Option<String>,
    /// Words of yours.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, max_length = 500)]
    pub note: Option<String>,
}

impl SuppressionBody {
    fn into_new(self, defaults: (SuppressionReason, &str)) -> Result<NewSuppression> {
        let mut wrong = Complaints::default();
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let address =
            channel.and_then(|channel| wrong.check("address", reach::parse(channel, self.address.trim())));
        let group = self.group.and_then(|word| wrong.check("group", group(&word)));
        let reason = self.reason.and_then(|word| wrong.check("reason", word.parse::<SuppressionReason>()));
        let source = self.source.unwrap_or_else(|| defaults.1.to_owned());
        wrong.check("source", is_source(&source));
        if let Some(note) = &self.note {
            wrong.check("note", description(note));
        }
        wrong.finish()?;
        let missing = || Error::internal("a suppression was read without complaint and is not whole");
        Ok(NewSuppression {
            channel: channel.ok_or_else(missing)?,
            address: address.ok_or_else(missing)?,
            group,
            reason: reason.unwrap_or(defaults.0),
            source,
            note: self.note,
            since: None,
        })
    }
}

fn is_source(text: &str) -> std::result::Result<(), &'static str> {
    let is_good = !text.trim().is_empty()
        && !text.chars().any(char::is_control)
        && text.chars().nth(LONGEST_SOURCE).is_none();
    if is_good { Ok(()) } else { Err("must be 1 to 100 characters, no control characters among them") }
}

/// Suppress an address
///
/// Nothing is sent to the address any more, or nothing of the group, whichever client has it, now or later. What waits is
/// cancelled. An address that is suppressed already for this reason stays as it is.
#[utoipa::path(post, path = "/api/v1/suppressions", operation_id = "create_suppression", tag = "suppressions",
    request_body = SuppressionBody, params(KeyHeader),
    responses(
        (status = 201, description = "The suppression, and its address in `Location`", body = Suppression,
            headers(("Location" = String, description = "The path of the suppression"))),
        (status = 200, description = "The suppression that was there already", body = Suppression),
    ))]
pub async fn create_suppression(
    suppressions: web::Data<Suppressions>,
    posted: Posted<SuppressionBody>,
) -> Result<HttpResponse> {
    let new = posted.value.into_new((SuppressionReason::Manual, "api"))?;
    let answer = |stored: &Suppression, is_new: bool| {
        let location = format!("/api/v1/suppressions/{}", stored.id);
        if is_new { Answer::created(location, stored) } else { Answer::new(200, None, stored) }
    };
    Ok(respond(suppressions.create(new, posted.key, answer).await?))
}

/// Which suppressions to list; all that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuppressionQuery {
    /// Only addresses of this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Only this address, in any spelling; needs `channel`.
    #[param(nullable = false)]
    address: Option<String>,
    /// Only for this reason.
    #[param(value_type = Option<SuppressionReason>, inline, nullable = false)]
    reason: Option<String>,
    /// Only of this group.
    #[param(nullable = false, pattern = "^[a-z0-9_.-]{1,64}$")]
    group: Option<String>,
    /// How many to answer, 1 to 1000; of a CSV file the most rows, all when absent.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
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
                wrong.add("address", "needs `channel`, which says what an address is");
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
/// In the order of their making, a page at a time. With `Accept: text/csv` all of them as a file that can be imported again.
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
/// The address is written to again, unless another suppression stands against it. Only do this when its owner asked for it.
#[utoipa::path(delete, path = "/api/v1/suppressions/{id}", operation_id = "delete_suppression", tag = "suppressions",
    params(("id" = String, Path, format = Uuid, description = "The id of the suppression")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_suppression(
    suppressions: web::Data<Suppressions>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    suppressions.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
