//! Notifications over HTTP: `/api/v1/notifications`, `/api/v1/batches`, and the two paths of `/notification`.

mod file;
mod schema;
pub mod trial;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{BatchAccepted, BatchBody, NotificationBody, NotificationPatch};
use super::model::{Batch, Notification, NotificationWithAttempts, Status};
use super::usecase::{Answering, Filter, Notifications, Order, Taken, answer_after_waiting};
use crate::clients::reach;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery, flag};
use crate::http::export;
use crate::http::json::{Json, Query, path_id, time};
use crate::http::once::{KeyHeader, Posted, PostedItems, respond};
use crate::http::prefer::{PreferHeader, Preference, applied};
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::{ChannelKind, ChannelToPeople, Priority};
use crate::paging::{self, Page};

/// Bytes of a batch's body.
const LARGEST_BATCH: usize = 16 * 1024 * 1024;
/// How far `page` leads into a list; farther on, `cursor` does.
const FARTHEST_PAGED: i64 = 10_000;

/// Registers the routes under `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/notifications")
            .route(get().to(list_notifications))
            .route(web::post().to(create_notification))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/notifications/batch")
            .route(web::post().to(create_batch))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/notifications/{id}")
            .route(get().to(get_notification))
            .route(web::patch().to(patch_notification))
            .route(web::delete().to(cancel_notification))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    )
    .service(
        web::resource("/channels/{name}/test")
            .route(web::post().to(trial::test_channel))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/batches/{id}")
            .route(get().to(get_batch))
            .route(web::delete().to(cancel_batch))
            .default_service(others("GET, HEAD, DELETE")),
    )
    .service(
        web::resource("/batches/{id}/notifications")
            .route(get().to(list_batch_notifications))
            .default_service(others("GET, HEAD")),
    );
}

/// Registers the short paths, at the root.
pub fn short_routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/notification").route(web::post().to(notify)).default_service(others("POST")))
        .service(
            web::resource("/notification/asynchronous")
                .route(web::post().to(notify_later))
                .default_service(others("POST")),
        )
        .service(
            web::resource("/notification/{id}")
                .route(get().to(get_notified))
                .default_service(others("GET, HEAD")),
        );
}

/// What may be asked of a new batch beside its body.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchQuery {
    /// `true`: all or none; otherwise those that are right are accepted.
    #[param(value_type = Option<bool>, nullable = false)]
    atomic: Option<String>,
    /// `true`: check it and show what it would be, without accepting it.
    #[param(value_type = Option<bool>, nullable = false)]
    dry_run: Option<String>,
}

