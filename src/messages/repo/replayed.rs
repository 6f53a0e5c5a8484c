//! Replays of failed messages. They are not stored in the message's row, because rows are written millions of times. A
//! replay shows in the message's revision.

use std::collections::HashMap;

use diesel::prelude::*;

use super::MessageRow;
use crate::db::AnyConnection;
use crate::db::schema::replayed;
use crate::db::types::{MessageId, ReplayId, Timestamp};
use crate::error::Result;

/// One replay of a message.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = replayed, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct ReplayedRow {
    pub message_id: MessageId,
    pub number: i16,
    pub at: Timestamp,
    pub attempts: i16,
    pub replay_id: Option<ReplayId>,
}

/// Returns true if the message may have been replayed. Each outcome adds a revision, and most outcomes are an attempt.
/// A notification starts with one revision more. A message with more revisions than that was replayed, or had an
/// outcome without an attempt.
fn may_be_replayed(row: &MessageRow) -> bool {
    row.revision > row.attempts + i16::from(row.mailing_number.is_none())
}

/// Returns the number of attempts before the last replay, for each of these messages that was replayed. It queries the
/// database only if one of them may have been replayed.
///
/// # Errors
/// Database errors.
pub fn attempts_before<'r>(
    c: &mut AnyConnection,
    rows: impl Iterator<Item = &'r MessageRow>,
) -> Result<HashMap<MessageId, i16>> {
    let ids: Vec<MessageId> = rows.filter(|row| may_be_replayed(row)).map(|row| row.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut found: Vec<ReplayedRow> = of_each(c, &ids)?;
    found.sort_by_key(|row| row.number);
    // the last replay counts
    Ok(found.into_iter().map(|row| (row.message_id, row.attempts)).collect())
}

/// Returns the replays of one message, oldest first.
///
/// # Errors
/// Database errors.
pub fn of_message(c: &mut AnyConnection, id: MessageId) -> Result<Vec<ReplayedRow>> {
    let of_it = replayed::table.filter(replayed::message_id.eq(id)).order(replayed::number);
    Ok(of_it.select(ReplayedRow::as_select()).load(c)?)
}

/// Returns the replays of these messages.
///
/// # Errors
/// Database errors.
pub fn of_each(c: &mut AnyConnection, ids: &[MessageId]) -> Result<Vec<ReplayedRow>> {
    let of_them = replayed::table.filter(replayed::message_id.eq_any(ids));
    Ok(of_them.select(ReplayedRow::as_select()).load(c)?)
}

/// Records replays.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, rows: &[ReplayedRow]) -> Result<()> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => {}
        AnyConnection::Postgres(c) => {
            diesel::insert_into(replayed::table).values(rows).execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(replayed::table).values(row).execute(c)?;
            }
        }
    }
    Ok(())
}
