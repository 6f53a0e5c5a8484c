//! Messages of no mailing that wait past their time: they expire where they are, also while nothing is sent. A mailing's
//! are closed with its window.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::due;
use crate::db::types::{MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus};
use crate::live::Change;
use crate::requests::repo::Ended;
use crate::{notifications, requests};

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

/// What came of letting messages expire.
#[derive(Debug, Default)]
pub struct Expired {
    /// Notifications.
    pub notifications: Vec<Change>,
    /// How many requests, and reports of that.
    pub requests: Ended,
}

/// Lets up to `limit` messages expire whose time has come.
///
/// # Errors
/// Those of the database.
pub fn expire(c: &mut AnyConnection, now: Timestamp, limit: usize) -> Result<Expired> {
    let late: Vec<(MessageId, i16)> = due::table
        .filter(due::expires_at.le(now))
        .order(due::expires_at)
        .select((due::message_id, due::channel))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(c)?;
    let (requests, notifications): (Vec<_>, Vec<_>) =
        late.into_iter().partition(|(_, channel)| *channel == ChannelKind::Request.code());
    let ids = |late: Vec<(MessageId, i16)>| late.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let end = (MessageStatus::Expired, Some(EXPIRED));
    Ok(Expired {
        notifications: notifications::repo::end_waiting(c, &ids(notifications), end, now)?,
        requests: requests::repo::end_waiting(c, &ids(requests), end, now)?,
    })
}