/// What a list of notifications can be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those in this state; `sending` is taken for `processing`.
    #[param(value_type = Option<Status>, inline, nullable = false)]
    status: Option<String>,
    /// Only what goes out on this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Only those of this urgency.
    #[param(value_type = Option<Priority>, inline, nullable = false)]
    priority: Option<String>,
    /// Those of one batch.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    batch_id: Option<String>,
    /// Those that one event caused.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    event_id: Option<String>,
    /// Those to one address; needs `channel`, which says what an address is.
    #[param(min_length = 1, nullable = false)]
    recipient: Option<String>,
    /// Those for one client.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    client_id: Option<String>,
    /// Accepted at this time or later, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    from: Option<String>,
    /// Accepted at this time or earlier, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    to: Option<String>,
    /// Which page, from 1 on, as far as the first 10,000; farther on there is `cursor`.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10001, nullable = false)]
    page: Option<String>,
    /// How many to answer, 1 to 1000; of a CSV file the most rows, all when absent.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before; not beside `page`.
    #[param(value_type = Option<MessageId>, inline, nullable = false)]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<Filter> {
        fn word<T, E: Into<String>>(
            name: &str,
            value: Option<&str>,
            read: impl Fn(&str) -> std::result::Result<T, E>,
        ) -> Result<Option<T>> {
            value.map(read).transpose().map_err(|why| Error::invalid(name, why))
        }
        let id = |name: &str, text: Option<&str>| {
            text.map(str::parse::<uuid::Uuid>).transpose().map_err(|_| Error::invalid(name, "must be a UUID"))
        };
        let channel = word("channel", self.channel.as_deref(), ChannelKind::to_people)?;
        let recipient = match (&self.recipient, channel) {
            (Some(text), Some(channel)) => {
                let address = reach::parse(channel, text);
                Some(address.map_err(|why| Error::invalid("recipient", why))?)
            }
            (Some(_), None) => {
                return Err(Error::invalid("recipient", "needs `channel`, which says what an address is"));
            }
            (None, _) => None,
        };
        Ok(Filter {
            ids: None,
            status: word("status", self.status.as_deref(), Status::parse)?,
            channel,
            priority: word("priority", self.priority.as_deref(), str::parse)?,
            batch: id("batch_id", self.batch_id.as_deref())?.map(crate::db::types::BatchId),
            event: id("event_id", self.event_id.as_deref())?.map(crate::db::types::EventId),
            recipient,
            client: id("client_id", self.client_id.as_deref())?.map(crate::db::types::ClientId),
            from: word("from", self.from.as_deref(), time)?,
            to: word("to", self.to.as_deref(), time)?,
            after: paging::cursor(self.cursor.as_deref())?,
        })
    }

    /// The most rows of a file.
    fn most(&self) -> Result<u64> {
        if self.page.is_some() {
            return Err(Error::invalid(
                "page",
                "is for pages; a CSV file has all that match, and begins at `cursor`",
            ));
        }
        export::limit(self.limit.as_deref())
    }

    /// How many, after how many.
    fn window(&self) -> Result<(i64, i64)> {
        let limit = paging::limit(self.limit.as_deref())?;
        let Some(page) = &self.page else { return Ok((limit, 0)) };
        if self.cursor.is_some() {
            return Err(Error::invalid("page", "cannot stand beside `cursor`"));
        }
        let number = page.parse::<u32>().ok().filter(|page| *page > 0);
        let number = number.ok_or_else(|| Error::invalid("page", "must be a whole number from 1 on"))?;
        let offset = (i64::from(number) - 1) * limit;
        if offset > FARTHEST_PAGED {
            return Err(Error::invalid(
                "page",
                format!("leads beyond the first {FARTHEST_PAGED}; go on with `cursor`"),
            ));
        }
        Ok((limit, offset))
    }
}

/// Accept one and answer at once.
async fn at_once(
    service: &Notifications,
    posted: Posted<NotificationBody>,
    status: u16,
) -> Result<HttpResponse> {
    Ok(respond(service.create(posted.value.into_new()?, posted.key, status).await?))
}

/// Shows what one would be, without accepting it.
async fn rehearsed(service: &Notifications, posted: Posted<NotificationBody>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.rehearse(posted.value.into_new()?).await?))
}

/// Accept one and wait for its end.
async fn in_the_end(
    service: &Notifications,
    posted: Posted<NotificationBody>,
    waiting: (std::time::Duration, Answering),
) -> Result<HttpResponse> {
    Ok(respond(service.create_and_wait(posted.value.into_new()?, posted.key, waiting).await?))
}

/// The answer of the short path: 2xx is for what was sent, or may be yet.
fn sent_or_problem(found: &Notification) -> Result<Answer> {
    let (status, title, outcome) = match found.status {
        Status::Failed => (StatusCode::BAD_GATEWAY, "Bad gateway", "failed"),
        Status::Expired => (StatusCode::GATEWAY_TIMEOUT, "Gateway timeout", "expired"),
        Status::Cancelled => (StatusCode::CONFLICT, "Conflict", "was cancelled"),
        Status::Scheduled | Status::Queued | Status::Processing | Status::Sent => {
            return answer_after_waiting(found);
        }
    };
    let why = found.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let detail = format!("notification {} {outcome}{why}", found.id);
    let problem = Problem::new(status, "/problems/not-sent", title, detail).about(found.id.to_string());
    Answer::new(status.as_u16(), Some(format!("/api/v1/notifications/{}", found.id)), &problem)
}

