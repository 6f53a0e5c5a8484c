//! Statements on pending mailings: status 1 created, 2 in work.

use std::time::Duration;

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{mailing, pending_mailing};
use crate::db::types::{MailingId, Timestamp};
use crate::error::Result;
use crate::mailings::model::MailingStatus;

/// Matches the mailings that start at their time: pending mailings, and paused mailings whose window has closed, so
/// that their counts are finalized. A macro, because the type of this condition cannot be written.
macro_rules! begins {
    ($now:expr) => {
        mailing::status
            .eq(MailingStatus::Pending.code())
            .or(mailing::status.eq(MailingStatus::Paused.code()).and(mailing::ends_at.le($now)))
    };
}

const CREATED: i32 = 1;
const IN_WORK: i32 = 2;

/// Takes up to `limit` due mailings, each for one node only: mailings in status created, and mailings that a node took
/// and did not start within `patience`.
///
/// # Errors
/// Database errors.
pub fn take_due(
    c: &mut AnyConnection,
    now: Timestamp,
    patience: Duration,
    limit: i64,
) -> Result<Vec<MailingId>> {
    let due: Vec<MailingId> = pending_mailing::table
        .inner_join(mailing::table.on(mailing::id.eq(pending_mailing::mailing_id)))
        .filter(pending_mailing::due_at.le(now))
        .filter(begins!(now))
        .order(pending_mailing::due_at)
        .limit(limit)
        .select(pending_mailing::mailing_id)
        .load(c)?;
    let mut taken = Vec::new();
    for id in due {
        let free = pending_mailing::table.filter(pending_mailing::mailing_id.eq(id)).filter(
            pending_mailing::status
                .eq(CREATED)
                .or(pending_mailing::taken_at.lt(now.minus(patience)).assume_not_null()),
        );
        let count = diesel::update(free)
            .set((pending_mailing::status.eq(IN_WORK), pending_mailing::taken_at.eq(Some(now))))
            .execute(c)?;
        if count > 0 {
            taken.push(id);
        }
    }
    Ok(taken)
}

/// Returns the start time of the next mailing. It is in the past if the mailing is due.
///
/// # Errors
/// Database errors.
pub fn next_due(c: &mut AnyConnection, now: Timestamp) -> Result<Option<Timestamp>> {
    Ok(pending_mailing::table
        .inner_join(mailing::table.on(mailing::id.eq(pending_mailing::mailing_id)))
        .filter(begins!(now))
        .order(pending_mailing::due_at)
        .select(pending_mailing::due_at)
        .first(c)
        .optional()?)
}
