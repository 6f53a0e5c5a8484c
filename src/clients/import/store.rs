//! One chunk, one transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::Rejection;
use super::merge::{Merged, merge};
use super::reader::{Chunk, Row};
use crate::clients::declared::repo as declared;
use crate::clients::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::Timestamp;
use crate::error::{Error, FieldError, Result};
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
    rejected.extend(merged.unfit);
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

/// Converts the values of declared attributes. One that does not fit is left out, and the row goes on without it.
fn typed<'r>(
    connection: &mut crate::db::AnyConnection,
    rows: &'r [Row],
) -> Result<(Cow<'r, [Row]>, Vec<Rejection>)> {
    let names: HashSet<_> = rows.iter().flat_map(|row| &row.patch.attributes).map(|(name, _)| name).collect();
    let types = declared::types(connection, names.into_iter())?;
    if types.is_empty() {
        return Ok((rows.into(), Vec::new()));
    }
    let (mut rows, mut unfit) = (rows.to_vec(), Vec::new());
    for row in &mut rows {
        let complaints = types.apply(&mut row.patch).into_iter();
        unfit.extend(complaints.map(|FieldError { field, reason }| {
            let reason = format!("{reason}; the row was imported without it");
            Rejection { line: row.line, field, reason }
        }));
    }
    Ok((rows.into(), unfit))
}

fn write(connection: &mut crate::db::AnyConnection, chunk: &Chunk, now: Timestamp) -> Result<Merged> {
    let numbers = chunk.rows.iter().map(|row| row.number);
    let external_ids = chunk.rows.iter().filter_map(|row| row.patch.external_id.as_ref()?.as_ref());
    let stored = repo::find_many_for_update(connection, numbers, external_ids)?;
    let (rows, unfit) = typed(connection, &chunk.rows)?;
    let mut merged = merge(&rows, stored, now);
    merged.unfit = unfit;
    let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
    repo::free_external_ids(connection, &merged.freed)?;
    repo::store_many(connection, &new, &changed)?;
    failpoint::reach("import-before-commit");
    Ok(merged)
}
