//! The HTTP handlers of notifications: `/api/v1/notifications`, `/api/v1/batches`, and the short paths below
//! `/notification`.

mod answer;
mod file;
mod schema;
pub mod trial;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use self::answer::{accepted, after_waiting, created};
pub use self::schema::{BatchBody, NotificationBody, NotificationPatch};
use super::model::Status;
use super::usecase::{AcceptedBatch, BuildResponse, NotificationFilter, NotificationOrder, Notifications};
use super::views::{BatchAccepted, BatchView, NotificationView, NotificationWithAttemptsView};
use crate::clients::reach;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery, flag};
use crate::http::export;
use crate::http::idempotency_header::{KeyHeader, Posted, PostedItems, respond};
use crate::http::json::{Json, Query, path_id, time};
use crate::http::operations::{Operations, operations};
use crate::http::prefer::{PreferHeader, Preference, applied};
use crate::idempotency::IdempotentResponse;
use crate::kinds::{ChannelKind, ChannelToPeople, Priority};
use crate::paging::{self, Page};

/// The maximum size of a batch's body, in bytes.
const LARGEST_BATCH: usize = 16 * 1024 * 1024;
/// The largest offset that `page` can reach; beyond it lists need `cursor`.
const FARTHEST_PAGED: i64 = 10_000;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_notifications: NotificationsRead,
        create_notification: NotificationsWrite,
        create_batch: NotificationsWrite,
        get_notification: NotificationsRead,
        patch_notification: NotificationsWrite,
        cancel_notification: NotificationsWrite,
        get_batch: NotificationsRead,
        cancel_batch: NotificationsWrite,
        list_batch_notifications: NotificationsRead,
        notify: NotificationsWrite,
        notify_later: NotificationsWrite,
        get_notified: NotificationsRead,
    ]
    .and(trial::operations())
}

/// The query parameters of a new batch.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchQuery {
    /// `true`: all notifications are accepted or none; otherwise the valid ones are accepted.
    #[param(value_type = Option<bool>, nullable = false)]
    atomic: Option<String>,
    /// `true`: the batch is validated, but not accepted.
    #[param(value_type = Option<bool>, nullable = false)]
    dry_run: Option<String>,
}

/// The query parameters of the lists of notifications.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only notifications with this status; `sending` is accepted for `processing`.
    #[param(value_type = Option<Status>, inline, nullable = false)]
    status: Option<String>,
    /// Lists only notifications on this channel.
    #[param(value_type = Option<ChannelToPeople>, inline, nullable = false)]
    channel: Option<String>,
    /// Lists only notifications with this priority.
    #[param(value_type = Option<Priority>, inline, nullable = false)]
    priority: Option<String>,
    /// Lists only notifications of this batch.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    batch_id: Option<String>,
    /// Lists only notifications that this event caused.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    event_id: Option<String>,
    /// Lists only notifications to this address. It requires `channel`, which determines the format of the address.
    #[param(min_length = 1, nullable = false)]
    recipient: Option<String>,
    /// Lists only notifications for this client.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    client_id: Option<String>,
    /// Lists only notifications that were accepted at this time or later, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    from: Option<String>,
    /// Lists only notifications that were accepted at this time or earlier, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    to: Option<String>,
    /// The number of the page, from 1. Pages reach the first 10,000 notifications; beyond them use `cursor`.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10001, nullable = false)]
    page: Option<String>,
    /// The largest number of items to return, 1 to 1000; for a CSV file the largest number of rows, unlimited if
    /// absent.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page; not allowed with `page`.
    #[param(value_type = Option<MessageId>, inline, nullable = false)]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<NotificationFilter> {
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
                return Err(Error::invalid("recipient", "requires `channel`"));
            }
            (None, _) => None,
        };
        Ok(NotificationFilter {
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

    /// Returns the largest number of rows of a CSV file.
    fn most(&self) -> Result<u64> {
        if self.page.is_some() {
            return Err(Error::invalid(
                "page",
                "is not allowed for a CSV file, which has all matching rows and begins at `cursor`",
            ));
        }
        export::limit(self.limit.as_deref())
    }

    /// Returns the limit and the offset.
    fn window(&self) -> Result<(i64, i64)> {
        let limit = paging::limit(self.limit.as_deref())?;
        let Some(page) = &self.page else { return Ok((limit, 0)) };
        if self.cursor.is_some() {
            return Err(Error::invalid("page", "cannot be combined with `cursor`"));
        }
        let number = page.parse::<u32>().ok().filter(|page| *page > 0);
        let number = number.ok_or_else(|| Error::invalid("page", "must be a whole number, at least 1"))?;
        let offset = (i64::from(number) - 1) * limit;
        if offset > FARTHEST_PAGED {
            return Err(Error::invalid(
                "page",
                format!("must be within the first {FARTHEST_PAGED} items; use `cursor` beyond them"),
            ));
        }
        Ok((limit, offset))
    }
}

/// Accepts a notification, and responds without waiting for its final status.
async fn at_once(
    service: &Notifications,
    posted: Posted<NotificationBody>,
    answering: BuildResponse,
) -> Result<HttpResponse> {
    let answering = (answering, after_waiting as BuildResponse);
    Ok(respond(service.create(posted.value.into_new()?, posted.key, answering).await?))
}

/// Validates a notification without accepting it.
async fn rehearsed(service: &Notifications, posted: Posted<NotificationBody>) -> Result<HttpResponse> {
    let notification = service.rehearse(posted.value.into_new()?).await?;
    Ok(HttpResponse::Ok().json(NotificationView::from(&notification)))
}

/// Accepts a notification, and waits for its final status.
async fn in_the_end(
    service: &Notifications,
    posted: Posted<NotificationBody>,
    waiting: (std::time::Duration, BuildResponse),
) -> Result<HttpResponse> {
    Ok(respond(service.create_and_wait(posted.value.into_new()?, posted.key, waiting).await?))
}

/// Send a notification
///
/// Accepts a notification, which is on disk before the response. `Prefer: wait=10` (RFC 7240) waits up to 10 seconds
/// for the final status: the response is 200 with it, or 202 with the present status after that time. With `Prefer:
/// respond-async` the response is 202 at once.
#[utoipa::path(post, path = "/api/v1/notifications", operation_id = "create_notification", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 201, description = "The notification, with its path in `Location`", body = NotificationView,
            headers(("Location" = String, description = "The path of the notification"))),
        (status = 200, description = "With `wait`: the notification with its final status. For a dry run: the \
            notification that would be accepted", body = NotificationView),
        (status = 202, description = "Accepted: with `respond-async`, or without a final status at the end of \
            `wait`", body = NotificationView),
        (status = 409, description = "An equal request with this key is running"),
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
        Preference::None => at_once(&service, posted, created).await?,
        Preference::Async => at_once(&service, posted, accepted).await?,
        Preference::Wait(patience) => in_the_end(&service, posted, (patience, after_waiting)).await?,
    };
    applied(&mut answer, preference);
    Ok(answer)
}

