//! Statements that read messages.

pub mod cancellation;
mod in_flight;
pub mod replayed;
mod row;
mod status;
mod write;

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{attempt, dead_letter, due, mailing, message};
use crate::db::types::{ClientId, MailingId, MessageId};
use crate::error::Result;
use crate::kinds::{MessageStatus, OutcomeKind};
use crate::messages::model::{Attempt, Message, MessageFilter};
use crate::paging::{self, Page};

pub use in_flight::in_hand;
pub use row::MessageRow;
use row::into_models;
pub(crate) use status::of_status;
pub use write::{DueRow, end_waiting, insert_due, insert_messages, insert_new_messages, update_messages};

/// The largest number of rows that one page reads for a status without an index; then the page is returned as it is.
const LARGEST_SCAN: usize = 20_000;
const SCAN_STEP: i64 = 1000;

/// Returns true if the mailing exists.
///
/// # Errors
/// Database errors.
pub fn mailing_exists(c: &mut AnyConnection, id: MailingId) -> Result<bool> {
    let found: Option<MailingId> = mailing::table.find(id).select(mailing::id).first(c).optional()?;
    Ok(found.is_some())
}

/// Returns the message, whether it has a row or only a place in a lease, and the attempts that did not deliver it.
///
/// # Errors
/// Database errors.
pub fn get(c: &mut AnyConnection, id: MessageId) -> Result<Option<(Message, Vec<Attempt>)>> {
    let row: Option<MessageRow> =
        message::table.find(id).select(MessageRow::as_select()).first(c).optional()?;
    let Some(row) = row else {
        return Ok(in_flight::planned(c, id)?.map(|message| (message, Vec::new())));
    };
    let Some(mut found) = into_models(c, vec![row])?.pop() else {
        return Ok(None);
    };
    if found.status == MessageStatus::Queued && in_flight::is_taken(c, id)? {
        found.status = MessageStatus::Sending;
    }
    Ok(Some((found, attempts(c, id)?)))
}

/// Returns the attempts that did not deliver a message, oldest first.
///
/// # Errors
/// Database errors.
pub fn attempts(c: &mut AnyConnection, id: MessageId) -> Result<Vec<Attempt>> {
    attempt::table
        .filter(attempt::message_id.eq(id))
        .order(attempt::number)
        .select((
            attempt::number,
            attempt::at,
            attempt::outcome,
            attempt::status_code,
            attempt::duration_ms,
            attempt::error,
        ))
        .load::<(i16, _, i16, Option<i32>, i32, Option<String>)>(c)?
        .into_iter()
        .map(|(number, at, outcome, status_code, duration_ms, error)| {
            Ok(Attempt {
                number,
                at,
                outcome: OutcomeKind::from_code(outcome)?,
                status_code,
                duration_ms,
                error,
            })
        })
        .collect()
}

/// Returns one page of messages, by the cheapest query for the filter.
///
/// # Errors
/// [`Error::Invalid`] for the cursor of another list, and database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &MessageFilter,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<Message>> {
    match filter.status {
        Some(MessageStatus::Sending) => in_flight::list(c, filter.mailing, limit, paging::cursor(cursor)?),
        Some(MessageStatus::Queued) => waiting(c, filter.mailing, limit, paging::cursor(cursor)?),
        Some(MessageStatus::Failed) => failed(c, filter.mailing, limit, paging::cursor(cursor)?),
        None | Some(MessageStatus::Sent | MessageStatus::Expired | MessageStatus::Cancelled) => {
            rows(c, filter.mailing, filter.status, limit, cursor)
        }
    }
}

