//! Queries on dead letters. [`one`] replays given dead letters, and [`many`] replays by a filter.

pub mod many;
pub mod one;

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{dead_event, dead_letter};
use crate::db::types::{EventId, MailingId, MessageId, Timestamp};
use crate::dead_letters::model::{
    Closed, DeadEvent, DeadLetter, DeadLetterPosition, LetterFilter, LetterKind, NewDeadEvent, Walk,
};
use crate::error::Result;
use crate::kinds::{ChannelKind, ErrorClass};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = dead_letter)]
struct Row {
    id: MessageId,
    mailing_id: Option<MailingId>,
    channel: Option<i16>,
    class: i16,
    failed_at: Timestamp,
    event_id: Option<EventId>,
    error: String,
}

impl TryFrom<Row> for DeadLetter {
    type Error = crate::error::Error;

    fn try_from(row: Row) -> Result<Self> {
        let class = ErrorClass::from_code(row.class)?;
        Ok(Self {
            id: row.id,
            kind: if class == ErrorClass::Poison { LetterKind::Event } else { LetterKind::Message },
            class,
            error: row.error,
            failed_at: row.failed_at,
            channel: row.channel.map(ChannelKind::from_code).transpose()?,
            mailing_id: row.mailing_id,
            event_id: row.event_id,
        })
    }
}

/// The order of dead letters, by the time of the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterOrder {
    /// The oldest failure first.
    OldestFirst,
    /// The newest failure first.
    NewestFirst,
}

/// Returns the open dead letter with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: MessageId) -> Result<Option<DeadLetter>> {
    let open = dead_letter::table.find(id).filter(dead_letter::closed_at.is_null());
    let row: Option<Row> = open.select(Row::as_select()).first(c).optional()?;
    row.map(DeadLetter::try_from).transpose()
}

/// Returns the reason why a dead letter is closed, or `None` if it is open or does not exist.
///
/// # Errors
/// Database errors.
pub fn closed(c: &mut AnyConnection, id: MessageId) -> Result<Option<Closed>> {
    let code: Option<Option<i16>> =
        dead_letter::table.find(id).select(dead_letter::closed).first(c).optional()?;
    code.flatten().map(Closed::from_code).transpose()
}

/// Returns the event of a dead letter.
///
/// # Errors
/// Database errors.
pub fn find_event(c: &mut AnyConnection, id: MessageId) -> Result<Option<DeadEvent>> {
    type Fields = (MessageId, i16, String, Option<String>, Option<String>, Vec<u8>, i32, Timestamp);
    let found: Option<Fields> = dead_event::table
        .find(id)
        .select((
            dead_event::id,
            dead_event::source,
            dead_event::subject,
            dead_event::key,
            dead_event::name,
            dead_event::body,
            dead_event::tries,
            dead_event::received_at,
        ))
        .first(c)
        .optional()?;
    Ok(found.map(|(id, source, subject, key, name, body, tries, received_at)| DeadEvent {
        id,
        source,
        subject,
        key,
        name,
        body,
        tries,
        received_at,
    }))
}

