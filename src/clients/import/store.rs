//! One chunk, one transaction.

use std::sync::Arc;

use super::Rejection;
use super::merge::{Merged, merge};
use super::reader::Chunk;
use crate::clients::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::Timestamp;
use crate::error::{Error, Result};
use crate::failpoint;

/// How often a chunk is tried when other writers keep coming first.
const TRIES: u32 = 3;

/// What became of a chunk, which is on disk now.
pub(super) struct Stored {
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) rejected: Vec<Rejection>,
    pub(super) rejected_rows: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) last_line: u64,
}

/// Stores the chunk. Another writer that takes a number or an external id between the look and the write makes the
/// whole transaction fail, and the next look sees what it did.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away, or others came first each time.
pub(super) async fn store(db: &Db, clock: &Clock, mut chunk: Chunk) -> Result<Stored> {
    let mut rejected = std::mem::take(&mut chunk.rejected);
    let Chunk { rejected_rows, records, bytes, last_line, .. } = chunk;
    let chunk = Arc::new(chunk);
    let mut tries = 0;
    let merged = loop {
        let (chunk, now) = (Arc::clone(&chunk), clock.now());
        tries += 1;
        match db.write(move |c| write(c, &chunk, now)).await {
            Err(Error::Conflict(_)) if tries < TRIES => {}
            Err(Error::Conflict(why)) => {
                let why = format!("other writers came first {TRIES} times in a row: {why}");
                return Err(Error::Unavailable(why.into()));
            }
            outcome => break outcome?,
        }
    };
    failpoint::reach("import-after-commit");
    let rejected_rows = rejected_rows + u64::try_from(merged.rejected.len()).unwrap_or(u64::MAX);
    rejected.extend(merged.rejected);
    Ok(Stored {
        created: merged.created,
        updated: merged.updated,
        rejected,
        rejected_rows,
        records,
        bytes,
        last_line,
    })
}

fn write(connection: &mut crate::db::AnyConnection, chunk: &Chunk, now: Timestamp) -> Result<Merged> {
    let numbers = chunk.rows.iter().map(|row| row.number);
    let external_ids = chunk.rows.iter().filter_map(|row| row.patch.external_id.as_ref()?.as_ref());
    let stored = repo::find_many_for_update(connection, numbers, external_ids)?;
    let mut merged = merge(&chunk.rows, stored, now);
    let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
    repo::free_external_ids(connection, &merged.freed)?;
    repo::store_many(connection, &new, &changed)?;
    failpoint::reach("import-before-commit");
    Ok(merged)
}
