//! Statements on inboxes.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text};

use super::model::{InboxMessage, Mark, Part, Place};
use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::inbox;
use crate::db::types::{Id, Instant, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::notifications::model::Raw;

/// A message on its way into an inbox.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct NewRow {
    pub message_id: MessageId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_id: String,
    pub subject: Option<String>,
    pub text: String,
    pub data: Option<String>,
}

/// A message as it is shown, without what was checked: whose it is, and that it has not expired.
#[derive(Queryable, Selectable)]
#[diesel(table_name = inbox)]
struct Row {
    message_id: MessageId,
    created_at: Timestamp,
    read_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
    subject: Option<String>,
    text: String,
    data: Option<String>,
}

impl Row {
    fn show(self) -> Result<InboxMessage> {
        Ok(InboxMessage {
            id: self.message_id,
            subject: self.subject,
            text: self.text,
            data: Raw::stored(self.data)?,
            created_at: self.created_at,
            read_at: self.read_at,
            archived_at: self.archived_at,
        })
    }
}

struct InsertInbox;

impl Statement for InsertInbox {
    const TEXT: &'static str = include_str!("repo/sql/insert_inbox.postgres.sql");
    type Row = Id;
}

impl Insert for InsertInbox {
    const HEAD: &'static str =
        "INSERT INTO inbox (message_id, created_at, expires_at, user_id, subject, text, data) VALUES (";
    const TAIL: &'static str = ") ON CONFLICT (message_id) DO NOTHING";
    type Row = NewRow;

    fn bind<'r>(row: &'r NewRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Id, _>(&row.message_id)?;
        values.bind_all::<Instant, _, _>([&row.created_at, &row.expires_at])?;
        values.bind::<Text, _>(&row.user_id)?;
        values.bind::<Nullable<Text>, _>(&row.subject)?;
        values.bind::<Text, _>(&row.text)?;
        values.bind::<Nullable<Text>, _>(&row.data)
    }
}

