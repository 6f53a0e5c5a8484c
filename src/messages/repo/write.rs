//! Statements that write messages and what waits.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::{Insertion, MessageRow, NewInsertion};
use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Statement};
use crate::db::types::{Id, Instant, MailingId, MessageId, Timestamp};
use crate::error::Result;

/// Writes new messages; answers which were new.
///
/// # Errors
/// Those of the database.
pub fn insert_messages(c: &mut AnyConnection, rows: &[&MessageRow]) -> Result<HashSet<MessageId>> {
    match c {
        AnyConnection::Postgres(c) => insert_postgres(c, rows),
        // no round trip to save: one prepared statement, run for each row
        AnyConnection::Sqlite(c) => {
            let mut written = HashSet::with_capacity(rows.len());
            for row in rows {
                if Insertion(row).execute(c)? > 0 {
                    written.insert(row.id);
                }
            }
            Ok(written)
        }
    }
}

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = Id)]
    id: MessageId,
}

/// The rows' values of one column, as an array.
fn column<'r, T>(rows: &[&'r MessageRow], value: impl Fn(&'r MessageRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

fn insert_postgres(c: &mut PgConnection, rows: &[&MessageRow]) -> Result<HashSet<MessageId>> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let written: Vec<Written> = diesel::sql_query(include_str!("sql/insert_messages.postgres.sql"))
        .bind::<Array<Id>, _>(column(rows, |r| r.id))
        .bind::<Array<Nullable<Id>>, _>(column(rows, |r| r.client_id))
        .bind::<Array<Nullable<Instant>>, _>(column(rows, |r| r.due_at))
        .bind::<Array<Nullable<Instant>>, _>(column(rows, |r| r.expires_at))
        .bind::<Array<Nullable<Instant>>, _>(column(rows, |r| r.finished_at))
        .bind::<Array<Nullable<Integer>>, _>(column(rows, |r| r.mailing_number))
        .bind::<Array<Nullable<Integer>>, _>(column(rows, |r| r.duration_ms))
        .bind::<Array<Nullable<SmallInt>>, _>(column(rows, |r| r.status_code))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.channel))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.priority))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.status))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.attempts))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.revision))
        .bind::<Array<Text>, _>(column(rows, |r| r.recipient.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |r| r.provider_id.as_deref()))
        .bind::<Array<Nullable<Text>>, _>(column(rows, |r| r.error.as_deref()))
        .load(c)?;
    Ok(written.into_iter().map(|row| row.id).collect())
}

struct InsertNew;

impl Statement for InsertNew {
    const TEXT: &'static str = include_str!("sql/insert_new_messages.postgres.sql");
    type Row = ();
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
                NewInsertion(row).execute(c)?;
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

struct InsertDue;

impl Statement for InsertDue {
    const TEXT: &'static str = include_str!("sql/insert_due.postgres.sql");
    type Row = ();
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
                DueInsertion(row).execute(c)?;
            }
        }
    }
    Ok(())
}

/// As [`Insertion`]: diesel's own is walked through several times for every row.
struct DueInsertion<'r>(&'r DueRow);

impl QueryId for DueInsertion<'_> {
    type QueryId = DueInsertion<'static>;
}

impl RunQueryDsl<SqliteConnection> for DueInsertion<'_> {}

impl QueryFragment<Sqlite> for DueInsertion<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let Self(row) = self;
        out.push_sql(
            "INSERT INTO due (message_id, mailing_id, channel, priority, due_at, expires_at) VALUES (",
        );
        out.push_bind_param::<Id, _>(&row.message_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Id>, _>(&row.mailing_id)?;
        for code in [&row.channel, &row.priority] {
            out.push_sql(", ");
            out.push_bind_param::<SmallInt, _>(code)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<Instant, _>(&row.due_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Instant>, _>(&row.expires_at)?;
        out.push_sql(")");
        Ok(())
    }
}
