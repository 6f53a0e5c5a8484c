//! Statements that write messages and what waits.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text};

use super::MessageRow;
use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::{due, message};
use crate::db::types::{Id, Instant, MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::MessageStatus;

/// A recipient that is an integer, as phone numbers are, is stored as one.
const RECIPIENT: [&str; 2] = ["iif(CAST(CAST(", " AS INTEGER) AS TEXT) = ?1, CAST(?1 AS INTEGER), ?1)"];

/// The rows' values of one column, as an array.
fn column<'r, T>(rows: &[&'r MessageRow], value: impl Fn(&'r MessageRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

struct InsertOutcomes;

impl Statement for InsertOutcomes {
    const TEXT: &'static str = include_str!("sql/insert_messages.postgres.sql");
    type Row = Id;
}

impl Insert for InsertOutcomes {
    const HEAD: &'static str = "INSERT INTO message (recipient, id, client_id, due_at, expires_at, finished_at, \
        mailing_number, duration_ms, status_code, channel, priority, status, attempts, revision, provider_id, error) \
        VALUES (";
    const TAIL: &'static str = ") ON CONFLICT DO NOTHING";
    type Row = MessageRow;

    fn bind<'r>(row: &'r MessageRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind_within::<Text, _>(RECIPIENT[0], &row.recipient, RECIPIENT[1])?;
        values.bind::<Id, _>(&row.id)?;
        values.bind::<Nullable<Id>, _>(&row.client_id)?;
        values.bind_all::<Nullable<Instant>, _, _>([&row.due_at, &row.expires_at, &row.finished_at])?;
        values.bind_all::<Nullable<Integer>, _, _>([&row.mailing_number, &row.duration_ms])?;
        values.bind::<Nullable<SmallInt>, _>(&row.status_code)?;
        let codes = [&row.channel, &row.priority, &row.status, &row.attempts, &row.revision];
        values.bind_all::<SmallInt, _, _>(codes)?;
        values.bind_all::<Nullable<Text>, _, _>([&row.provider_id, &row.error])
    }
}

/// Writes new messages; answers which were new.
///
/// # Errors
/// Those of the database.
pub fn insert_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<HashSet<MessageId>> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => Ok(HashSet::new()),
        AnyConnection::Postgres(c) => {
            let columns = (
                column(rows, |r| r.id).into_sql::<Array<Id>>(),
                column(rows, |r| r.client_id).into_sql::<Array<Nullable<Id>>>(),
                column(rows, |r| r.due_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.expires_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.finished_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.mailing_number).into_sql::<Array<Nullable<Integer>>>(),
                column(rows, |r| r.duration_ms).into_sql::<Array<Nullable<Integer>>>(),
                column(rows, |r| r.status_code).into_sql::<Array<Nullable<SmallInt>>>(),
                column(rows, |r| r.channel).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.priority).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.status).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.attempts).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.revision).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.recipient.as_str()).into_sql::<Array<Text>>(),
                column(rows, |r| r.provider_id.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.error.as_deref()).into_sql::<Array<Nullable<Text>>>(),
            );
            Ok(Bulk::of(InsertOutcomes, columns).load::<MessageId>(c)?.into_iter().collect())
        }
        AnyConnection::Sqlite(c) => one_by_one(rows, |row| Insertion::of(InsertOutcomes, row).execute(c)),
    }
}

/// SQLite has no round trip to save: one prepared statement, run for each row. Answers for which it did something.
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

/// Writes the outcomes of messages that have a row; answers which were still at the revision before.
///
/// # Errors
/// Those of the database.
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

struct InsertNew;

impl Statement for InsertNew {
    const TEXT: &'static str = include_str!("sql/insert_new_messages.postgres.sql");
    type Row = ();
}

impl Insert for InsertNew {
    const HEAD: &'static str = "INSERT INTO message (attempts, recipient, id, client_id, due_at, expires_at, channel, \
        priority, status, revision) VALUES (0, ";
    type Row = MessageRow;

