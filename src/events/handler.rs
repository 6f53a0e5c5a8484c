//! Events over HTTP: `/api/v1/events`, the seed's `/events`, and trying routes; and from a broker.

pub mod broker;
mod rehearsed;
pub mod schema;

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::rehearsed::{ActionDone, EventBatchRehearsed, EventDone, EventRehearsed};
pub use self::schema::{
    ActionAccepted, ActionBody, EventAccepted, EventBatchAccepted, EventBatchBody, EventBody,
};
use super::model::{Accepted, Event, EventWithNotifications, Plan, Source};
use super::usecase::{Events, Filter, Keyed, Outcome, Taken};
use crate::db::types::EventId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, time};
use crate::http::once::{KeyHeader, Posted, PostedItems, replayed, respond};
use crate::http::prefer::{PreferHeader, Preference, applied};
use crate::http::routing::{get, others};
use crate::idempotency::{Answer, Key, Made};
use crate::paging::{self, Page};
use crate::routes::pattern::EventName;

/// Bytes of a batch's body.
const LARGEST_BATCH: usize = 16 * 1024 * 1024;

/// Registers the routes under `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/events")
            .route(get().to(list_events))
            .route(web::post().to(create_event))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/events/batch").route(web::post().to(create_events)).default_service(others("POST")),
    )
    .service(web::resource("/events/{id}").route(get().to(get_event)).default_service(others("GET, HEAD")))
    .service(
        web::resource("/routes/test").route(web::post().to(test_routes)).default_service(others("POST")),
    );
}

/// Registers the short paths, at the root.
pub fn short_routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/main").route(web::post().to(create_action)).default_service(others("POST")));
    cfg.service(
        web::resource("/events")
            .route(web::post().to(create_event_by_short_path))
            .default_service(others("POST")),
    );
}

/// Send an event
///
/// Its routes say which messages it causes; it and they are on disk when this answers. The same `id` twice is one event; another
/// event with it is refused. `Prefer: wait=10` (RFC 7240) waits up to so many seconds for the
/// ends of its messages and answers 200 with them, or 202 with what is known when time is over.
#[utoipa::path(post, path = "/api/v1/events", operation_id = "create_event", tag = "events",
    request_body = EventBody, params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 202, description = "It is taken", body = EventAccepted),
        (status = 200, description = "Waited for: what became of its messages; for a dry run: what it would cause", body = EventDone),
    ))]
pub async fn create_event(
    events: web::Data<Events>,
    dry_run: DryRun,
    preference: Preference,
    posted: Posted<EventBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plan = events.rehearse(posted.value.into_new()?).await?;
        return Ok(HttpResponse::Ok().json(EventRehearsed::new(plan)));
    }
    let event = posted.value.into_new()?;
    let keyed = keyed(posted.key, |taken| Answer::new(202, None, &EventAccepted::new(single(taken)?)));
    let mut answer = match preference {
        Preference::Wait(patience) => {
            let (done, is_known) = events.accept_and_wait(event, patience, keyed).await?;
            let is_done = done.notifications.iter().all(|notification| notification.status.is_final());
            let mut answer = if is_done { HttpResponse::Ok() } else { HttpResponse::Accepted() };
            let mut answer = answer.json(EventAccepted::waited(done));
            replayed(&mut answer, is_known);
            answer
        }
        Preference::None | Preference::Async => match events.accept(event, Source::Api, keyed).await? {
            Outcome::Taken(taken) => {
                let accepted = single(&taken)?;
                let mut answer = HttpResponse::Accepted().json(EventAccepted::new(accepted));
                replayed(&mut answer, accepted.is_known);
                answer
            }
            Outcome::Before(answer) => respond(Made::<()>::Before(answer)),
        },
    };
    applied(&mut answer, preference);
    Ok(answer)
}

/// The key of a request, if it has one, with the answer that is kept under it.
fn keyed(
    key: Option<Key>,
    answer: impl Fn(&[Taken]) -> Result<Answer> + Send + Sync + 'static,
) -> Option<Keyed> {
    key.map(|key| Keyed { key, answer: Arc::new(answer) })
}

/// Returns the one event of a request as it was taken.
fn single(taken: &[Taken]) -> Result<&Accepted> {
    match taken.first() {
        Some(Ok(accepted)) => Ok(accepted),
        Some(Err(fields)) => Err(Error::Invalid(fields.clone())),
        None => Err(Error::internal("a request without an event was answered")),
    }
}

/// Send an event, by the short path
#[utoipa::path(post, path = "/events", operation_id = "create_event_by_its_short_path", tag = "events",
    request_body = EventBody, params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 202, description = "It is taken", body = EventAccepted),
        (status = 200, description = "Waited for: what became of its messages; for a dry run: what it would cause", body = EventDone),
    ))]