/// Returns one page of the messages that have a row, in the order of the index that finds them.
fn rows(
    c: &mut AnyConnection,
    mailing: Option<MailingId>,
    status: Option<MessageStatus>,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<Message>> {
    let found = match mailing {
        // the index on (mailing, client) finds a mailing's messages, so they are in its order
        Some(id) => {
            let number: i32 = mailing::table.find(id).select(mailing::number).first(c)?;
            scan(limit, status, paging::cursor(cursor)?, |after: Option<ClientId>| {
                let mut query = message::table
                    .filter(message::mailing_number.eq(number))
                    .select(MessageRow::as_select())
                    .order(message::client_id)
                    .limit(SCAN_STEP)
                    .into_boxed();
                if let Some(after) = after {
                    query = query.filter(message::client_id.gt(after));
                }
                let rows = query.load(c)?;
                Ok(rows.into_iter().filter_map(|row: MessageRow| Some((row.client_id?, row))).collect())
            })?
        }
        None => scan(limit, status, paging::cursor(cursor)?, |after: Option<MessageId>| {
            let mut query = message::table
                .select(MessageRow::as_select())
                .order(message::id)
                .limit(SCAN_STEP)
                .into_boxed();
            if let Some(after) = after {
                query = query.filter(message::id.gt(after));
            }
            Ok(query.load(c)?.into_iter().map(|row: MessageRow| (row.id, row)).collect())
        })?,
    };
    Ok(Page { items: into_models(c, found.items)?, next_cursor: found.next_cursor })
}

/// Reads until the page is full, the list ends, or [`LARGEST_SCAN`] rows were read.
fn scan<K: Copy + std::fmt::Display>(
    limit: i64,
    status: Option<MessageStatus>,
    mut after: Option<K>,
    mut step: impl FnMut(Option<K>) -> Result<Vec<(K, MessageRow)>>,
) -> Result<Page<MessageRow>> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut items, mut seen) = (Vec::new(), 0);
    loop {
        let rows = step(after)?;
        let ended = rows.len() < usize::try_from(SCAN_STEP).unwrap_or(usize::MAX);
        for (key, row) in rows {
            if items.len() == wanted || seen == LARGEST_SCAN {
                return Ok(Page { items, next_cursor: after.map(|key| key.to_string()) });
            }
            (after, seen) = (Some(key), seen + 1);
            if status.is_none_or(|status| status.code() == row.status) {
                items.push(row);
            }
        }
        if ended {
            return Ok(Page { items, next_cursor: None });
        }
    }
}

fn waiting(
    c: &mut AnyConnection,
    mailing: Option<MailingId>,
    limit: i64,
    after: Option<MessageId>,
) -> Result<Page<Message>> {
    let mut query = due::table.select(due::message_id).order(due::message_id).limit(limit + 1).into_boxed();
    if let Some(id) = mailing {
        query = query.filter(due::mailing_id.eq(id));
    }
    if let Some(after) = after {
        query = query.filter(due::message_id.gt(after));
    }
    let ids = query.load(c)?;
    by_ids(c, ids, limit)
}

fn failed(
    c: &mut AnyConnection,
    mailing: Option<MailingId>,
    limit: i64,
    after: Option<MessageId>,
) -> Result<Page<Message>> {
    let mut query =
        dead_letter::table.select(dead_letter::id).order(dead_letter::id).limit(limit + 1).into_boxed();
    // a dead letter of an event is not a message
    query = query.filter(dead_letter::channel.is_not_null());
    if let Some(id) = mailing {
        query = query.filter(dead_letter::mailing_id.eq(id));
    }
    if let Some(after) = after {
        query = query.filter(dead_letter::id.gt(after));
    }
    let ids = query.load(c)?;
    by_ids(c, ids, limit)
}

/// Returns the messages of these ids. The ids were queried with one more than `limit`, to detect a next page.
fn by_ids(c: &mut AnyConnection, mut ids: Vec<MessageId>, limit: i64) -> Result<Page<Message>> {
    let next_cursor = paging::cut(&mut ids, limit, ToString::to_string);
    let rows: Vec<MessageRow> = message::table
        .filter(message::id.eq_any(ids))
        .select(MessageRow::as_select())
        .order(message::id)
        .load(c)?;
    Ok(Page { items: into_models(c, rows)?, next_cursor })
}
