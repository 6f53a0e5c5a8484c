//! Dead letters over HTTP: `/api/v1/dead-letters`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::model::{
    DeadLetter, DeadLetterDetails, DroppedLetters, LetterFilter, LetterKind, Replay, ReplayedLetter,
};
use super::usecase::DeadLetters;
use crate::db::types::{EventId, MailingId, ReplayId, Timestamp};
use crate::error::{Complaints, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, given, path_id, time};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::{ChannelKind, ErrorClass};
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/dead-letters")
            .route(get().to(list_dead_letters))
            .default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/dead-letters/drop")
            .route(web::post().to(drop_dead_letters))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/dead-letters/replays")
            .route(get().to(list_replays))
            .route(web::post().to(create_replay))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/dead-letters/replays/{id}")
            .route(get().to(get_replay))
            .route(web::delete().to(cancel_replay))
            .default_service(others("GET, HEAD, DELETE")),
    )
    .service(
        web::resource("/dead-letters/{id}")
            .route(get().to(get_dead_letter))
            .route(web::delete().to(delete_dead_letter))
            .default_service(others("GET, HEAD, DELETE")),
    )
    .service(
        web::resource("/dead-letters/{id}/replay")
            .route(web::post().to(replay_dead_letter))
            .default_service(others("POST")),
    );
}

/// Which dead letters to list; all that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only messages of this channel.
    #[param(value_type = Option<ChannelKind>, inline, nullable = false)]
    channel: Option<String>,
    /// Only what failed for this reason.
    #[param(value_type = Option<ErrorClass>, inline, nullable = false)]
    class: Option<String>,
    /// Only messages of this mailing.
    #[param(value_type = Option<MailingId>, inline, nullable = false)]
    mailing_id: Option<String>,
    /// Only messages that this event caused.
    #[param(value_type = Option<EventId>, inline, nullable = false)]
    event_id: Option<String>,
    /// Only messages, or only events.
    #[param(value_type = Option<LetterKind>, inline, nullable = false)]
    kind: Option<String>,
    /// RFC 3339: only what failed at this time or later.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_after: Option<String>,
    /// RFC 3339: only what failed before this time.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_before: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Which dead letters; all that is given must hold, and nothing given means all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterFilterBody {
    /// Only messages of this channel.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ChannelKind>, nullable = false)]
    channel: Option<String>,
    /// Only what failed for this reason.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ErrorClass>, nullable = false)]
    class: Option<String>,
    /// Only messages of this mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<MailingId>, nullable = false)]
    mailing_id: Option<String>,
    /// Only messages that this event caused.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<EventId>, nullable = false)]
    event_id: Option<String>,
    /// Only messages, or only events.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<LetterKind>, nullable = false)]
    kind: Option<String>,
    /// RFC 3339: only what failed at this time or later.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_after: Option<String>,
    /// RFC 3339: only what failed before this time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_before: Option<String>,
}

impl LetterFilterBody {
    /// The filter; complaints name the fields with `prefix`.
    fn read(&self, prefix: &str) -> Result<LetterFilter> {
        fn id<T: std::str::FromStr>(text: &str) -> std::result::Result<T, String> {
            text.parse().map_err(|_| format!("`{text}` is not a UUID"))
        }
        fn one<T>(
            complaints: &mut Complaints,
            field: String,
            text: Option<&str>,
            read: impl FnOnce(&str) -> std::result::Result<T, String>,
        ) -> Option<T> {
            text.and_then(|text| complaints.check(&field, read(text)))
        }
        let named = |field: &str| format!("{prefix}{field}");
        let mut wrong = Complaints::default();
        let filter = LetterFilter {
            channel: one(&mut wrong, named("channel"), self.channel.as_deref(), str::parse::<ChannelKind>),
            class: one(&mut wrong, named("class"), self.class.as_deref(), str::parse::<ErrorClass>),
            mailing_id: one(&mut wrong, named("mailing_id"), self.mailing_id.as_deref(), id),
            event_id: one(&mut wrong, named("event_id"), self.event_id.as_deref(), id),
            kind: one(&mut wrong, named("kind"), self.kind.as_deref(), str::parse::<LetterKind>),
            failed_after: one::<Timestamp>(
                &mut wrong,
                named("failed_after"),
                self.failed_after.as_deref(),
                time,
            ),
            failed_before: one(&mut wrong, named("failed_before"), self.failed_before.as_deref(), time),
        };
        wrong.finish()?;
        Ok(filter)
    }
}

/// A replay to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"filter": {"channel": "sms", "class": "exhausted"}, "rate_per_second": 200}))]
pub struct ReplayBody {
    /// Which letters.
    filter: LetterFilterBody,
    /// How many a second at most, 0.1 to 100000; absent: what the service's settings say.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 0.1, maximum = 100_000)]
    rate_per_second: Option<f64>,
}

/// What to drop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"filter": {"class": "gone"}}))]
pub struct DropBody {
    /// Which letters.
    filter: LetterFilterBody,
}

