//! Messages of no mailing that wait past their time: they expire where they are, also while nothing is sent. A mailing's
//! are closed with its window.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{due, message, notification};
use crate::db::types::{BatchId, MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, NotificationStatus};
use crate::live::Change;

/// Recorded with a message whose time passed before an attempt.
pub const EXPIRED: &str = "it expired before it could be sent";

/// When the next of those that wait expires.
///
/// # Errors
/// Those of the database.
pub fn next(c: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let first = due::table
        .filter(due::expires_at.is_not_null())
        .order(due::expires_at)
        .select(due::expires_at)
        .first::<Option<Timestamp>>(c)
        .optional()?;
    Ok(first.flatten())
}

/// Lets up to `limit` messages expire whose time has come; answers what became of them.
///
/// # Errors
/// Those of the database.
pub fn expire(c: &mut AnyConnection, now: Timestamp, limit: usize) -> Result<Vec<Change>> {
    let ids: Vec<MessageId> = due::table
        .filter(due::expires_at.le(now))
        .order(due::expires_at)
        .select(due::message_id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(c)?;
    // whoever deletes the row has the message: a claim that came first keeps it
    let taken: Vec<MessageId> = diesel::delete(due::table.filter(due::message_id.eq_any(&ids)))
        .returning(due::message_id)
        .get_results(c)?;
    diesel::update(message::table.filter(message::id.eq_any(&taken)))
        .set((
            message::status.eq(MessageStatus::Expired.code()),
            message::revision.eq(message::revision + 1_i16),
            message::due_at.eq(None::<Timestamp>),
            message::finished_at.eq(Some(now)),
            message::error.eq(Some(EXPIRED)),
        ))
        .execute(c)?;
    let rows: Vec<(MessageId, i16, i16, Option<BatchId>)> = message::table
        .inner_join(notification::table.on(notification::message_id.eq(message::id)))
        .filter(message::id.eq_any(&taken))
        .select((message::id, message::channel, message::attempts, notification::batch_id))
        .load(c)?;
    rows.into_iter()
        .map(|(id, channel, attempts, batch)| {
            let channel = ChannelKind::from_code(channel)?;
            Ok(Change { id, batch, channel, status: NotificationStatus::Expired, attempts, at: now })
        })
        .collect()
}