pub async fn create_event_by_short_path(
    events: web::Data<Events>,
    dry_run: DryRun,
    preference: Preference,
    posted: Posted<EventBody>,
) -> Result<HttpResponse> {
    create_event(events, dry_run, preference, posted).await
}

/// Send an action
///
/// It is an event of that type, which need not have a route: then it is kept and causes nothing.
#[utoipa::path(post, path = "/main", operation_id = "create_action", tag = "events",
    request_body = ActionBody, params(DryRunQuery, KeyHeader),
    responses((status = 200, description = "It is kept; for a dry run: what it would cause", body = ActionDone)))]
pub async fn create_action(
    events: web::Data<Events>,
    dry_run: DryRun,
    posted: Posted<ActionBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plan = events.rehearse(posted.value.into_new()?).await?;
        return Ok(HttpResponse::Ok().json(EventRehearsed::new(plan)));
    }
    let keyed = keyed(posted.key, |taken| Answer::new(200, None, &ActionAccepted::new(single(taken)?)));
    match events.accept(posted.value.into_new()?, Source::Api, keyed).await? {
        Outcome::Taken(taken) => {
            let accepted = single(&taken)?;
            let mut answer = HttpResponse::Ok().json(ActionAccepted::new(accepted));
            replayed(&mut answer, accepted.is_known);
            Ok(answer)
        }
        Outcome::Before(answer) => Ok(respond(Made::<()>::Before(answer))),
    }
}

/// Send events
///
/// 1 to 1000. Each is accepted or rejected for itself.
#[utoipa::path(post, path = "/api/v1/events/batch", operation_id = "create_events", tag = "events",
    request_body = EventBatchBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: what would become of each", body = EventBatchRehearsed),
        (status = 202, description = "What became of each", body = EventBatchAccepted),
        (status = 413, description = "The body is larger than 16 MiB"),
    ))]
pub async fn create_events(
    events: web::Data<Events>,
    dry_run: DryRun,
    posted: PostedItems<EventBatchBody, LARGEST_BATCH>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plans = events.rehearse_all(posted.value.into_wanted()?).await?;
        return Ok(HttpResponse::Ok().json(EventBatchRehearsed::new(plans)?));
    }
    let keyed = keyed(posted.key, |taken| Answer::new(202, None, &EventBatchAccepted::new(taken)?));
    match events.accept_all(posted.value.into_wanted()?, Source::Api, keyed).await? {
        Outcome::Taken(taken) => {
            let is_known = taken.iter().flatten().all(|accepted| accepted.is_known);
            let mut answer = HttpResponse::Accepted().json(EventBatchAccepted::new(&taken)?);
            replayed(&mut answer, is_known);
            Ok(answer)
        }
        Outcome::Before(answer) => Ok(respond(Made::<()>::Before(answer))),
    }
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those of this type.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        nullable = false
    )]
    event: Option<String>,
    /// Taken at this time or later, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    from: Option<String>,
    /// Taken at this time or earlier, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    to: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<EventId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List events
///
/// The latest first.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "list_events", tag = "events",
    params(ListQuery), responses((status = 200, description = "One page", body = Page<Event>)))]
pub async fn list_events(events: web::Data<Events>, Query(query): Query<ListQuery>) -> Result<HttpResponse> {
    let at =
        |name: &str, text: Option<&str>| text.map(time).transpose().map_err(|why| Error::invalid(name, why));
    let name = query.event.as_deref().map(str::parse::<EventName>).transpose();
    let filter = Filter {
        name: name.map_err(|why| Error::invalid("event", why))?.map(|name| name.to_string()),
        from: at("from", query.from.as_deref())?,
        to: at("to", query.to.as_deref())?,
        before: paging::cursor(query.cursor.as_deref())?,
    };
    let (items, next) = events.list(filter, paging::limit(query.limit.as_deref())?).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read an event with its messages
///
/// By the service's `event_id`, or by the sender's own `id`.
#[utoipa::path(get, path = "/api/v1/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = String, Path, description = "Its `event_id`, or the sender's own `id`")),
    responses((status = 200, description = "The event and what it caused", body = EventWithNotifications)))]
pub async fn get_event(events: web::Data<Events>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(events.get(id.into_inner()).await?))
}

/// Try the routes
///
/// Shows what an event would cause, rendered. Nothing is kept and nothing is sent.
#[utoipa::path(post, path = "/api/v1/routes/test", operation_id = "test_routes", tag = "events",
    request_body = EventBody,
    responses((status = 200, description = "What would be sent, and what would not", body = Plan)))]
pub async fn test_routes(events: web::Data<Events>, body: Json<EventBody>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(events.rehearse(body.0.into_new()?).await?))
}
