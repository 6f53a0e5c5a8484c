//! Statements on the switch that pauses all sending.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::sending;
use crate::db::types::Timestamp;
use crate::error::Result;

/// The id of the only row.
const ID: i16 = 1;

/// Returns the time since which sending is paused, or `None` if it is not paused.
///
/// # Errors
/// Database errors.
pub fn paused_at(c: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let row: Option<Option<Timestamp>> =
        sending::table.find(ID).select(sending::paused_at).first(c).optional()?;
    Ok(row.flatten())
}

/// Pauses sending. Returns the time since which it is paused, which is before `now` if it was paused already.
///
/// # Errors
/// Database errors.
pub fn pause(c: &mut AnyConnection, now: Timestamp) -> Result<Timestamp> {
    if let Some(since) = paused_at(c)? {
        return Ok(since);
    }
    set(c, Some(now))?;
    Ok(now)
}

/// Resumes sending.
///
/// # Errors
/// Database errors.
pub fn resume(c: &mut AnyConnection) -> Result<()> {
    set(c, None)
}

fn set(c: &mut AnyConnection, at: Option<Timestamp>) -> Result<()> {
    let row = (sending::id.eq(ID), sending::paused_at.eq(at));
    let to = sending::paused_at.eq(at);
    match c {
        AnyConnection::Postgres(c) => diesel::insert_into(sending::table)
            .values(row)
            .on_conflict(sending::id)
            .do_update()
            .set(to)
            .execute(c)?,
        AnyConnection::Sqlite(c) => diesel::insert_into(sending::table)
            .values(row)
            .on_conflict(sending::id)
            .do_update()
            .set(to)
            .execute(c)?,
    };
    Ok(())
}