/// Send a notification
///
/// It is on disk when this answers. `Prefer: wait=10` (RFC 7240) waits up to so many seconds for the final state and
/// answers 200 with it, or 202 with what is known when time is over; `Prefer: respond-async` answers 202 at once.
#[utoipa::path(post, path = "/api/v1/notifications", operation_id = "create_notification", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 201, description = "The notification, and its address in `Location`", body = Notification,
            headers(("Location" = String, description = "The path of the notification"))),
        (status = 200, description = "Waited for: its final state; or, for a dry run, what it would be", body = Notification),
        (status = 202, description = "Accepted; not at its end when time was over, or `respond-async`", body = Notification),
        (status = 409, description = "An equal request with this key is in work"),
    ))]
pub async fn create_notification(
    service: web::Data<Notifications>,
    dry_run: DryRun,
    preference: Preference,
    posted: Posted<NotificationBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        return rehearsed(&service, posted).await;
    }
    let mut answer = match preference {
        Preference::None => at_once(&service, posted, 201).await?,
        Preference::Async => at_once(&service, posted, 202).await?,
        Preference::Wait(patience) => in_the_end(&service, posted, (patience, answer_after_waiting)).await?,
    };
    applied(&mut answer, preference);
    Ok(answer)
}

/// Send a notification and wait for its final state
///
/// Waits as `Prefer: wait=N` says, else up to the service's own time (30 seconds unless configured otherwise). It answers 200
/// only when the message was sent; a message that ended otherwise is a problem, which has its `id`.
#[utoipa::path(post, path = "/notification", operation_id = "create_notification_and_wait", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 200, description = "It was sent; or, for a dry run, what it would be", body = Notification),
        (status = 202, description = "Accepted; not at its end when time was over", body = Notification),
        (status = 409, description = "An equal request with this key is in work; or the message was cancelled, such as by its recipient's preferences"),
        (status = 502, description = "It failed: the provider refused it, or all attempts were used"),
        (status = 504, description = "It expired before it could be sent"),
    ))]
pub async fn notify(
    service: web::Data<Notifications>,
    dry_run: DryRun,
    preference: Preference,
    posted: Posted<NotificationBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        return rehearsed(&service, posted).await;
    }
    let patience = match preference {
        Preference::Wait(patience) => patience,
        Preference::None | Preference::Async => service.patience(),
    };
    in_the_end(&service, posted, (patience, sent_or_problem)).await
}

/// Send a notification without waiting for it
#[utoipa::path(post, path = "/notification/asynchronous", operation_id = "create_notification_asynchronously", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: what it would be", body = Notification),
        (status = 202, description = "Accepted, and on disk", body = Notification),
        (status = 409, description = "An equal request with this key is in work"),
    ))]
pub async fn notify_later(
    service: web::Data<Notifications>,
    dry_run: DryRun,
    posted: Posted<NotificationBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        return rehearsed(&service, posted).await;
    }
    at_once(&service, posted, 202).await
}

/// List notifications
///
/// The latest first. With `Accept: text/csv` all that match, as a file.
#[utoipa::path(get, path = "/api/v1/notifications", operation_id = "list_notifications", tag = "notifications",
    params(ListQuery),
    responses(
        (status = 200, description = "One page, or all as CSV", content(
            (Page<Notification> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_notifications(
    service: web::Data<Notifications>,
    request: HttpRequest,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    if export::is_wanted(&request) {
        let most = query.most()?;
        return file::export(&request, service.into_inner(), (query.filter()?, Order::NewestFirst), most)
            .await;
    }
    page(&service, query.filter()?, Order::NewestFirst, query.window()?).await
}

async fn page(
    service: &Notifications,
    filter: Filter,
    order: Order,
    window: (i64, i64),
) -> Result<HttpResponse> {
    let (items, more) = service.list(filter, order, window).await?;
    let next_cursor = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// Read a notification with its attempts
#[utoipa::path(get, path = "/api/v1/notifications/{id}", operation_id = "get_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 200, description = "The notification and everything that was tried", body = NotificationWithAttempts),
    ))]
pub async fn get_notification(
    service: web::Data<Notifications>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Read a notification, by the short path
#[utoipa::path(get, path = "/notification/{id}", operation_id = "get_notification_by_its_short_path", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 200, description = "The notification and everything that was tried", body = NotificationWithAttempts),
    ))]