    fn bind<'r>(row: &'r MessageRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind_within::<Text, _>(RECIPIENT[0], &row.recipient, RECIPIENT[1])?;
        values.bind::<Id, _>(&row.id)?;
        values.bind::<Nullable<Id>, _>(&row.client_id)?;
        values.bind_all::<Nullable<Instant>, _, _>([&row.due_at, &row.expires_at])?;
        values.bind_all::<SmallInt, _, _>([&row.channel, &row.priority, &row.status, &row.revision])
    }
}

/// Writes messages as they are accepted: nobody has tried to deliver them, and none is of a mailing.
///
/// # Errors
/// Those of the database; a message that is there already is one.
pub fn insert_new_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<()> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => {}
        AnyConnection::Postgres(c) => {
            let columns = (
                column(rows, |r| r.id).into_sql::<Array<Id>>(),
                column(rows, |r| r.client_id).into_sql::<Array<Nullable<Id>>>(),
                column(rows, |r| r.due_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.expires_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.channel).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.priority).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.status).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.revision).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.recipient.as_str()).into_sql::<Array<Text>>(),
            );
            Bulk::of(InsertNew, columns).execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for row in rows {
                Insertion::of(InsertNew, *row).execute(c)?;
            }
        }
    }
    Ok(())
}

/// A row of `due`.
#[derive(Debug)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct DueRow {
    pub message_id: MessageId,
    pub mailing_id: Option<MailingId>,
    pub channel: i16,
    pub priority: i16,
    pub due_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl DueRow {
    /// The message waits, as it stands in its row, until `due_at`.
    pub fn of(row: &MessageRow, mailing_id: Option<MailingId>, due_at: Timestamp) -> Self {
        let (channel, priority) = (row.channel, row.priority);
        Self { message_id: row.id, mailing_id, channel, priority, due_at, expires_at: row.expires_at }
    }
}

struct InsertDue;

impl Statement for InsertDue {
    const TEXT: &'static str = include_str!("sql/insert_due.postgres.sql");
    type Row = ();
}

impl Insert for InsertDue {
    const HEAD: &'static str =
        "INSERT INTO due (message_id, mailing_id, channel, priority, due_at, expires_at) VALUES (";
    type Row = DueRow;

    fn bind<'r>(row: &'r DueRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Id, _>(&row.message_id)?;
        values.bind::<Nullable<Id>, _>(&row.mailing_id)?;
        values.bind_all::<SmallInt, _, _>([&row.channel, &row.priority])?;
        values.bind::<Instant, _>(&row.due_at)?;
        values.bind::<Nullable<Instant>, _>(&row.expires_at)
    }
}

/// Lets messages wait.
///
/// # Errors
/// Those of the database.
pub fn insert_due(c: &mut AnyConnection, rows: &[DueRow]) -> Result<()> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => {}
        AnyConnection::Postgres(c) => {
            let columns = (
                rows.iter().map(|r| r.message_id).collect::<Vec<_>>().into_sql::<Array<Id>>(),
                rows.iter().map(|r| r.mailing_id).collect::<Vec<_>>().into_sql::<Array<Nullable<Id>>>(),
                rows.iter().map(|r| r.channel).collect::<Vec<_>>().into_sql::<Array<SmallInt>>(),
                rows.iter().map(|r| r.priority).collect::<Vec<_>>().into_sql::<Array<SmallInt>>(),
                rows.iter().map(|r| r.due_at).collect::<Vec<_>>().into_sql::<Array<Instant>>(),
                rows.iter().map(|r| r.expires_at).collect::<Vec<_>>().into_sql::<Array<Nullable<Instant>>>(),
            );
            Bulk::of(InsertDue, columns).execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for row in rows {
                Insertion::of(InsertDue, row).execute(c)?;
            }
        }
    }
    Ok(())
}

/// Ends those of these messages that wait; answers which. Whoever deletes the row of `due` has the message: a claim that
/// came first keeps it, and one that comes later finds nothing.
///
/// # Errors
/// Those of the database.
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
            // why the last attempt failed stays, unless there is another reason
            why.map(|why| message::error.eq(Some(why))),
        ))
        .execute(c)?;
    failpoint::reach("end-before-commit");
    Ok(taken)
}
