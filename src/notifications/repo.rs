//! The SQL of notifications and batches.

mod list;
mod row;
mod store;

use std::collections::HashMap;

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{batch, client, due, message, notification};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::live::Change;
use crate::messages;
use crate::messages::model::Counts;
use crate::messages::repo::cancellation::{self, CancellationState};
use crate::messages::repo::{DueRow, insert_due};
use crate::notifications::model::{Notification, NotificationChange};

pub use list::{NotificationFilter, NotificationOrder, list};
pub use row::{NotificationRow, RecipientAddresses};
pub use store::{NewNotificationRows, StoreResult, store};

/// The content of a standalone message.
#[derive(Debug, Default, Clone, Queryable)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct StoredContent {
    pub batch_id: Option<BatchId>,
    pub event_id: Option<EventId>,
    pub is_awaited: bool,
    pub text: String,
    pub subject: Option<String>,
    pub html: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub group: Option<String>,
    pub is_transactional: bool,
}

/// Returns the contents of messages.
///
/// # Errors
/// Database errors.
pub fn contents(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, StoredContent>> {
    let rows = notification::table
        .filter(notification::message_id.eq_any(ids))
        .select((
            notification::message_id,
            (
                notification::batch_id,
                notification::event_id,
                notification::is_awaited,
                notification::text,
                notification::subject,
                notification::html,
                notification::data,
                notification::retry,
                notification::message_group,
                notification::is_transactional,
            ),
        ))
        .load::<(MessageId, StoredContent)>(c)?;
    Ok(rows.into_iter().collect())
}

/// Returns the addresses of the clients with these ids, without clients that do not exist.
///
/// # Errors
/// Database errors.
pub fn addresses(c: &mut AnyConnection, ids: &[ClientId]) -> Result<HashMap<ClientId, RecipientAddresses>> {
    let rows = client::table
        .filter(client::id.eq_any(ids))
        .select((client::id, RecipientAddresses::as_select()))
        .load::<(ClientId, RecipientAddresses)>(c)?;
    Ok(rows.into_iter().collect())
}

/// Returns one notification, with its status at `now`.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<Option<Notification>> {
    let filter = NotificationFilter { ids: Some(vec![id]), ..NotificationFilter::default() };
    Ok(list(c, &filter, NotificationOrder::NewestFirst, (1, 0), now)?.pop())
}

/// Returns the number of messages of a batch in each status, or `None` if the batch does not exist.
///
/// # Errors
/// Database errors.
pub fn counts(c: &mut AnyConnection, id: BatchId) -> Result<Option<Counts>> {
    let total: Option<i32> = batch::table.find(id).select(batch::total).first(c).optional()?;
    let Some(total) = total else { return Ok(None) };
    // one statement, so one snapshot: a message without a row in `due` and without a final status is in a node's lease
    let rows: Vec<(i16, bool)> = notification::table
        .inner_join(message::table.on(message::id.eq(notification::message_id)))
        .left_join(due::table.on(due::message_id.eq(notification::message_id)))
        .filter(notification::batch_id.eq(id))
        .select((message::status, due::message_id.nullable().is_not_null()))
        .load(c)?;
    let (mut sending, mut ended) = (0, [0; 4]);
    for (status, waits) in rows {
        match MessageStatus::from_code(status)? {
            MessageStatus::Sent => ended[0] += 1,
            MessageStatus::Failed => ended[1] += 1,
            MessageStatus::Expired => ended[2] += 1,
            MessageStatus::Cancelled => ended[3] += 1,
            MessageStatus::Queued | MessageStatus::Sending if !waits => sending += 1,
            MessageStatus::Queued | MessageStatus::Sending => {}
        }
    }
    Ok(Some(Counts::balanced(i64::from(total), sending, ended)))
}

/// Ends the waiting ones of these messages and returns their status changes ([`messages::repo::end_waiting`]).
///
/// # Errors
/// Database errors.
pub fn end_waiting(
    c: &mut AnyConnection,
    ids: &[MessageId],
    (status, why): (MessageStatus, Option<&str>),
    now: Timestamp,
) -> Result<Vec<Change>> {
    let taken = messages::repo::end_waiting(c, ids, (status, why), now)?;
    let rows: Vec<(MessageId, i16, i16, Option<BatchId>)> = message::table
        .inner_join(notification::table.on(notification::message_id.eq(message::id)))
        .filter(message::id.eq_any(&taken))
        .select((message::id, message::channel, message::attempts, notification::batch_id))
        .load(c)?;
    rows.into_iter()
        .map(|(id, channel, attempts, batch)| {
            let channel = ChannelKind::from_code(channel)?;
            Ok(Change { id, batch, channel, status: status.into(), attempts, at: now })
        })
        .collect()
}