/// Send a notification and wait for its final status
///
/// Accepts a notification, and waits for its final status up to the N seconds of `Prefer: wait=N`, or without it up to
/// the configured time (default: 30 seconds). The response is 200 only if the message was sent. Any other final status
/// is a problem with the `id` of the notification.
#[utoipa::path(post, path = "/notification", operation_id = "create_notification_and_wait", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, PreferHeader, KeyHeader),
    responses(
        (status = 200, description = "The message was sent. For a dry run: the notification that would be \
            accepted", body = NotificationView),
        (status = 202, description = "Accepted, without a final status at the end of the wait", body = NotificationView),
        (status = 409, description = "An equal request with this key is running, or the message was cancelled, for \
            example because its recipient has opted out"),
        (status = 502, description = "The message failed: the provider refused it, or no attempts are left"),
        (status = 504, description = "The message expired before it could be sent"),
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
    in_the_end(&service, posted, (patience, answer::sent_or_problem)).await
}

/// Send a notification without waiting for it
#[utoipa::path(post, path = "/notification/asynchronous", operation_id = "create_notification_asynchronously", tag = "notifications",
    request_body = NotificationBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the notification that would be accepted", body = NotificationView),
        (status = 202, description = "Accepted, and on disk", body = NotificationView),
        (status = 409, description = "An equal request with this key is running"),
    ))]
pub async fn notify_later(
    service: web::Data<Notifications>,
    dry_run: DryRun,
    posted: Posted<NotificationBody>,
) -> Result<HttpResponse> {
    if dry_run.0 {
        return rehearsed(&service, posted).await;
    }
    at_once(&service, posted, accepted).await
}

/// List notifications
///
/// Lists notifications, the newest first. With `Accept: text/csv` it returns all matching ones as a file.
#[utoipa::path(get, path = "/api/v1/notifications", operation_id = "list_notifications", tag = "notifications",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of notifications, or all of them as CSV", content(
            (Page<NotificationView> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_notifications(
    service: web::Data<Notifications>,
    request: HttpRequest,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    if export::is_wanted(&request) {
        let most = query.most()?;
        return file::export(
            &request,
            service.into_inner(),
            (query.filter()?, NotificationOrder::NewestFirst),
            most,
        )
        .await;
    }
    page(&service, query.filter()?, NotificationOrder::NewestFirst, query.window()?).await
}

async fn page(
    service: &Notifications,
    filter: NotificationFilter,
    order: NotificationOrder,
    window: (i64, i64),
) -> Result<HttpResponse> {
    let (items, more) = service.list(filter, order, window).await?;
    let next_cursor = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }.view::<NotificationView<'_>>()))
}

