//! The export of notifications to a CSV file.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse};

use crate::error::Result;
use crate::http::export;
use crate::notifications::model::Notification;
use crate::notifications::usecase::{NotificationFilter, NotificationOrder, Notifications};
use crate::notifications::views::NotificationView;

/// The columns, which are the fields of a notification; objects are JSON.
const COLUMNS: [&str; 28] = [
    "id",
    "batch_id",
    "event_id",
    "channel",
    "recipient",
    "client_id",
    "subject",
    "content",
    "html",
    "template",
    "template_version",
    "template_locale",
    "data",
    "priority",
    "status",
    "retry_count",
    "max_retries",
    "scheduled_at",
    "expires_at",
    "next_retry_at",
    "finished_at",
    "provider_id",
    "error",
    "metadata",
    "group",
    "transactional",
    "created_at",
    "updated_at",
];

/// Responds with the matching notifications, at most `most` of them.
///
/// # Errors
/// Errors of the first page.
pub(super) async fn export(
    request: &HttpRequest,
    service: Arc<Notifications>,
    (filter, order): (NotificationFilter, NotificationOrder),
    most: u64,
) -> Result<HttpResponse> {
    let first = filter.after;
    let read = move |cursor, count| {
        let (service, filter) =
            (Arc::clone(&service), NotificationFilter { after: cursor, ..filter.clone() });
        async move {
            let (items, more) = service.list(filter, order, (count, 0)).await?;
            let next = items.last().filter(|_| more).map(|last| last.id);
            Ok((items, next))
        }
    };
    export::file(
        request,
        ("notifications", COLUMNS.map(Cow::from).to_vec()),
        (first, most),
        read,
        |one: &Notification| export::cells(&NotificationView::from(one), &COLUMNS).map(Some),
    )
    .await
}
