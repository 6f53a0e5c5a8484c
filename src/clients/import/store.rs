//! One chunk, one transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::Rejection;
use super::merge::{Deferred, Merged, merge, merge_by_key};
use super::options::MatchBy;
use super::reader::Chunk;
use super::report::{PreviewRow, Warning};
use super::row::Row;
use crate::clients::declared::repo as declared;
use crate::clients::model::{Email, PhoneNumber};
use crate::clients::repo;
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::failpoint;

/// How often a chunk is tried when other writers keep coming first.
const TRIES: u32 = 3;
/// Rows of a dry run that are shown.
pub(super) const PREVIEWED: usize = 20;

/// The result of a chunk, which is on disk now unless the run is dry.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) rejected: Vec<Rejection>,
    pub(super) rejected_rows: u64,
    pub(super) warnings: Vec<Warning>,
    pub(super) deferred: Vec<Deferred>,
    pub(super) preview: Vec<PreviewRow>,
    /// The numbers of new clients, in a dry run.
    pub(super) new_numbers: Vec<PhoneNumber>,
    pub(super) match_by: MatchBy,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) last_line: u64,
}

/// Stores the chunk. Another writer that takes a number or an external id between the look and the write makes the
/// whole transaction fail, and the next look sees what it did. A dry run looks and does not write.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away, or others came first each time.
pub(super) async fn store(db: &Db, clock: &Clock, mut chunk: Chunk, is_dry_run: bool) -> Result<Stored> {
    let mut rejected = std::mem::take(&mut chunk.rejected);
    let mut warnings = std::mem::take(&mut chunk.warnings);
    let Chunk { rejected_rows, records, bytes, last_line, match_by, .. } = chunk;
    let chunk = Arc::new(chunk);
    let mut tries = 0;
    let mut merged = loop {
        let (chunk, now) = (Arc::clone(&chunk), clock.now());
        tries += 1;
        let outcome = if is_dry_run {
            db.read(move |c| look(c, &chunk, now, PREVIEWED)).await
        } else {
            db.write(move |c| write(c, &chunk, now)).await
        };
        match outcome {
            Err(Error::Conflict(_)) if tries < TRIES => {}
            Err(Error::Conflict(why)) => {
                let why = format!("other writers came first {TRIES} times in a row: {why}");
                return Err(Error::Unavailable(why.into()));
            }
            outcome => break outcome?,
        }
    };
    if !is_dry_run {
        failpoint::reach("import-after-commit");
    }
    let rejected_rows = rejected_rows + u64::try_from(merged.rejected.len()).unwrap_or(u64::MAX);
    rejected.append(&mut merged.rejected);
    warnings.append(&mut merged.unfit);
    Ok(Stored {
        created: merged.created,
        updated: merged.updated,
        rejected,
        rejected_rows,
        warnings,
        deferred: merged.deferred,
        preview: merged.preview,
        new_numbers: merged.new.iter().filter_map(|client| client.phone_number).collect(),
        match_by,
        records,
        bytes,
        last_line,
    })
}

/// Converts the values of declared attributes. One that does not fit is left out, and the row goes on without it.
fn typed<'r>(connection: &mut AnyConnection, rows: &'r [Row]) -> Result<(Cow<'r, [Row]>, Vec<Warning>)> {
    let names: HashSet<_> = rows.iter().flat_map(|row| &row.patch.attributes).map(|(name, _)| name).collect();
    let types = declared::types(connection, names.into_iter())?;
    if types.is_empty() {
        return Ok((rows.into(), Vec::new()));
    }
    let (mut rows, mut unfit) = (rows.to_vec(), Vec::new());
    for row in &mut rows {
        let complaints = types.apply(&mut row.patch).into_iter();
        unfit.extend(complaints.map(|FieldError { field, reason }| {
            let reason = format!("{reason}; the cell was left out");
            Warning { line: row.line, field, reason }
        }));
    }
    Ok((rows.into(), unfit))
}

/// Applies the chunk to the clients that are there, without writing.
fn look(connection: &mut AnyConnection, chunk: &Chunk, now: Timestamp, previewed: usize) -> Result<Merged> {
    let numbers = chunk.rows.iter().filter_map(|row| row.number);
    let external_ids = chunk.rows.iter().filter_map(Row::external_id);
    let is_known_by_email = |row: &&Row| match chunk.match_by {
        MatchBy::Email => true,
        MatchBy::PhoneNumber => row.number.is_none() && row.external_id().is_none(),
        MatchBy::ExternalId => false,
    };
    let emails = chunk.rows.iter().filter(is_known_by_email);
    let emails = emails.filter_map(Row::email).map(Email::key);
    let stored = repo::find_many_for_update(connection, numbers, external_ids, emails.collect())?;
    let (rows, unfit) = typed(connection, &chunk.rows)?;
    let merged = match chunk.match_by {
        MatchBy::PhoneNumber => merge(&rows, stored, now, previewed),
        by => merge_by_key(&rows, &stored, now, by, chunk.is_final, previewed),
    };
    Ok(Merged { unfit, ..merged })
}

fn write(connection: &mut AnyConnection, chunk: &Chunk, now: Timestamp) -> Result<Merged> {
    let mut merged = look(connection, chunk, now, 0)?;
    let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
    repo::free_external_ids(connection, &merged.freed)?;
    repo::free_phone_numbers(connection, &merged.moved)?;
    repo::store_many(connection, &new, &changed)?;
    failpoint::reach("import-before-commit");
    Ok(merged)
}
