//! Reading notifications by what they are and what became of them.

use diesel::dsl::exists;
use diesel::prelude::*;

use super::NotificationRow;
use crate::db::AnyConnection;
use crate::db::schema::{dead_letter, due, message, notification, page, page_members};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp, unpack_ids};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::messages::repo::{MessageRow, replayed};
use crate::notifications::model::{Notification, Status};

/// Which notifications a list shows; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Just these.
    pub ids: Option<Vec<MessageId>>,
    /// In this state.
    pub status: Option<Status>,
    /// Over this channel.
    pub channel: Option<ChannelKind>,
    /// Of this urgency.
    pub priority: Option<Priority>,
    /// Of this batch.
    pub batch: Option<BatchId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// To this address.
    pub recipient: Option<String>,
    /// For this client.
    pub client: Option<ClientId>,
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made at this time or earlier.
    pub to: Option<Timestamp>,
    /// Beyond this one, in the order of the list.
    pub after: Option<MessageId>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they were posted.
    OldestFirst,
    /// The latest at the top.
    NewestFirst,
}

/// Notifications that `filter` lets through, `limit` of them after the first `offset`, as they are at `now`.
///
/// # Errors
/// Those of the database.
pub fn list(
    c: &mut AnyConnection,
    filter: &Filter,
    order: Order,
    (limit, offset): (i64, i64),
    now: Timestamp,
) -> Result<Vec<Notification>> {
    let mut query = message::table
        .inner_join(notification::table.on(notification::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        // says what the partial indexes say
        .filter(message::mailing_number.is_null())
        .select((MessageRow::as_select(), NotificationRow::as_select(), due::due_at.nullable()))
        .limit(limit)
        .offset(offset)
        .into_boxed();
    if let Some(ids) = &filter.ids {
        query = query.filter(message::id.eq_any(ids));
    }
    let waits = due::message_id.nullable().is_not_null();
    let is_scheduled = || due::due_at.nullable().gt(now).and(message::attempts.eq(0_i16));
    query = match filter.status {
        None => query,
        Some(Status::Scheduled) => query.filter(is_scheduled().assume_not_null()),
        Some(Status::Queued) => query.filter(waits).filter(
            due::due_at.nullable().le(now).or(message::attempts.ne(0_i16).nullable()).assume_not_null(),
        ),
        Some(Status::Processing) => {
            let in_hand = in_hand(c)?;
            query
                .filter(message::id.eq_any(in_hand))
                .filter(message::status.eq(MessageStatus::Queued.code()))
                .filter(due::message_id.nullable().is_null())
        }
        Some(Status::Failed) => query
            .filter(message::status.eq(MessageStatus::Failed.code()))
            .filter(exists(dead_letter::table.filter(dead_letter::id.eq(message::id)))),
        Some(status) => query.filter(message::status.eq(status.stored().code())),
    };
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
            Order::OldestFirst => query.filter(message::id.gt(after)),
            Order::NewestFirst => query.filter(message::id.lt(after)),
        };
    }
    query = match order {
        Order::OldestFirst => query.order(message::id),
        Order::NewestFirst => query.order(message::id.desc()),
    };
    let rows: Vec<(MessageRow, NotificationRow, Option<Timestamp>)> = query.load(c)?;
    let before = replayed::attempts_before(c, rows.iter().map(|(message, ..)| message))?;
    rows.into_iter()
        .map(|(message, content, due_at)| {
            let retries = message.attempts - before.get(&message.id).copied().unwrap_or_default() - 1;
            // of its schedule, which began anew if it was replayed
            Ok(Notification { retry_count: retries.max(0), ..show(message, content, due_at, now)? })
        })
        .collect()
}

/// The members of the pages of no mailing: few, and all that can be in a node's hands.
fn in_hand(c: &mut AnyConnection) -> Result<Vec<MessageId>> {
    let pages: Vec<Vec<u8>> = page::table
        .inner_join(page_members::table.on(page_members::page_id.eq(page::id)))
        .filter(page::mailing_id.is_null())
        .select(page_members::message_ids)
        .load(c)?;
    Ok(pages.iter().flat_map(|members| unpack_ids(members)).map(MessageId).collect())
}

fn show(
    message: MessageRow,
    content: NotificationRow,
    due_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Notification> {
    let status = match (MessageStatus::from_code(message.status)?, due_at) {
        (MessageStatus::Queued, Some(due_at)) if due_at > now && message.attempts == 0 => Status::Scheduled,
        (MessageStatus::Queued, Some(_)) => Status::Queued,
        (MessageStatus::Queued, None) => Status::Processing,
        (status, _) => status.into(),
    };
    Notification::of_rows(message, content, status, due_at)
}
