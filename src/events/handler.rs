//! The HTTP handlers of events: `/api/v1/events`, the short paths `/events` and `/main`, and the test of routes. Also
//! the intake of events from a broker.

pub mod broker;
pub mod schema;

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{ActionBody, EventBatchBody, EventBody};
use super::model::{AcceptedEvent, Source};
use super::usecase::{AcceptOutcome, AcceptResult, EventListFilter, Events, KeyedResponse};
use super::views::{
    ActionAccepted, ActionDone, EventAccepted, EventBatchAccepted, EventBatchRehearsed, EventDone,
    EventRehearsed, EventView, EventWithNotificationsView, PlanView,
};
use crate::db::types::EventId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, PostedItems, replayed, respond};
use crate::http::json::{Json, Query, time};
use crate::http::operations::{Operations, operations};
use crate::http::prefer::{PreferHeader, Preference, applied};
use crate::idempotency::{Created, IdempotencyKey, IdempotentResponse};
use crate::paging::{self, Page};
use crate::routes::pattern::EventName;

/// The maximum size of a batch's body, in bytes.
const LARGEST_BATCH: usize = 16 * 1024 * 1024;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_events: EventsRead,
        create_event: EventsWrite,
        create_events: EventsWrite,
        get_event: EventsRead,
        test_routes: EventsRead,
        create_action: EventsWrite,
        create_event_by_short_path: EventsWrite,
    ]
}

/// Send an event
///
/// Accepts an event and creates the messages of its routes, all on disk before the response. The same event with the
/// same `id` is accepted once, and a different event with that `id` is refused. `Prefer: wait=10` (RFC 7240) waits up
/// to 10 seconds for the final statuses of the messages: the response is 200 with them, or 202 with the present
/// statuses after that time.
#[utoipa::path(post, path = "/api/v1/events", operation_id = "create_event", tag = "events",
    request_body = EventBody, params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 202, description = "The event was accepted", body = EventAccepted),
        (status = 200, description = "With `wait`: the event with its messages. For a dry run: the messages that it \
            would cause", body = EventDone),
    ))]
pub async fn create_event(
    events: web::Data<Events>,
    dry_run: DryRun,
    preference: Preference,
    posted: Posted<EventBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plan = events.rehearse(posted.value.into_new()?).await?;
        return Ok(HttpResponse::Ok().json(EventRehearsed::from(&plan)));
    }
    let event = posted.value.into_new()?;
    let keyed =
        keyed(posted.key, |taken| IdempotentResponse::new(202, None, &EventAccepted::new(single(taken)?)));
    let mut answer = match preference {
        Preference::Wait(patience) => {
            let (done, is_known) = events.accept_and_wait(event, patience, keyed).await?;
            let is_done = done.notifications.iter().all(|notification| notification.status.is_final());
            let mut answer = if is_done { HttpResponse::Ok() } else { HttpResponse::Accepted() };
            let mut answer = answer.json(EventAccepted::waited(&done));
            replayed(&mut answer, is_known);
            answer
        }
        Preference::None | Preference::Async => match events.accept(event, Source::Api, keyed).await? {
            AcceptOutcome::Accepted(taken) => {
                let accepted = single(&taken)?;
                let mut answer = HttpResponse::Accepted().json(EventAccepted::new(accepted));
                replayed(&mut answer, accepted.is_known);
                answer
            }
            AcceptOutcome::Before(answer) => respond(Created::<()>::Before(answer)),
        },
    };
    applied(&mut answer, preference);
    Ok(answer)
}

/// Returns the idempotency key of a request, if it has one, with the response to store under it.
fn keyed(
    key: Option<IdempotencyKey>,
    answer: impl Fn(&[AcceptResult]) -> Result<IdempotentResponse> + Send + Sync + 'static,
) -> Option<KeyedResponse> {
    key.map(|key| KeyedResponse { key, answer: Arc::new(answer) })
}

/// Returns the result for the only event of a request.
fn single(taken: &[AcceptResult]) -> Result<&AcceptedEvent> {
    match taken.first() {
        Some(Ok(accepted)) => Ok(accepted),
        Some(Err(fields)) => Err(Error::Invalid(fields.clone())),
        None => Err(Error::internal("a request with one event has no result")),
    }
}

/// Send an event by the short path
#[utoipa::path(post, path = "/events", operation_id = "create_event_by_its_short_path", tag = "events",
    request_body = EventBody, params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 202, description = "The event was accepted", body = EventAccepted),
        (status = 200, description = "With `wait`: the event with its messages. For a dry run: the messages that it \
            would cause", body = EventDone),
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
/// Accepts an action: an event whose type is `action`. Without a route it is stored and causes no messages.
#[utoipa::path(post, path = "/main", operation_id = "create_action", tag = "events",
    request_body = ActionBody, params(DryRunQuery, KeyHeader),
    responses((status = 200, description = "The action was stored. For a dry run: its messages", body = ActionDone)))]
