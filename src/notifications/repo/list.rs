//! The list of notifications and its filter.

use diesel::prelude::*;

use super::row::NotificationRow;
use crate::db::AnyConnection;
use crate::db::schema::{due, message, notification};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, Priority};
use crate::messages::repo::{MessageRow, of_status, replayed};
use crate::notifications::model::{Notification, Status};

/// The filter of the list. A notification must match every condition that is set.
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    /// Selects these ids.
    pub ids: Option<Vec<MessageId>>,
    /// Selects a status.
    pub status: Option<Status>,
    /// Selects a channel.
    pub channel: Option<ChannelKind>,
    /// Selects a priority.
    pub priority: Option<Priority>,
    /// Selects a batch.
    pub batch: Option<BatchId>,
    /// Selects an event.
    pub event: Option<EventId>,
    /// Selects an address.
    pub recipient: Option<String>,
    /// Selects a client.
    pub client: Option<ClientId>,
    /// The earliest time of creation.
    pub from: Option<Timestamp>,
    /// The latest time of creation.
    pub to: Option<Timestamp>,
    /// The last notification of the previous page, in the order of the list.
    pub after: Option<MessageId>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationOrder {
    /// The order of creation.
    OldestFirst,
    /// The reverse order of creation.
    NewestFirst,
}

/// Returns up to `limit` notifications that match the filter, after the first `offset`, with their status at `now`.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &NotificationFilter,
    order: NotificationOrder,
    (limit, offset): (i64, i64),
    now: Timestamp,
) -> Result<Vec<Notification>> {
    let mut query = message::table
        .inner_join(notification::table.on(notification::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        // the condition of the partial indexes
        .filter(message::mailing_number.is_null())
        .select((MessageRow::as_select(), NotificationRow::as_select(), due::due_at.nullable()))
        .limit(limit)
        .offset(offset)
        .into_boxed();
    if let Some(ids) = &filter.ids {
        query = query.filter(message::id.eq_any(ids));
    }
    if let Some(status) = filter.status {
        query = of_status!(query, c, status, now);
    }
    if let Some(channel) = filter.channel {
        query = query.filter(message::channel.eq(channel.code()));
    }
    if let Some(priority) = filter.priority {
        query = query.filter(message::priority.eq(priority.code()));
    }
    if let Some(batch) = filter.batch {
        query = query.filter(notification::batch_id.eq(batch));
    }
    if let Some(event) = filter.event {
        query = query.filter(notification::event_id.eq(event));
    }
    if let Some(recipient) = &filter.recipient {
        query = query.filter(message::recipient.eq(recipient));
    }
    if let Some(client) = filter.client {
        query = query.filter(message::client_id.eq(client));
    }
    if let Some(from) = filter.from {
        query = query.filter(message::id.ge(MessageId::first_of(from)));
    }
    if let Some(to) = filter.to {
        query = query.filter(message::id.le(MessageId::last_of(to)));
    }
    if let Some(after) = filter.after {
        query = match order {
            NotificationOrder::OldestFirst => query.filter(message::id.gt(after)),
            NotificationOrder::NewestFirst => query.filter(message::id.lt(after)),
        };
    }
    query = match order {
        NotificationOrder::OldestFirst => query.order(message::id),
        NotificationOrder::NewestFirst => query.order(message::id.desc()),
    };
    let rows: Vec<(MessageRow, NotificationRow, Option<Timestamp>)> = query.load(c)?;
    let before = replayed::attempts_before(c, rows.iter().map(|(message, ..)| message))?;
    rows.into_iter()
        .map(|(message, content, due_at)| {
            let retries = message.attempts - before.get(&message.id).copied().unwrap_or_default() - 1;
            // the retries of the present schedule, which starts again with a replay
            Ok(Notification { retry_count: retries.max(0), ..show(message, content, due_at, now)? })
        })
        .collect()
}

fn show(
    message: MessageRow,
    content: NotificationRow,
    due_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Notification> {
    let status = message.status_at(due_at, now)?;
    Notification::from_rows(message, content, status, due_at)
}
