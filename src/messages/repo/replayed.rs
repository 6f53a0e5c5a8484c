//! Messages that were replayed after they had failed. Nothing of it stands in a message's row, which is written millions of
//! times: that a message was replayed shows in its revision.

use std::collections::HashMap;

use diesel::prelude::*;

use super::MessageRow;
use crate::db::AnyConnection;
use crate::db::schema::replayed;
use crate::db::types::{MessageId, ReplayId, Timestamp};
use crate::error::Result;

/// A time that a message was replayed.
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

/// Each outcome is a revision, and most are an attempt. A notification begins with a revision more. Who has more than that
/// was replayed, or had an outcome without an attempt.
fn may_be_replayed(row: &MessageRow) -> bool {
    row.revision > row.attempts + i16::from(row.mailing_number.is_none())
}

/// How many attempts had been made at each of these messages when it was last replayed; nothing for those that never were.
/// It asks the database only if one of them may have been.
///
/// # Errors
/// Those of the database.
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
    // the last one counts
    Ok(found.into_iter().map(|row| (row.message_id, row.attempts)).collect())
}

/// When one message was replayed, the first time first.
///
/// # Errors
/// Those of the database.
pub fn of_message(c: &mut AnyConnection, id: MessageId) -> Result<Vec<ReplayedRow>> {
    let of_it = replayed::table.filter(replayed::message_id.eq(id)).order(replayed::number);
    Ok(of_it.select(ReplayedRow::as_select()).load(c)?)
}

/// When these messages were replayed.
///
/// # Errors
/// Those of the database.
pub fn of_each(c: &mut AnyConnection, ids: &[MessageId]) -> Result<Vec<ReplayedRow>> {
    let of_them = replayed::table.filter(replayed::message_id.eq_any(ids));
    Ok(of_them.select(ReplayedRow::as_select()).load(c)?)
}

/// Notes that messages were replayed.
///
/// # Errors
/// Those of the database.
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
