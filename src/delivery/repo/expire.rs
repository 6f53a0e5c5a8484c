//! Expires waiting standalone messages past their expiry time, also while sending is paused. The messages of a mailing
//! are closed with its window.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::due;
use crate::db::types::{MessageId, Timestamp};
use crate::delivery::reasons::EXPIRED;
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus};
use crate::live::Change;
use crate::requests::repo::Ended;
use crate::{notifications, requests};

/// Returns the time at which the next waiting message expires.
///
/// # Errors
/// Database errors.
pub fn next(c: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let first = due::table
        .filter(due::expires_at.is_not_null())
        .order(due::expires_at)
        .select(due::expires_at)
        .first::<Option<Timestamp>>(c)
        .optional()?;
    Ok(first.flatten())
}

/// The result of expiring messages.
#[derive(Debug, Default)]
pub struct Expired {
    /// The expired notifications.
    pub notifications: Vec<Change>,
    /// The number of expired requests, and of their reports.
    pub requests: Ended,
}

/// Expires up to `limit` waiting messages.
///
/// # Errors
/// Database errors.
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