pub async fn create_action(
    events: web::Data<Events>,
    dry_run: DryRun,
    posted: Posted<ActionBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plan = events.rehearse(posted.value.into_new()?).await?;
        return Ok(HttpResponse::Ok().json(EventRehearsed::from(&plan)));
    }
    let keyed =
        keyed(posted.key, |taken| IdempotentResponse::new(200, None, &ActionAccepted::new(single(taken)?)));
    match events.accept(posted.value.into_new()?, Source::Api, keyed).await? {
        AcceptOutcome::Accepted(taken) => {
            let accepted = single(&taken)?;
            let mut answer = HttpResponse::Ok().json(ActionAccepted::new(accepted));
            replayed(&mut answer, accepted.is_known);
            Ok(answer)
        }
        AcceptOutcome::Before(answer) => Ok(respond(Created::<()>::Before(answer))),
    }
}

/// Send events
///
/// Accepts a batch of 1 to 1000 events. Each is accepted or rejected separately.
#[utoipa::path(post, path = "/api/v1/events/batch", operation_id = "create_events", tag = "events",
    request_body = EventBatchBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the expected result for each event", body = EventBatchRehearsed),
        (status = 202, description = "The result for each event", body = EventBatchAccepted),
        (status = 413, description = "The body is larger than 16 MiB"),
    ))]
pub async fn create_events(
    events: web::Data<Events>,
    dry_run: DryRun,
    posted: PostedItems<EventBatchBody, LARGEST_BATCH>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        let plans = events.rehearse_all(posted.value.into_wanted()?).await?;
        return Ok(HttpResponse::Ok().json(EventBatchRehearsed::new(&plans)?));
    }
    let keyed =
        keyed(posted.key, |taken| IdempotentResponse::new(202, None, &EventBatchAccepted::new(taken)?));
    match events.accept_all(posted.value.into_wanted()?, Source::Api, keyed).await? {
        AcceptOutcome::Accepted(taken) => {
            let is_known = taken.iter().flatten().all(|accepted| accepted.is_known);
            let mut answer = HttpResponse::Accepted().json(EventBatchAccepted::new(&taken)?);
            replayed(&mut answer, is_known);
            Ok(answer)
        }
        AcceptOutcome::Before(answer) => Ok(respond(Created::<()>::Before(answer))),
    }
}

/// The query parameters of the list of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only events of this type.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        nullable = false
    )]
    event: Option<String>,
    /// Lists only events that were accepted at this time or later, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    from: Option<String>,
    /// Lists only events that were accepted at this time or earlier, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    to: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<EventId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List events
///
/// Lists events, the newest first.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "list_events", tag = "events",
    params(ListQuery), responses((status = 200, description = "A page of events", body = Page<EventView>)))]
pub async fn list_events(events: web::Data<Events>, Query(query): Query<ListQuery>) -> Result<HttpResponse> {
    let at =
        |name: &str, text: Option<&str>| text.map(time).transpose().map_err(|why| Error::invalid(name, why));
    let name = query.event.as_deref().map(str::parse::<EventName>).transpose();
    let filter = EventListFilter {
        name: name.map_err(|why| Error::invalid("event", why))?.map(|name| name.to_string()),
        from: at("from", query.from.as_deref())?,
        to: at("to", query.to.as_deref())?,
        before: paging::cursor(query.cursor.as_deref())?,
    };
    let (items, next) = events.list(filter, paging::limit(query.limit.as_deref())?).await?;
    let page = Page { items, next_cursor: next.map(|id| id.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<EventView<'_>>()))
}

/// Read an event with its messages
///
/// Returns an event by the service's `event_id` or by the sender's `id`.
#[utoipa::path(get, path = "/api/v1/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = String, Path, description = "The `event_id`, or the sender's `id`")),
    responses((status = 200, description = "The event with its messages", body = EventWithNotificationsView)))]
pub async fn get_event(events: web::Data<Events>, id: web::Path<String>) -> Result<HttpResponse> {
    let found = events.get(id.into_inner()).await?;
    Ok(HttpResponse::Ok().json(EventWithNotificationsView::from(&found)))
}

/// Test the routes
///
/// Returns the messages that an event would cause, rendered. Nothing is stored or sent.
#[utoipa::path(post, path = "/api/v1/routes/test", operation_id = "test_routes", tag = "events",
    request_body = EventBody,
    responses((status = 200, description = "The messages that would be sent, and the skipped ones", body = PlanView)))]
pub async fn test_routes(events: web::Data<Events>, body: Json<EventBody>) -> Result<HttpResponse> {
    let plan = events.rehearse(body.0.into_new()?).await?;
    Ok(HttpResponse::Ok().json(PlanView::from(&plan)))
}
