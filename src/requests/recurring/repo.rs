//! Queries on recurring requests.

mod row;

use std::time::Duration;

use diesel::prelude::*;

use super::model::RecurringStatus;
use crate::db::AnyConnection;
use crate::db::schema::{message, recurring_request, request};
use crate::db::types::{MessageId, RecurringId, ResourceId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::MessageStatus;
use crate::messages::repo::MessageRow;
use crate::requests;
use crate::requests::model::RequestKind;
use crate::requests::repo::RequestRow;

pub use row::RecurringRow;

/// An unreadable recurring request is tried again after this time, so that it does not hold up others. A later version
/// of the service may know its time zone.
const LATER: Duration = Duration::from_secs(60 * 60);

/// Stores a new recurring request.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, new: &RecurringRow) -> Result<()> {
    diesel::insert_into(recurring_request::table).values(new).execute(c)?;
    Ok(())
}

/// Returns the recurring request with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: RecurringId) -> Result<Option<RecurringRow>> {
    let found = recurring_request::table.find(id).select(RecurringRow::as_select());
    Ok(found.first(c).optional()?)
}

/// Returns the recurring request with this id, and locks it until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(c: &mut AnyConnection, id: RecurringId) -> Result<Option<RecurringRow>> {
    match c {
        AnyConnection::Postgres(c) => {
            let found = recurring_request::table.find(id).select(RecurringRow::as_select());
            Ok(found.for_update().first(c).optional()?)
        }
        // SQLite has one write transaction at a time
        sqlite @ AnyConnection::Sqlite(_) => find(sqlite, id),
    }
}

/// Returns up to `limit` recurring requests older than `before`, the newest first.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    status: Option<RecurringStatus>,
    before: Option<RecurringId>,
    limit: i64,
) -> Result<Vec<RecurringRow>> {
    let mut query = recurring_request::table
        .select(RecurringRow::as_select())
        .order(recurring_request::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(status) = status {
        query = query.filter(recurring_request::status.eq(status.code()));
    }
    if let Some(before) = before {
        query = query.filter(recurring_request::id.lt(before));
    }
    Ok(query.load(c)?)
}

/// Updates the status of a recurring request and the time of its next occurrence.
///
/// # Errors
/// Database errors.
pub fn change(
    c: &mut AnyConnection,
    id: RecurringId,
    (status, next_at): (RecurringStatus, Option<Timestamp>),
    now: Timestamp,
) -> Result<()> {
    diesel::update(recurring_request::table.find(id))
        .set((
            recurring_request::status.eq(status.code()),
            recurring_request::next_at.eq(next_at),
            recurring_request::updated_at.eq(now),
        ))
        .execute(c)?;
    Ok(())
}

/// Returns its occurrences that have not ended.
///
/// # Errors
/// Database errors.
pub fn open_runs(c: &mut AnyConnection, id: RecurringId) -> Result<Vec<MessageId>> {
    let waiting = request::table
        .inner_join(message::table.on(message::id.eq(request::message_id)))
        .filter(request::parent_id.eq(ResourceId(id.0)))
        .filter(request::kind.eq(RequestKind::Run.code()))
        .filter(message::status.eq(MessageStatus::Queued.code()))
        .order(request::message_id)
        .select(request::message_id);
    Ok(waiting.load(c)?)
}

/// Returns the time of the next occurrence of any recurring request.
///
/// # Errors
/// Database errors.
pub fn next_due(c: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let planned = recurring_request::table.filter(recurring_request::next_at.is_not_null());
    let next: Option<Option<Timestamp>> =
        planned.order(recurring_request::next_at).select(recurring_request::next_at).first(c).optional()?;
    Ok(next.flatten())
}

/// The result of creating due occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedOccurrences {
    /// The number of due recurring requests that were processed.
    pub recurring: usize,
    /// The number of created occurrences.
    pub runs: usize,
}

/// Creates the occurrences of up to `limit` due recurring requests, and plans the next ones. Each time becomes exactly
/// one occurrence, even with concurrent nodes and crashes.
///
/// # Errors
/// Database errors: then nothing is created.
pub fn create_due_occurrences(
    c: &mut AnyConnection,
    limit: i64,
    now: Timestamp,
) -> Result<CreatedOccurrences> {
    let rows = take_due(c, limit, now)?;
    let mut made = Vec::new();
    for row in &rows {
        let (runs, next_at) = match due_of(row, now) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, recurring = %row.id, "recurring request could not be read");
                (Vec::new(), Some(now.plus(LATER)))
            }
        };
        diesel::update(recurring_request::table.find(row.id))
            .set((
                recurring_request::next_at.eq(next_at),
                runs.last().map(|(message, _)| recurring_request::last_at.eq(message.due_at)),
            ))
            .execute(c)?;
        made.extend(runs);
    }
    let taken = CreatedOccurrences { recurring: rows.len(), runs: made.len() };
    requests::repo::insert(c, made, now)?;
    failpoint::reach("recur-before-commit");
    Ok(taken)
}

/// The rows of an occurrence.
type Occurrence = (MessageRow, RequestRow);

fn due_of(row: &RecurringRow, now: Timestamp) -> Result<(Vec<Occurrence>, Option<Timestamp>)> {
    let due = row.schedule()?.due(row.next_at.unwrap_or(now), now);
    let runs = due.runs.into_iter().map(|at| run(row, at, now));
    Ok((runs.collect::<Result<_>>()?, due.next_at))
}

/// Creates the rows of an occurrence that is scheduled at `at`.
///
/// # Errors
/// The errors of [`RecurringRow::asked`].
pub fn run(row: &RecurringRow, at: Timestamp, now: Timestamp) -> Result<Occurrence> {
    let of = (RequestKind::Run, Some(ResourceId(row.id.0)));
    row.asked()?.into_rows(MessageId::new(), of, at, now)
}

/// Stores the due time of its last occurrence.
///
/// # Errors
/// Database errors.
pub fn note_run(c: &mut AnyConnection, id: RecurringId, due_at: Timestamp) -> Result<()> {
    diesel::update(recurring_request::table.find(id))
        .set(recurring_request::last_at.eq(due_at))
        .execute(c)?;
    Ok(())
}

fn take_due(c: &mut AnyConnection, limit: i64, now: Timestamp) -> Result<Vec<RecurringRow>> {
    // a macro, since the query has a different type for each database
    macro_rules! due {
        () => {
            recurring_request::table
                .filter(recurring_request::next_at.le(now))
                .order((recurring_request::next_at, recurring_request::id))
                .limit(limit)
                .select(RecurringRow::as_select())
        };
    }
    Ok(match c {
        AnyConnection::Postgres(c) => due!().for_update().skip_locked().load(c)?,
        AnyConnection::Sqlite(c) => due!().load(c)?,
    })
}