const CANCELLED: (MessageStatus, Option<&str>) = (MessageStatus::Cancelled, None);

/// The result of cancelling.
#[derive(Debug, Default)]
pub struct CancelledNotifications {
    /// The notifications that waited and are cancelled now.
    pub ended: Vec<Change>,
    /// The messages in a node's lease, recorded as cancelled for that node to recall.
    pub noted: Vec<MessageId>,
}

/// Cancels a notification that waits, or records the cancellation of a notification in a node's lease.
///
/// # Errors
/// [`Error::Conflict`] if it has its final status, [`Error::NotFound`].
pub fn cancel(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<CancelledNotifications> {
    is_notification(c, id, now)?;
    let cancelled = cancel_all(c, &[id], false, now)?;
    if cancelled.ended.is_empty() && cancelled.noted.is_empty() {
        return Err(over(c, id, now)?);
    }
    Ok(cancelled)
}

fn cancel_all(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
    now: Timestamp,
) -> Result<CancelledNotifications> {
    let ended = end_waiting(c, ids, CANCELLED, now)?;
    let noted = cancellation::note(c, ids, holds, now)?;
    Ok(CancelledNotifications { ended, noted })
}

/// Completes recorded cancellations. Returns the changes of messages that waited again and are cancelled now, and the
/// result for each message.
///
/// # Errors
/// Database errors.
pub fn cancel_noted(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
    now: Timestamp,
) -> Result<(Vec<Change>, HashMap<MessageId, CancellationState>)> {
    let ended = end_waiting(c, ids, CANCELLED, now)?;
    Ok((ended, cancellation::close(c, ids, holds)?))
}

/// Returns the error for a notification that is in flight or has its final status, and so cannot be cancelled.
///
/// # Errors
/// [`Error::NotFound`].
pub fn over(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<Error> {
    Ok(too_late(&is_notification(c, id, now)?, "cancelled"))
}

/// Cancels the waiting notifications of a batch, and records the cancellation of those in a node's lease. Returns
/// `None` if the batch does not exist.
///
/// # Errors
/// Database errors.
pub fn cancel_batch(
    c: &mut AnyConnection,
    id: BatchId,
    now: Timestamp,
) -> Result<Option<CancelledNotifications>> {
    let exists: Option<BatchId> = batch::table.find(id).select(batch::id).first(c).optional()?;
    if exists.is_none() {
        return Ok(None);
    }
    let ids: Vec<MessageId> =
        notification::table.filter(notification::batch_id.eq(id)).select(notification::message_id).load(c)?;
    cancel_all(c, &ids, true, now).map(Some)
}

/// Changes the time, the priority and the expiry of a waiting notification.
///
/// # Errors
/// [`Error::Conflict`] if it does not wait any more, [`Error::NotFound`], [`Error::Invalid`] for an expiry before its
/// time.
pub fn reschedule(
    c: &mut AnyConnection,
    id: MessageId,
    change: &NotificationChange,
    now: Timestamp,
) -> Result<Notification> {
    let before = is_notification(c, id, now)?;
    // deleted and inserted, never updated: a claim locks the rows that it has found by their position
    let taken: Option<(i16, Timestamp)> = diesel::delete(due::table.find(id))
        .returning((due::priority, due::due_at))
        .get_result(c)
        .optional()?;
    let Some((priority, due_at)) = taken else {
        return Err(too_late(&is_notification(c, id, now)?, "changed"));
    };
    let due_at = change.scheduled_at.map_or(due_at, |at| at.max(now));
    let expires_at = change.expires_at.unwrap_or(before.expires_at);
    if expires_at.is_some_and(|end| end <= due_at.max(now)) {
        return Err(Error::invalid("expires_at", "must be after now and after scheduled_at"));
    }
    let priority = change.priority.map_or(priority, Priority::code);
    insert_due(
        c,
        &[DueRow {
            message_id: id,
            mailing_id: None,
            channel: before.channel.code(),
            priority,
            due_at,
            expires_at,
        }],
    )?;
    diesel::update(message::table.find(id))
        .set((message::priority.eq(priority), message::due_at.eq(due_at), message::expires_at.eq(expires_at)))
        .execute(c)?;
    diesel::update(notification::table.find(id))
        .set((
            notification::updated_at.eq(now),
            notification::scheduled_at.eq(change.scheduled_at.or(before.scheduled_at)),
        ))
        .execute(c)?;
    is_notification(c, id, now)
}

fn is_notification(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<Notification> {
    find(c, id, now)?.ok_or_else(|| Error::not_found("notification", id))
}

fn too_late(found: &Notification, verb: &str) -> Error {
    Error::Conflict(format!("notification {} is {} and cannot be {verb}", found.id, found.status.as_str()))
}