/// Returns up to `limit` open dead letters after a position, in the order of their failures.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &LetterFilter,
    (order, after): (DeadLetterOrder, Option<DeadLetterPosition>),
    limit: i64,
) -> Result<Vec<DeadLetter>> {
    let walks = filter.walks();
    let mut rows = Vec::new();
    for part in &walks {
        rows.extend(walk(c, filter, *part, (order, after), limit)?);
    }
    if walks.len() > 1 {
        rows.sort_by_key(|row| (row.failed_at, row.id));
        if order == DeadLetterOrder::NewestFirst {
            rows.reverse();
        }
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    rows.into_iter().map(DeadLetter::try_from).collect()
}

fn walk(
    c: &mut AnyConnection,
    filter: &LetterFilter,
    part: Walk,
    (order, after): (DeadLetterOrder, Option<DeadLetterPosition>),
    limit: i64,
) -> Result<Vec<Row>> {
    let mut query = dead_letter::table
        .filter(dead_letter::closed_at.is_null())
        .select(Row::as_select())
        .limit(limit)
        .into_boxed();
    match part {
        Walk::Kind(channel, class) => {
            query = query
                .filter(dead_letter::channel.eq(channel.code()))
                .filter(dead_letter::class.eq(class.code()));
        }
        Walk::Events => {
            query = query
                .filter(dead_letter::channel.is_null())
                .filter(dead_letter::class.eq(ErrorClass::Poison.code()));
        }
        Walk::All => {
            if let Some(channel) = filter.channel {
                query = query.filter(dead_letter::channel.eq(channel.code()));
            }
            if let Some(class) = filter.class {
                query = query.filter(dead_letter::class.eq(class.code()));
            }
            if filter.kind == Some(LetterKind::Message) {
                query = query.filter(dead_letter::class.ne(ErrorClass::Poison.code()));
            }
        }
    }
    if let Some(id) = filter.mailing_id {
        query = query.filter(dead_letter::mailing_id.eq(id));
    }
    if let Some(id) = filter.event_id {
        query = query.filter(dead_letter::event_id.eq(id));
    }
    if let Some(at) = filter.failed_after {
        query = query.filter(dead_letter::failed_at.ge(at));
    }
    if let Some(at) = filter.failed_before {
        query = query.filter(dead_letter::failed_at.lt(at));
    }
    // the first condition bounds the index walk; the second skips those of the same time that were already returned
    query = match (order, after) {
        (_, None) => query,
        (DeadLetterOrder::OldestFirst, Some(DeadLetterPosition { at, id })) => query
            .filter(dead_letter::failed_at.ge(at))
            .filter(dead_letter::failed_at.gt(at).or(dead_letter::id.gt(id))),
        (DeadLetterOrder::NewestFirst, Some(DeadLetterPosition { at, id })) => query
            .filter(dead_letter::failed_at.le(at))
            .filter(dead_letter::failed_at.lt(at).or(dead_letter::id.lt(id))),
    };
    query = match order {
        DeadLetterOrder::OldestFirst => query.order((dead_letter::failed_at, dead_letter::id)),
        DeadLetterOrder::NewestFirst => query.order((dead_letter::failed_at.desc(), dead_letter::id.desc())),
    };
    Ok(query.load(c)?)
}

/// Stores an event that could not be accepted. Returns false if it was stored before.
///
/// # Errors
/// Database errors.
pub fn bury_event(c: &mut AnyConnection, new: &NewDeadEvent, now: Timestamp) -> Result<bool> {
    let known: Option<MessageId> =
        dead_letter::table.find(new.id).select(dead_letter::id).first(c).optional()?;
    if known.is_some() {
        return Ok(false);
    }
    diesel::insert_into(dead_event::table)
        .values((
            dead_event::id.eq(new.id),
            dead_event::source.eq(new.source),
            dead_event::subject.eq(&new.subject),
            dead_event::key.eq(&new.key),
            dead_event::name.eq(&new.name),
            dead_event::body.eq(&new.body),
            dead_event::tries.eq(new.tries),
            dead_event::received_at.eq(new.received_at),
        ))
        .execute(c)?;
    diesel::insert_into(dead_letter::table)
        .values((
            dead_letter::id.eq(new.id),
            dead_letter::class.eq(ErrorClass::Poison.code()),
            dead_letter::failed_at.eq(now),
            dead_letter::error.eq(&new.error),
        ))
        .execute(c)?;
    Ok(true)
}

/// Deletes the dead letter of an event that was accepted. Returns false if there was none.
///
/// # Errors
/// Database errors.
pub fn forget_event(c: &mut AnyConnection, id: MessageId) -> Result<bool> {
    let open = dead_letter::table.find(id).filter(dead_letter::closed_at.is_null());
    let gone = diesel::delete(open).execute(c)? > 0;
    if gone {
        diesel::delete(dead_event::table.find(id)).execute(c)?;
    }
    Ok(gone)
}

/// Closes the open ones of these dead letters, and returns their number. A message's dead letter remains as the record
/// of its failure.
///
/// # Errors
/// Database errors.
pub fn close(c: &mut AnyConnection, ids: &[MessageId], why: Closed, now: Timestamp) -> Result<usize> {
    let held = hold(c, ids)?;
    let closed = diesel::update(dead_letter::table.filter(dead_letter::id.eq_any(&held)))
        .set((dead_letter::closed_at.eq(Some(now)), dead_letter::closed.eq(Some(why.code()))))
        .execute(c)?;
    diesel::delete(dead_event::table.filter(dead_event::id.eq_any(&held))).execute(c)?;
    Ok(closed)
}

/// Locks the open ones of these dead letters until the transaction ends, and returns their ids. All transactions lock
/// in the order of the ids, so that there is no deadlock.
fn hold(c: &mut AnyConnection, ids: &[MessageId]) -> Result<Vec<MessageId>> {
    let open = dead_letter::table
        .filter(dead_letter::id.eq_any(ids))
        .filter(dead_letter::closed_at.is_null())
        .order(dead_letter::id)
        .select(dead_letter::id);
    match c {
        AnyConnection::Postgres(c) => Ok(open.for_update().load(c)?),
        AnyConnection::Sqlite(c) => Ok(open.load(c)?),
    }
}

/// Returns the number of open dead letters.
///
/// # Errors
/// Database errors.
pub fn count(c: &mut AnyConnection) -> Result<i64> {
    Ok(dead_letter::table.filter(dead_letter::closed_at.is_null()).count().get_result(c)?)
}
