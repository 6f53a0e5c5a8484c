//! A message as it is stored.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use crate::db::AnyConnection;
use crate::db::schema::{mailing, message};
use crate::db::types::{ClientId, Id, Instant, MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::messages::model::Message;

/// A row of `message`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = message)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct MessageRow {
    pub id: MessageId,
    pub client_id: Option<ClientId>,
    pub due_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub mailing_number: Option<i32>,
    pub duration_ms: Option<i32>,
    pub status_code: Option<i16>,
    pub channel: i16,
    pub priority: i16,
    pub status: i16,
    pub attempts: i16,
    pub revision: i16,
    pub recipient: String,
    pub provider_id: Option<String>,
    pub error: Option<String>,
}

impl MessageRow {
    /// The message that the row stands for, and the mailing that it names.
    fn into_model(self, mailing: Option<(MailingId, Timestamp)>) -> Result<Message> {
        Ok(Message {
            id: self.id,
            mailing_id: mailing.map(|(id, _)| id),
            client_id: self.client_id,
            recipient: self.recipient,
            channel: ChannelKind::from_code(self.channel)?,
            priority: Priority::from_code(self.priority)?,
            status: MessageStatus::from_code(self.status)?,
            attempts: self.attempts,
            created_at: self.id.created_at(),
            due_at: self.due_at,
            expires_at: self.expires_at.or(mailing.map(|(_, ends_at)| ends_at)),
            finished_at: self.finished_at,
            provider_id: self.provider_id,
            error: self.error,
            status_code: self.status_code.map(i32::from),
            duration_ms: self.duration_ms,
        })
    }
}

/// The messages that the rows stand for. Their mailings are read apart, each once: joined, each row would repeat its
/// own, and the walk over the rows would be the planner's to choose.
pub(super) fn into_models(c: &mut AnyConnection, rows: Vec<MessageRow>) -> Result<Vec<Message>> {
    let numbers: BTreeSet<i32> = rows.iter().filter_map(|row| row.mailing_number).collect();
    let mailings: HashMap<i32, (MailingId, Timestamp)> = mailing::table
        .filter(mailing::number.eq_any(numbers))
        .select((mailing::number, (mailing::id, mailing::ends_at)))
        .load::<(i32, (MailingId, Timestamp))>(c)?
        .into_iter()
        .collect();
    rows.into_iter()
        .map(|row| {
            let mailing = row.mailing_number.and_then(|number| mailings.get(&number).copied());
            row.into_model(mailing)
        })
        .collect()
}

/// A recipient that is an integer, as phone numbers are, is stored as one.
const RECIPIENT: [&str; 2] = ["iif(CAST(CAST(", " AS INTEGER) AS TEXT) = ?1, CAST(?1 AS INTEGER), ?1)"];

/// An insertion into SQLite, left out when the message is there, whose statement is prepared once: diesel's own with
/// ON CONFLICT composes the text of it for every row, to find the prepared one by it.
pub struct Insertion<'r>(pub &'r MessageRow);

impl QueryId for Insertion<'_> {
    type QueryId = Insertion<'static>;
}

impl RunQueryDsl<SqliteConnection> for Insertion<'_> {}

impl QueryFragment<Sqlite> for Insertion<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let Self(row) = self;
        out.push_sql(
            "INSERT INTO message (recipient, id, client_id, due_at, expires_at, finished_at, mailing_number, \
             duration_ms, status_code, channel, priority, status, attempts, revision, provider_id, error) \
             VALUES (",
        );
        out.push_sql(RECIPIENT[0]);
        out.push_bind_param::<Text, _>(&row.recipient)?;
        out.push_sql(RECIPIENT[1]);
        out.push_sql(", ");
        out.push_bind_param::<Id, _>(&row.id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Id>, _>(&row.client_id)?;
        for time in [&row.due_at, &row.expires_at, &row.finished_at] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Instant>, _>(time)?;
        }
        for number in [&row.mailing_number, &row.duration_ms] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Integer>, _>(number)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<Nullable<SmallInt>, _>(&row.status_code)?;
        for code in [&row.channel, &row.priority, &row.status, &row.attempts, &row.revision] {
            out.push_sql(", ");
            out.push_bind_param::<SmallInt, _>(code)?;
        }
        for text in [&row.provider_id, &row.error] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Text>, _>(text)?;
        }
        out.push_sql(") ON CONFLICT DO NOTHING");
        Ok(())
    }
}

/// The same for a message that is accepted: what no attempt and no mailing has filled in yet is not bound.
pub struct NewInsertion<'r>(pub &'r MessageRow);

impl QueryId for NewInsertion<'_> {
    type QueryId = NewInsertion<'static>;
}

impl RunQueryDsl<SqliteConnection> for NewInsertion<'_> {}

impl QueryFragment<Sqlite> for NewInsertion<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let Self(row) = self;
        out.push_sql(
            "INSERT INTO message (recipient, id, client_id, due_at, expires_at, channel, priority, status, revision, \
             attempts) VALUES (",
        );
        out.push_sql(RECIPIENT[0]);
        out.push_bind_param::<Text, _>(&row.recipient)?;
        out.push_sql(RECIPIENT[1]);
        out.push_sql(", ");
        out.push_bind_param::<Id, _>(&row.id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Id>, _>(&row.client_id)?;
        for time in [&row.due_at, &row.expires_at] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Instant>, _>(time)?;
        }
        for code in [&row.channel, &row.priority, &row.status, &row.revision] {
            out.push_sql(", ");
            out.push_bind_param::<SmallInt, _>(code)?;
        }
        out.push_sql(", 0)");
        Ok(())
    }
}
