//! The SQL of inboxes.

use std::collections::HashSet;

use diesel::prelude::*;

use super::model::{InboxMessage, InboxPosition, Mark, Part};
use crate::db::AnyConnection;
use crate::db::bulk::table_row;
use crate::db::schema::inbox;
use crate::db::types::{MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::notifications::model::Raw;

table_row! {
    /// A new message of an inbox.
    #[derive(Debug, Clone)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct NewInboxRow in inbox {
        pub message_id: MessageId,
        pub created_at: Timestamp,
        pub expires_at: Timestamp,
        pub user_id: String,
        pub subject: Option<String>,
        pub text: String,
        pub data: Option<String>,
    }
    insert InsertInbox "ON CONFLICT (message_id) DO NOTHING" returning message_id: MessageId
}

/// The columns of a message in the API. The owner and the expiry are checked in the queries.
#[derive(Queryable, Selectable)]
#[diesel(table_name = inbox)]
struct InboxRow {
    message_id: MessageId,
    created_at: Timestamp,
    read_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
    subject: Option<String>,
    text: String,
    data: Option<String>,
}

impl InboxRow {
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

/// Stores messages in inboxes; existing ones stay as they are. Returns the ids of the new ones.
///
/// # Errors
/// Database errors; no message is stored then.
pub fn insert(c: &mut AnyConnection, rows: &[NewInboxRow]) -> Result<HashSet<MessageId>> {
    // sorted, so that two nodes with the same messages lock in the same order
    let mut rows: Vec<&NewInboxRow> = rows.iter().collect();
    rows.sort_by_key(|row| row.message_id);
    let new = InsertInbox::insert(c, &rows)?.into_iter().collect();
    failpoint::reach("inbox-before-commit");
    Ok(new)
}

/// Returns the messages of a part of a user's inbox after a position, the newest first.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    user: &str,
    (part, after): (Part, Option<InboxPosition>),
    limit: i64,
    now: Timestamp,
) -> Result<Vec<InboxMessage>> {
    let mut query = inbox::table
        .filter(inbox::user_id.eq(user))
        .filter(inbox::expires_at.gt(now))
        .order((inbox::created_at.desc(), inbox::message_id.desc()))
        .limit(limit)
        .select(InboxRow::as_select())
        .into_boxed();
    // the conditions are those of the partial indexes
    query = match part {
        Part::Unread => query.filter(inbox::read_at.is_null()).filter(inbox::archived_at.is_null()),
        Part::Read => query.filter(inbox::read_at.is_not_null()).filter(inbox::archived_at.is_null()),
        Part::Archived => query.filter(inbox::archived_at.is_not_null()),
    };
    if let Some(InboxPosition { created_at, id, .. }) = after {
        // the first condition is the start of the index range
        query = query
            .filter(inbox::created_at.le(created_at))
            .filter(inbox::created_at.lt(created_at).or(inbox::message_id.lt(id)));
    }
    query.load::<InboxRow>(c)?.into_iter().map(InboxRow::show).collect()
}

/// Returns the number of unread messages of a user.
///
/// # Errors
/// Database errors.
pub fn count_unread(c: &mut AnyConnection, user: &str, now: Timestamp) -> Result<i64> {
    let unread = inbox::table
        .filter(inbox::user_id.eq(user))
        .filter(inbox::read_at.is_null())
        .filter(inbox::archived_at.is_null())
        .filter(inbox::expires_at.gt(now));
    Ok(unread.count().get_result(c)?)
}

/// Returns the messages among these that belong to this user.
///
/// # Errors
/// Database errors.
pub fn find(
    c: &mut AnyConnection,
    user: &str,
    ids: &[MessageId],
    now: Timestamp,
) -> Result<Vec<InboxMessage>> {
    let rows: Vec<InboxRow> = inbox::table
        .filter(inbox::message_id.eq_any(ids))
        .filter(inbox::user_id.eq(user))
        .filter(inbox::expires_at.gt(now))
        .select(InboxRow::as_select())
        .load(c)?;
    rows.into_iter().map(InboxRow::show).collect()
}

/// Marks a message of this user. Returns the marked message, and true if it changed; `None` if it does not exist.
///
/// # Errors
/// Database errors.
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

/// Marks up to `limit` unread messages that were delivered by `until` as read. Returns their number.
///
/// # Errors
/// Database errors.
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

/// Deletes up to `limit` expired messages. Returns their number.
///
/// # Errors
/// Database errors.
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
