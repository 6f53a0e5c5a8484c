//! Messages of no mailing that wait past their time: they expire where they are, also while nothing is sent. A mailing's
//! are closed with its window.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::due;
use crate::db::types::{MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::MessageStatus;
use crate::live::Change;
use crate::notifications;

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
    notifications::repo::end_waiting(c, &ids, (MessageStatus::Expired, Some(EXPIRED)), now)
}