/// The rows' values of one column, as an array.
fn column<'r, T>(rows: &[&'r NewRow], value: impl Fn(&'r NewRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

/// Puts messages into inboxes; answers which were not there yet. Those that were stay as they are.
///
/// # Errors
/// Those of the database: then nothing of any of them is stored.
pub fn insert(c: &mut AnyConnection, rows: &[NewRow]) -> Result<HashSet<MessageId>> {
    // two nodes that were given the same messages wait for each other in one order
    let mut rows: Vec<&NewRow> = rows.iter().collect();
    rows.sort_by_key(|row| row.message_id);
    let new = match c {
        AnyConnection::Postgres(_) if rows.is_empty() => HashSet::new(),
        AnyConnection::Postgres(c) => {
            let columns = (
                column(&rows, |r| r.message_id).into_sql::<Array<Id>>(),
                column(&rows, |r| r.created_at).into_sql::<Array<Instant>>(),
                column(&rows, |r| r.expires_at).into_sql::<Array<Instant>>(),
                column(&rows, |r| r.user_id.as_str()).into_sql::<Array<Text>>(),
                column(&rows, |r| r.subject.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(&rows, |r| r.text.as_str()).into_sql::<Array<Text>>(),
                column(&rows, |r| r.data.as_deref()).into_sql::<Array<Nullable<Text>>>(),
            );
            Bulk::of(InsertInbox, columns).load::<MessageId>(c)?.into_iter().collect()
        }
        AnyConnection::Sqlite(c) => {
            let mut new = HashSet::with_capacity(rows.len());
            for row in rows {
                if Insertion::of(InsertInbox, row).execute(c)? > 0 {
                    new.insert(row.message_id);
                }
            }
            new
        }
    };
    failpoint::reach("inbox-before-commit");
    Ok(new)
}

/// What of a part stands after this place in a user's inbox, the newest first.
///
/// # Errors
/// Those of the database.
pub fn list(
    c: &mut AnyConnection,
    user: &str,
    (part, after): (Part, Option<Place>),
    limit: i64,
    now: Timestamp,
) -> Result<Vec<InboxMessage>> {
    let mut query = inbox::table
        .filter(inbox::user_id.eq(user))
        .filter(inbox::expires_at.gt(now))
        .order((inbox::created_at.desc(), inbox::message_id.desc()))
        .limit(limit)
        .select(Row::as_select())
        .into_boxed();
    // in the words of the partial indexes
    query = match part {
        Part::Unread => query.filter(inbox::read_at.is_null()).filter(inbox::archived_at.is_null()),
        Part::Read => query.filter(inbox::read_at.is_not_null()).filter(inbox::archived_at.is_null()),
        Part::Archived => query.filter(inbox::archived_at.is_not_null()),
    };
    if let Some(Place { created_at, id, .. }) = after {
        // the first says where the walk along the index begins
        query = query
            .filter(inbox::created_at.le(created_at))
            .filter(inbox::created_at.lt(created_at).or(inbox::message_id.lt(id)));
    }
    query.load::<Row>(c)?.into_iter().map(Row::show).collect()
}

/// How many messages of a user are unread.
///
/// # Errors
/// Those of the database.
pub fn count_unread(c: &mut AnyConnection, user: &str, now: Timestamp) -> Result<i64> {
    let unread = inbox::table
        .filter(inbox::user_id.eq(user))
        .filter(inbox::read_at.is_null())
        .filter(inbox::archived_at.is_null())
        .filter(inbox::expires_at.gt(now));
    Ok(unread.count().get_result(c)?)
}

/// Those of these messages that are this user's.
///
/// # Errors
/// Those of the database.
pub fn find(
    c: &mut AnyConnection,
    user: &str,
    ids: &[MessageId],
    now: Timestamp,
) -> Result<Vec<InboxMessage>> {
    let rows: Vec<Row> = inbox::table
        .filter(inbox::message_id.eq_any(ids))
        .filter(inbox::user_id.eq(user))
        .filter(inbox::expires_at.gt(now))
        .select(Row::as_select())
        .load(c)?;
    rows.into_iter().map(Row::show).collect()
}

/// Marks a message of this user; answers it as it is then, and whether it was otherwise before. None when there is none.
///
/// # Errors
/// Those of the database.
pub fn mark(
    c: &mut AnyConnection,
    (user, id): (&str, MessageId),
    mark: Mark,
    now: Timestamp,
) -> Result<Option<(InboxMessage, bool)>> {
    let this = inbox::table
        .filter(inbox::message_id.eq(id))
        .filter(inbox::user_id.eq(user))
        .filter(inbox::expires_at.gt(now));
    let changed = match mark {
        Mark::Read => diesel::update(this.filter(inbox::read_at.is_null()))
            .set(inbox::read_at.eq(Some(now)))
            .execute(c)?,
        Mark::Unread => diesel::update(this.filter(inbox::read_at.is_not_null()))
            .set(inbox::read_at.eq(None::<Timestamp>))
            .execute(c)?,
        Mark::Archived => diesel::update(this.filter(inbox::archived_at.is_null()))
            .set(inbox::archived_at.eq(Some(now)))
            .execute(c)?,
    };
    Ok(find(c, user, &[id], now)?.pop().map(|message| (message, changed > 0)))
}

/// Marks up to `limit` unread messages as read that were delivered by `until`; answers how many.
///
/// # Errors
/// Those of the database.
pub fn mark_all_read(
    c: &mut AnyConnection,
    user: &str,
    (until, limit): (Timestamp, i64),
    now: Timestamp,
) -> Result<usize> {
    let unread: Vec<MessageId> = inbox::table
        .filter(inbox::user_id.eq(user))
        .filter(inbox::read_at.is_null())
        .filter(inbox::archived_at.is_null())
        .filter(inbox::created_at.le(until))
        .filter(inbox::expires_at.gt(now))
        .order((inbox::created_at.desc(), inbox::message_id.desc()))
        .limit(limit)
        .select(inbox::message_id)
        .load(c)?;
    let these = inbox::table.filter(inbox::message_id.eq_any(unread)).filter(inbox::read_at.is_null());
    Ok(diesel::update(these).set(inbox::read_at.eq(Some(now))).execute(c)?)
}

/// Removes up to `limit` messages whose time is over; answers how many.
///
/// # Errors
/// Those of the database.
pub fn remove_expired(c: &mut AnyConnection, now: Timestamp, limit: i64) -> Result<usize> {
    let old: Vec<MessageId> = inbox::table
        .filter(inbox::expires_at.le(now))
        .order(inbox::expires_at)
        .select(inbox::message_id)
        .limit(limit)
        .load(c)?;
    if old.is_empty() {
        return Ok(0);
    }
    Ok(diesel::delete(inbox::table.filter(inbox::message_id.eq_any(old))).execute(c)?)
}