pub async fn get_notified(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    get_notification(service, id).await
}

/// Change when a notification is sent
///
/// Its time, its priority and its end, while it waits.
#[utoipa::path(patch, path = "/api/v1/notifications/{id}", operation_id = "patch_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")), request_body = NotificationPatch,
    responses(
        (status = 200, description = "The notification as it is now", body = Notification),
        (status = 409, description = "It does not wait any more"),
    ))]
pub async fn patch_notification(
    service: web::Data<Notifications>,
    id: web::Path<String>,
    body: Json<NotificationPatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.reschedule(path_id(&id)?, body.0.into_change()?).await?))
}

/// Cancel a notification
///
/// While it waits. Once this has answered 204, no attempt starts.
#[utoipa::path(delete, path = "/api/v1/notifications/{id}", operation_id = "cancel_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 204, description = "It is cancelled"),
        (status = 409, description = "It is sent, being sent, or over"),
    ))]
pub async fn cancel_notification(
    service: web::Data<Notifications>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    service.cancel(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Send a batch of notifications
///
/// 1 to 1000. Each is accepted or rejected for itself, unless `atomic` asks for all or none.
#[utoipa::path(post, path = "/api/v1/notifications/batch", operation_id = "create_batch", tag = "notifications",
    request_body = BatchBody,
    params(BatchQuery,
        KeyHeader),
    responses(
        (status = 201, description = "What became of each, and the batch's address in `Location`", body = BatchAccepted,
            headers(("Location" = String, description = "The path of the batch"))),
        (status = 200, description = "For a dry run: what would become of each", body = BatchAccepted),
        (status = 409, description = "An equal request with this key is in work"),
        (status = 413, description = "The body is larger than 16 MiB"),
    ))]
pub async fn create_batch(
    service: web::Data<Notifications>,
    Query(query): Query<BatchQuery>,
    posted: PostedItems<BatchBody, LARGEST_BATCH>,
) -> Result<HttpResponse> {
    let is_atomic = flag("atomic", query.atomic.as_deref())?;
    let wanted = posted.value.into_wanted()?;
    if flag("dry_run", query.dry_run.as_deref())? {
        let taken = service.rehearse_batch(wanted, is_atomic).await?;
        return Ok(HttpResponse::Ok().json(BatchAccepted::new(&taken)));
    }
    let answer =
        |taken: &Taken| Answer::created(format!("/api/v1/batches/{}", taken.id), &BatchAccepted::new(taken));
    Ok(respond(service.create_batch(wanted, is_atomic, posted.key, answer).await?))
}

/// Read the counts of a batch
#[utoipa::path(get, path = "/api/v1/batches/{id}", operation_id = "get_batch", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses(
        (status = 200, description = "What became of its notifications", body = Batch),
    ))]
pub async fn get_batch(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.batch(path_id(&id)?).await?))
}

/// List the notifications of a batch
///
/// In the order in which they were posted. With `Accept: text/csv` all that match, as a file.
#[utoipa::path(get, path = "/api/v1/batches/{id}/notifications", operation_id = "list_batch_notifications", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch"), ListQuery),
    responses(
        (status = 200, description = "One page, or all as CSV", content(
            (Page<Notification> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_batch_notifications(
    service: web::Data<Notifications>,
    request: HttpRequest,
    id: web::Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let filter = Filter { batch: Some(id), ..query.filter()? };
    if export::is_wanted(&request) {
        let most = query.most()?;
        service.batch(id).await?;
        return file::export(&request, service.into_inner(), (filter, Order::OldestFirst), most).await;
    }
    let window = query.window()?;
    service.batch(id).await?;
    page(&service, filter, Order::OldestFirst, window).await
}

/// Cancel a batch
///
/// All of it that waits; what is sent or being sent is not touched.
#[utoipa::path(delete, path = "/api/v1/batches/{id}", operation_id = "cancel_batch", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses(
        (status = 200, description = "What became of its notifications", body = Batch),
    ))]
pub async fn cancel_batch(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.cancel_batch(path_id(&id)?).await?))
}
