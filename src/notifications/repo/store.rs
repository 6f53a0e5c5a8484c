//! Storing what came in: many requests in one transaction, each whole or not at all.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Nullable, Text};

use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::{batch, notification};
use crate::db::types::{BatchId, EventId, Id, Instant, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{self, Claim, Verdict};
use crate::kinds::NotificationStatus;
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_new_messages};

/// A row of `notification`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = notification)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct NotificationRow {
    pub message_id: MessageId,
    pub batch_id: Option<BatchId>,
    pub scheduled_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub is_awaited: bool,
    pub text: String,
    pub subject: Option<String>,
    pub html: Option<String>,
    pub data: Option<String>,
    pub metadata: Option<String>,
    pub retry: Option<String>,
    pub event_id: Option<EventId>,
    #[diesel(column_name = message_group)]
    pub group: Option<String>,
    pub is_transactional: bool,
    pub template: Option<String>,
}

impl NotificationRow {
    /// What is shown of it right after it was accepted.
    pub fn status_at_first(&self, message: &MessageRow) -> NotificationStatus {
        let is_later = message.due_at.is_some_and(|at| at > self.updated_at);
        if is_later { NotificationStatus::Scheduled } else { NotificationStatus::Queued }
    }
}

/// What one request makes.
#[derive(Debug, Clone)]
pub struct NewRows {
    /// Each notification's message and content.
    pub rows: Vec<(MessageRow, NotificationRow)>,
    /// The batch that they are.
    pub batch: Option<BatchId>,
    /// The key that the request came with.
    pub claim: Option<Claim>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Its rows are there.
    New,
    /// Nothing was stored: its key is not this request's.
    Refused(Verdict),
}

/// Stores what these requests make, no two of which have one key.
///
/// # Errors
/// Those of the database: then nothing of any of them is stored.
pub fn store(c: &mut AnyConnection, requests: &[NewRows], now: Timestamp) -> Result<Vec<Stored>> {
    let claims = requests.iter().map(|request| request.claim.as_ref());
    let verdicts = idempotency::take_each(c, claims, now)?.into_iter();
    let stored: Vec<Stored> = verdicts.map(|verdict| verdict.map_or(Stored::New, Stored::Refused)).collect();
    let new: Vec<&NewRows> = requests
        .iter()
        .zip(&stored)
        .filter(|(_, stored)| **stored == Stored::New)
        .map(|(request, _)| request)
        .collect();
    let rows: Vec<&(MessageRow, NotificationRow)> = new.iter().flat_map(|request| &request.rows).collect();
    insert_new_messages(c, &rows.iter().map(|(message, _)| message).collect::<Vec<_>>())?;
    insert_notifications(c, &rows.iter().map(|(_, notification)| notification).collect::<Vec<_>>())?;
    let due: Vec<DueRow> =
        rows.iter().map(|(message, _)| DueRow::of(message, None, message.due_at.unwrap_or(now))).collect();
    insert_due(c, &due)?;
    for request in new {
        if let Some(id) = request.batch {
            let total = i32::try_from(request.rows.len()).unwrap_or(i32::MAX);
            diesel::insert_into(batch::table)
                .values((batch::id.eq(id), batch::total.eq(total)))
                .execute(c)?;
        }
    }
    failpoint::reach("accept-before-commit");
    Ok(stored)
}

/// The rows' values of one column, as an array.
fn column<'r, T>(rows: &[&'r NotificationRow], value: impl Fn(&'r NotificationRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

struct InsertNotifications;

impl Statement for InsertNotifications {
    const TEXT: &'static str = include_str!("sql/insert_notifications.postgres.sql");
    type Row = ();
}

impl Insert for InsertNotifications {
    const HEAD: &'static str = "INSERT INTO notification (message_id, batch_id, scheduled_at, updated_at, is_awaited, \
        text, subject, html, data, metadata, retry, event_id, message_group, is_transactional, template) VALUES (";
    type Row = NotificationRow;

    fn bind<'r>(row: &'r NotificationRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Id, _>(&row.message_id)?;
        values.bind::<Nullable<Id>, _>(&row.batch_id)?;
        values.bind::<Nullable<Instant>, _>(&row.scheduled_at)?;
        values.bind::<Instant, _>(&row.updated_at)?;
        values.bind::<Bool, _>(&row.is_awaited)?;
        values.bind::<Text, _>(&row.text)?;
        let texts = [&row.subject, &row.html, &row.data, &row.metadata, &row.retry];
        values.bind_all::<Nullable<Text>, _, _>(texts)?;
        values.bind::<Nullable<Id>, _>(&row.event_id)?;
        values.bind::<Nullable<Text>, _>(&row.group)?;
        values.bind::<Bool, _>(&row.is_transactional)?;
        values.bind::<Nullable<Text>, _>(&row.template)
    }
}

fn insert_notifications(c: &mut AnyConnection, rows: &[&NotificationRow]) -> Result<()> {
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => {}
        AnyConnection::Postgres(c) => {
            let columns = (
                column(rows, |r| r.message_id).into_sql::<Array<Id>>(),
                column(rows, |r| r.batch_id).into_sql::<Array<Nullable<Id>>>(),
                column(rows, |r| r.scheduled_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.updated_at).into_sql::<Array<Instant>>(),
                column(rows, |r| r.is_awaited).into_sql::<Array<Bool>>(),
                column(rows, |r| r.text.as_str()).into_sql::<Array<Text>>(),
                column(rows, |r| r.subject.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.html.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.data.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.metadata.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.retry.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.event_id).into_sql::<Array<Nullable<Id>>>(),
                column(rows, |r| r.group.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.is_transactional).into_sql::<Array<Bool>>(),
                column(rows, |r| r.template.as_deref()).into_sql::<Array<Nullable<Text>>>(),
            );
            Bulk::of(InsertNotifications, columns).execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for row in rows {
                Insertion::of(InsertNotifications, *row).execute(c)?;
            }
        }
    }
    Ok(())
}