/// Read a notification with its attempts
#[utoipa::path(get, path = "/api/v1/notifications/{id}", operation_id = "get_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 200, description = "The notification with its attempts", body = NotificationWithAttemptsView),
    ))]
pub async fn get_notification(
    service: web::Data<Notifications>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let found = service.get(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(NotificationWithAttemptsView::from(&found)))
}

/// Read a notification by the short path
#[utoipa::path(get, path = "/notification/{id}", operation_id = "get_notification_by_its_short_path", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 200, description = "The notification with its attempts", body = NotificationWithAttemptsView),
    ))]
pub async fn get_notified(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    get_notification(service, id).await
}

/// Change when a notification is sent
///
/// Changes the time, the priority and the expiry of a waiting notification.
#[utoipa::path(patch, path = "/api/v1/notifications/{id}", operation_id = "patch_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")), request_body = NotificationPatch,
    responses(
        (status = 200, description = "The changed notification", body = NotificationView),
        (status = 409, description = "The notification does not wait any more"),
    ))]
pub async fn patch_notification(
    service: web::Data<Notifications>,
    id: web::Path<String>,
    body: Json<NotificationPatch>,
) -> Result<HttpResponse> {
    let changed = service.reschedule(path_id(&id)?, body.0.into_change()?).await?;
    Ok(HttpResponse::Ok().json(NotificationView::from(&changed)))
}

/// Cancel a notification
///
/// Cancels a waiting notification. After the response 204 no attempt starts.
#[utoipa::path(delete, path = "/api/v1/notifications/{id}", operation_id = "cancel_notification", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The notification")),
    responses(
        (status = 204, description = "The notification was cancelled"),
        (status = 409, description = "The notification is being sent, or has its final status"),
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
/// Accepts a batch of 1 to 1000 notifications. Each is accepted or rejected separately, unless `atomic` requires all or
/// none.
#[utoipa::path(post, path = "/api/v1/notifications/batch", operation_id = "create_batch", tag = "notifications",
    request_body = BatchBody,
    params(BatchQuery,
        KeyHeader),
    responses(
        (status = 201, description = "The results, with the batch's path in `Location`", body = BatchAccepted,
            headers(("Location" = String, description = "The path of the batch"))),
        (status = 200, description = "For a dry run: the expected results", body = BatchAccepted),
        (status = 409, description = "An equal request with this key is running"),
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
        return Ok(HttpResponse::Ok().json(BatchAccepted::from(&taken)));
    }
    let answer = |taken: &AcceptedBatch| {
        IdempotentResponse::created(format!("/api/v1/batches/{}", taken.id), &BatchAccepted::from(taken))
    };
    let answering = (answer, after_waiting as BuildResponse);
    Ok(respond(service.create_batch((wanted, is_atomic), posted.key, answering).await?))
}

/// Read the counts of a batch
#[utoipa::path(get, path = "/api/v1/batches/{id}", operation_id = "get_batch", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses(
        (status = 200, description = "The batch with its counts", body = BatchView),
    ))]
pub async fn get_batch(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(BatchView::from(&service.batch(path_id(&id)?).await?)))
}

/// List the notifications of a batch
///
/// Lists the notifications of a batch in the order of the request. With `Accept: text/csv` it returns all matching ones
/// as a file.
#[utoipa::path(get, path = "/api/v1/batches/{id}/notifications", operation_id = "list_batch_notifications", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch"), ListQuery),
    responses(
        (status = 200, description = "A page of notifications, or all of them as CSV", content(
            (Page<NotificationView> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_batch_notifications(
    service: web::Data<Notifications>,
    request: HttpRequest,
    id: web::Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let filter = NotificationFilter { batch: Some(id), ..query.filter()? };
    if export::is_wanted(&request) {
        let most = query.most()?;
        service.batch(id).await?;
        return file::export(&request, service.into_inner(), (filter, NotificationOrder::OldestFirst), most)
            .await;
    }
    let window = query.window()?;
    service.batch(id).await?;
    page(&service, filter, NotificationOrder::OldestFirst, window).await
}

/// Cancel a batch
///
/// Cancels the waiting notifications of a batch. Notifications that are being sent, or have their final status, do not
/// change.
#[utoipa::path(delete, path = "/api/v1/batches/{id}", operation_id = "cancel_batch", tag = "notifications",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses(
        (status = 200, description = "The batch with its counts", body = BatchView),
    ))]
pub async fn cancel_batch(service: web::Data<Notifications>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(BatchView::from(&service.cancel_batch(path_id(&id)?).await?)))
}
