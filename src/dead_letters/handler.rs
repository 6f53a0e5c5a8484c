//! The HTTP handlers of dead letters: `/api/v1/dead-letters`.

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
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, given, path_id, time};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::kinds::{ChannelKind, ErrorClass};
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_dead_letters: DeadLettersRead,
        drop_dead_letters: DeadLettersReplay,
        list_replays: DeadLettersRead,
        create_replay: DeadLettersReplay,
        get_replay: DeadLettersRead,
        cancel_replay: DeadLettersReplay,
        get_dead_letter: DeadLettersRead,
        delete_dead_letter: DeadLettersReplay,
        replay_dead_letter: DeadLettersReplay,
    ]
}

/// The query parameters of the list of dead letters; all given conditions must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only messages of this channel.
    #[param(value_type = Option<ChannelKind>, inline, nullable = false)]
    channel: Option<String>,
    /// Lists only dead letters of this class.
    #[param(value_type = Option<ErrorClass>, inline, nullable = false)]
    class: Option<String>,
    /// Lists only messages of this mailing.
    #[param(value_type = Option<MailingId>, inline, nullable = false)]
    mailing_id: Option<String>,
    /// Lists only messages that this event caused.
    #[param(value_type = Option<EventId>, inline, nullable = false)]
    event_id: Option<String>,
    /// Lists only messages, or only events.
    #[param(value_type = Option<LetterKind>, inline, nullable = false)]
    kind: Option<String>,
    /// RFC 3339; lists only failures at this time or later.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_after: Option<String>,
    /// RFC 3339; lists only failures before this time.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_before: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// A filter of dead letters; all given conditions must hold. An empty filter matches all dead letters.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterFilterBody {
    /// Matches only messages of this channel.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ChannelKind>, nullable = false)]
    channel: Option<String>,
    /// Matches only dead letters of this class.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ErrorClass>, nullable = false)]
    class: Option<String>,
    /// Matches only messages of this mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<MailingId>, nullable = false)]
    mailing_id: Option<String>,
    /// Matches only messages that this event caused.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<EventId>, nullable = false)]
    event_id: Option<String>,
    /// Matches only messages, or only events.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<LetterKind>, nullable = false)]
    kind: Option<String>,
    /// RFC 3339; matches only failures at this time or later.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_after: Option<String>,
    /// RFC 3339; matches only failures before this time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    failed_before: Option<String>,
}

impl LetterFilterBody {
    /// Validates the filter. Errors have the names of the fields with `prefix`.
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

/// The body of a new replay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"filter": {"channel": "sms", "class": "exhausted"}, "rate_per_second": 200}))]
pub struct ReplayBody {
    /// The dead letters to replay.
    filter: LetterFilterBody,
    /// The highest rate in dead letters per second, 0.1 to 100000; the setting `REPLAY_RATE` if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = 0.1, maximum = 100_000)]
    rate_per_second: Option<f64>,
}

/// The dead letters to drop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"filter": {"class": "gone"}}))]
pub struct DropBody {
    /// The filter of the dead letters to drop.
    filter: LetterFilterBody,
}

/// List dead letters
///
/// Lists the dead letters that can be replayed, the newest failure first.
#[utoipa::path(get, path = "/api/v1/dead-letters", operation_id = "list_dead_letters", tag = "dead letters",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of dead letters", body = Page<DeadLetter>),
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
/// Returns a dead letter with its message and the attempts, or with its event.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", operation_id = "get_dead_letter", tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's dead letter")),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterDetails),
    ))]
pub async fn get_dead_letter(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Replay a dead letter
///
/// Queues the message again, under the same id and with the whole schedule of retries; or accepts the event. Repeated
/// calls replay a dead letter once.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/replay", operation_id = "replay_dead_letter",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's dead letter")),
    responses(
        (status = 200, description = "The replayed dead letter, with its queued message", body = ReplayedLetter),
        (status = 409, description = "The dead letter cannot be replayed, or was replayed already"),
    ))]
pub async fn replay_dead_letter(
    service: web::Data<DeadLetters>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.replay(path_id(&id)?).await?))
}

/// Drop a dead letter
///
/// Drops a dead letter, which can no longer be replayed. Its message stays *failed*.
#[utoipa::path(delete, path = "/api/v1/dead-letters/{id}", operation_id = "delete_dead_letter",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the message, or of the event's dead letter")),
    responses(
        (status = 204, description = "The dead letter is dropped"),
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
/// Drops the dead letters that match the filter and exist now.
#[utoipa::path(post, path = "/api/v1/dead-letters/drop", operation_id = "delete_dead_letters",
    tag = "dead letters",
    request_body = DropBody,
    params(DryRunQuery),
    responses(
        (status = 200, description = "The number of dropped dead letters, or in a dry run of matching ones",
            body = DroppedLetters),
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
/// Replays, in the background, the dead letters that match the filter and exist now, the oldest failure first. Each one
/// is replayed once, even if the service restarts meanwhile. Dead letters that cannot be replayed are counted by
/// reason, and remain.
#[utoipa::path(post, path = "/api/v1/dead-letters/replays", operation_id = "create_replay", tag = "dead letters",
    request_body = ReplayBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "A dry run: the replay that would be created", body = Replay),
        (status = 202, description = "The replay; its path is in `Location`", body = Replay,
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
    let answer = |made: &Replay| {
        IdempotentResponse::new(202, Some(format!("/api/v1/dead-letters/replays/{}", made.id)), made)
    };
    Ok(respond(service.create_replay(filter, rate, dry_run.mode(posted.key), answer).await?))
}

/// The query parameters of the list of replays.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReplaysQuery {
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<ReplayId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List replays
///
/// Lists replays, the newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters/replays", operation_id = "list_replays", tag = "dead letters",
    params(ReplaysQuery),
    responses(
        (status = 200, description = "A page of replays", body = Page<Replay>),
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
        (status = 200, description = "The replay", body = Replay),
    ))]
pub async fn get_replay(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get_replay(path_id(&id)?).await?))
}

/// Cancel a replay
///
/// Cancels a running replay. The messages that it replayed are unaffected, and the other dead letters remain.
#[utoipa::path(delete, path = "/api/v1/dead-letters/replays/{id}", operation_id = "cancel_replay",
    tag = "dead letters",
    params(("id" = uuid::Uuid, Path, description = "The id of the replay")),
    responses(
        (status = 200, description = "The cancelled replay", body = Replay),
        (status = 409, description = "The replay has ended"),
    ))]
pub async fn cancel_replay(service: web::Data<DeadLetters>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.cancel_replay(path_id(&id)?).await?))
}