/// List dead letters
///
/// Those that can be replayed, the last failure first.
#[utoipa::path(get, path = "/api/v1/dead-letters", operation_id = "list_dead_letters", tag = "dead letters",
    params(ListQuery),
    responses(
        (status = 200, description = "One page", body = Page<DeadLetter>),
    ))]
pub async fn list_dead_letters(
    service: web::Data<DeadLetters>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let ListQuery { channel, class, mailing_id, event_id, kind, failed_after, failed_before, limit, cursor } =
        query;
    let filter = LetterFilterBody { channel, class, mailing_id, event_id, kind, failed_after, failed_before }
        .read("")?;
    let (after, limit) = (paging::cursor(cursor.as_deref())?, paging::limit(limit.as_deref())?);
    let (items, next) = service.list(filter, after, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|place| place.to_string()) }))
}

/// Read a dead letter
///
/// With its message and all that was tried, or with what the event said.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", operation_id = "get_dead_letter", tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's letter")),
    responses(
        (status = 200, description = "The letter", body = DeadLetterDetails),
    ))]
pub async fn get_dead_letter(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Replay a dead letter
///
/// Its message waits for a new attempt, under the same id and with its whole schedule of further attempts. However often
/// this is asked, it is replayed once.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/replay", operation_id = "replay_dead_letter",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's letter")),
    responses(
        (status = 200, description = "The message as it waits", body = ReplayedLetter),
        (status = 409, description = "It cannot be replayed, or was already"),
    ))]
pub async fn replay_dead_letter(
    service: web::Data<DeadLetters>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.replay(path_id(&id)?).await?))
}

/// Drop a dead letter
///
/// It cannot be replayed any more. Its message stays *failed*.
#[utoipa::path(delete, path = "/api/v1/dead-letters/{id}", operation_id = "delete_dead_letter",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's letter")),
    responses(
        (status = 204, description = "It is dropped"),
    ))]
pub async fn delete_dead_letter(
    service: web::Data<DeadLetters>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    service.drop_one(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Drop dead letters by a filter
///
/// All that the filter lets through and that has failed by now.
#[utoipa::path(post, path = "/api/v1/dead-letters/drop", operation_id = "delete_dead_letters",
    tag = "dead letters",
    request_body = DropBody,
    params(DryRunQuery),
    responses(
        (status = 200, description = "How many there were; or, for a dry run, how many there are", body = DroppedLetters),
    ))]
pub async fn drop_dead_letters(
    service: web::Data<DeadLetters>,
    dry_run: DryRun,
    body: Json<DropBody>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.drop_all(body.0.filter.read("filter.")?, dry_run.0).await?))
}

/// Replay dead letters by a filter
///
/// In the background, the first failure first: all that the filter lets through and that has failed by now, each once,
/// whatever happens to the service meanwhile. What cannot be replayed is counted by its reason, and stays.
#[utoipa::path(post, path = "/api/v1/dead-letters/replays", operation_id = "create_replay", tag = "dead letters",
    request_body = ReplayBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the replay as it would be", body = Replay),
        (status = 202, description = "The replay, and its address in `Location`", body = Replay,
            headers(("Location" = String, description = "The path of the replay"))),
    ))]
pub async fn create_replay(
    service: web::Data<DeadLetters>,
    dry_run: DryRun,
    posted: Posted<ReplayBody>,
) -> Result<HttpResponse> {
    let mut wrong = Complaints::default();
    let rate = posted.value.rate_per_second;
    if rate.is_some_and(|rate| !(0.1..=100_000.0).contains(&rate)) {
        wrong.add("rate_per_second", "must be 0.1 to 100000");
    }
    wrong.finish()?;
    let filter = posted.value.filter.read("filter.")?;
    let answer =
        |made: &Replay| Answer::new(202, Some(format!("/api/v1/dead-letters/replays/{}", made.id)), made);
    Ok(respond(service.create_replay(filter, rate, dry_run.mode(posted.key), answer).await?))
}

/// Which replays to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReplaysQuery {
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<ReplayId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List replays
///
/// The newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters/replays", operation_id = "list_replays", tag = "dead letters",
    params(ReplaysQuery),
    responses(
        (status = 200, description = "One page", body = Page<Replay>),
    ))]
pub async fn list_replays(
    service: web::Data<DeadLetters>,
    Query(query): Query<ReplaysQuery>,
) -> Result<HttpResponse> {
    let (before, limit) = (paging::cursor(query.cursor.as_deref())?, paging::limit(query.limit.as_deref())?);
    let (items, next) = service.list_replays(before, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a replay
#[utoipa::path(get, path = "/api/v1/dead-letters/replays/{id}", operation_id = "get_replay", tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the replay")),
    responses(
        (status = 200, description = "Where it is", body = Replay),
    ))]
pub async fn get_replay(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get_replay(path_id(&id)?).await?))
}

/// Cancel a replay
///
/// What was replayed stays so; the other letters stay too.
#[utoipa::path(delete, path = "/api/v1/dead-letters/replays/{id}", operation_id = "cancel_replay",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the replay")),
    responses(
        (status = 200, description = "The replay as it ended", body = Replay),
        (status = 409, description = "It is over"),
    ))]
pub async fn cancel_replay(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.cancel_replay(path_id(&id)?).await?))
}
