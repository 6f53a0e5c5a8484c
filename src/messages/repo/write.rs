//! Statements that write messages and what waits.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text};

use super::{Insertion, MessageRow};
use crate::db::AnyConnection;
use crate::db::schema::due;
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

/// A row of `due`.
#[derive(Debug, Insertable)]
#[diesel(table_name = due, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct DueRow {
    pub message_id: MessageId,
    pub mailing_id: Option<MailingId>,
    pub channel: i16,
    pub priority: i16,
    pub due_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// Lets messages wait.
///
/// # Errors
/// Those of the database.
pub fn insert_due(c: &mut AnyConnection, rows: &[DueRow]) -> Result<()> {
    match c {
        AnyConnection::Postgres(c) if !rows.is_empty() => {
            diesel::sql_query(include_str!("sql/insert_due.postgres.sql"))
                .bind::<Array<Id>, _>(rows.iter().map(|r| r.message_id).collect::<Vec<_>>())
                .bind::<Array<Nullable<Id>>, _>(rows.iter().map(|r| r.mailing_id).collect::<Vec<_>>())
                .bind::<Array<SmallInt>, _>(rows.iter().map(|r| r.channel).collect::<Vec<_>>())
                .bind::<Array<SmallInt>, _>(rows.iter().map(|r| r.priority).collect::<Vec<_>>())
                .bind::<Array<Instant>, _>(rows.iter().map(|r| r.due_at).collect::<Vec<_>>())
                .bind::<Array<Nullable<Instant>>, _>(rows.iter().map(|r| r.expires_at).collect::<Vec<_>>())
                .execute(c)?;
        }
        AnyConnection::Postgres(_) => {}
        AnyConnection::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(due::table).values(row).execute(c)?;
            }
        }
    }
    Ok(())
}
