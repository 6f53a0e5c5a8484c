//! Statements that write messages and the rows of `due`.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text};

use super::MessageRow;
use super::row::{InsertOutcomes, RECIPIENT};
use crate::db::AnyConnection;
use crate::db::bulk::{bulk_insert, table_row};
use crate::db::schema::{due, message};
use crate::db::types::{Id, Instant, MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::MessageStatus;

/// Returns the rows' values of one column, as an array.
fn column<'r, T>(rows: &[&'r MessageRow], value: impl Fn(&'r MessageRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

/// Inserts messages. Returns the ids that did not exist before.
///
/// # Errors
/// Database errors.
pub fn insert_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<HashSet<MessageId>> {
    Ok(InsertOutcomes::insert(c, rows)?.into_iter().collect())
}

/// Runs one prepared statement for each row, because SQLite has no round trips to save. Returns the ids of the rows
/// that it changed.
fn one_by_one(
    rows: &[&MessageRow],
    mut write: impl FnMut(&MessageRow) -> QueryResult<usize>,
) -> Result<HashSet<MessageId>> {
    let mut written = HashSet::with_capacity(rows.len());
    for row in rows {
        if write(row)? > 0 {
            written.insert(row.id);
        }
    }
    Ok(written)
}

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = Id)]
    id: MessageId,
}

/// Writes the outcomes of messages that have a row. Returns the ids that were still at the previous revision.
///
/// # Errors
/// Database errors.
pub fn update_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<HashSet<MessageId>> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => Ok(HashSet::new()),
        AnyConnection::Postgres(c) => {
            let written: Vec<Written> = diesel::sql_query(include_str!("sql/update_messages.postgres.sql"))
                .bind::<Array<Id>, _>(column(rows, |r| r.id))
                .bind::<Array<SmallInt>, _>(column(rows, |r| r.status))
                .bind::<Array<SmallInt>, _>(column(rows, |r| r.attempts))
                .bind::<Array<SmallInt>, _>(column(rows, |r| r.revision))
                .bind::<Array<Nullable<Instant>>, _>(column(rows, |r| r.due_at))
                .bind::<Array<Nullable<Instant>>, _>(column(rows, |r| r.finished_at))
                .bind::<Array<Nullable<SmallInt>>, _>(column(rows, |r| r.status_code))
                .bind::<Array<Nullable<Integer>>, _>(column(rows, |r| r.duration_ms))
                .bind::<Array<Nullable<Text>>, _>(column(rows, |r| r.provider_id.as_deref()))
                .bind::<Array<Nullable<Text>>, _>(column(rows, |r| r.error.as_deref()))
                .load(c)?;
            Ok(written.into_iter().map(|row| row.id).collect())
        }
        AnyConnection::Sqlite(c) => one_by_one(rows, |row| {
            let target = message::table.find(row.id).filter(message::revision.eq(row.revision - 1));
            diesel::update(target)
                .set((
                    message::status.eq(row.status),
                    message::attempts.eq(row.attempts),
                    message::revision.eq(row.revision),
                    message::due_at.eq(row.due_at),
                    message::finished_at.eq(row.finished_at),
                    message::status_code.eq(row.status_code),
                    message::duration_ms.eq(row.duration_ms),
                    message::provider_id.eq(&row.provider_id),
                    message::error.eq(&row.error),
                ))
                .execute(c)
        }),
    }
}

// Unlike outcomes, these rows are never written twice, so there is no ON CONFLICT: it would look every row up in both
// unique indexes first, and write it in two steps.
bulk_insert! {
    InsertNew: MessageRow in message
        (recipient as RECIPIENT, id, client_id, due_at, expires_at, channel, priority, status, attempts, revision) ""
}

/// Inserts accepted messages, which have no attempts and no mailing.
///
/// # Errors
/// Database errors; an existing message is one.
pub fn insert_new_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<()> {
    InsertNew::insert(c, rows)?;
    Ok(())
}

table_row! {
    /// A row of `due`.
    #[derive(Debug)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct DueRow in due {
        pub message_id: MessageId,
        pub mailing_id: Option<MailingId>,
        pub channel: i16,
        pub priority: i16,
        pub due_at: Timestamp,
        pub expires_at: Option<Timestamp>,
    }
    insert InsertDue ""
}

impl DueRow {
    /// Creates the row for a message that waits until `due_at`.
    pub fn new(row: &MessageRow, mailing_id: Option<MailingId>, due_at: Timestamp) -> Self {
        let (channel, priority) = (row.channel, row.priority);
        Self { message_id: row.id, mailing_id, channel, priority, due_at, expires_at: row.expires_at }
    }
}

/// Queues messages until they are due.
///
/// # Errors
/// Database errors.
pub fn insert_due(c: &mut AnyConnection, rows: &[DueRow]) -> Result<()> {
    InsertDue::insert(c, rows)?;
    Ok(())
}

/// Ends the waiting ones among these messages, and returns their ids. The transaction that deletes the row of `due`
/// owns the message: an earlier claim keeps it, and a later claim finds no row.
///
/// # Errors
/// Database errors.
pub fn end_waiting(
    c: &mut AnyConnection,
    ids: &[MessageId],
    (status, why): (MessageStatus, Option<&str>),
    now: Timestamp,
) -> Result<Vec<MessageId>> {
    let taken: Vec<MessageId> = diesel::delete(due::table.filter(due::message_id.eq_any(ids)))
        .returning(due::message_id)
        .get_results(c)?;
    diesel::update(message::table.filter(message::id.eq_any(&taken)))
        .set((
            message::status.eq(status.code()),
            message::revision.eq(message::revision + 1_i16),
            message::due_at.eq(None::<Timestamp>),
            message::finished_at.eq(Some(now)),
            // the error of the last attempt stays, unless there is another reason
            why.map(|why| message::error.eq(Some(why))),
        ))
        .execute(c)?;
    failpoint::reach("end-before-commit");
    Ok(taken)
}
