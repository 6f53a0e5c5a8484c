//! Stores a chunk in one transaction.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::chunk::Chunk;
use super::merge::{Deferred, Merged, merge, merge_by_key};
use super::options::MatchBy;
use super::report::{PreviewRow, Rejection, Warning};
use super::row::FileRow;
use crate::clients::declared::repo as declared;
use crate::clients::model::{Email, PhoneNumber};
use crate::clients::repo::{self, NewClients};
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::failpoint;

/// The number of attempts to store a chunk when it conflicts with other writers.
const TRIES: u32 = 3;
/// The number of rows in the preview of a dry run.
pub(super) const PREVIEWED: usize = 20;

/// The result of a chunk, which is on disk unless it is a dry run.
#[derive(Default)]
pub(super) struct StoredChunk {
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

impl StoredChunk {
    fn new(mut chunk: Chunk, mut merged: Merged) -> Self {
        let rejected_rows = chunk.rejected_rows + u64::try_from(merged.rejected.len()).unwrap_or(u64::MAX);
        chunk.rejected.append(&mut merged.rejected);
        chunk.warnings.append(&mut merged.unfit);
        Self {
            created: merged.created,
            updated: merged.updated,
            rejected: chunk.rejected,
            rejected_rows,
            warnings: chunk.warnings,
            deferred: merged.deferred,
            preview: merged.preview,
            new_numbers: merged.new.iter().filter_map(|client| client.phone_number).collect(),
            match_by: chunk.match_by,
            records: chunk.records,
            bytes: chunk.bytes,
            last_line: chunk.last_line,
        }
    }
}

/// The result of storing a chunk concurrently with others.
pub(super) enum ChunkOutcome {
    Stored(Box<StoredChunk>),
    /// Some of its clients are known. Nothing was stored, and the chunk has to wait for the chunks before it.
    Known(Box<Chunk>),
}

/// Stores the chunk. If another writer takes a number or an external id between the lookup and the write, the whole
/// transaction fails, and the next attempt sees the other's changes. A dry run only looks up and does not write.
///
/// # Errors
/// [`Error::Unavailable`] if the database is unavailable, or every attempt conflicted with other writers.
pub(super) async fn store(db: &Db, clock: &Clock, mut chunk: Chunk, is_dry_run: bool) -> Result<StoredChunk> {
    let mut new = chunk.new.take();
    let chunk = Arc::new(chunk);
    let mut tries = 0;
    let merged = loop {
        let (shared, new, now) = (Arc::clone(&chunk), new.take(), clock.now());
        tries += 1;
        let outcome = if is_dry_run {
            db.read(move |c| look(c, &shared, &shared.rows, now, PREVIEWED)).await
        } else {
            db.write(move |c| write(c, &shared, new, now)).await
        };
        match outcome {
            Err(Error::Conflict(_)) if tries < TRIES => {}
            Err(Error::Conflict(why)) => {
                let why = format!("{TRIES} attempts conflicted with other writers: {why}");
                return Err(Error::Unavailable(why.into()));
            }
            outcome => break outcome?,
        }
    };
    if !is_dry_run {
        failpoint::reach("import-after-commit");
    }
    Ok(StoredChunk::new(Arc::unwrap_or_clone(chunk), merged))
}

/// Stores a chunk of new clients concurrently with chunks that have none of its numbers and external ids: whatever the
/// result of those is, the order does not matter.
///
/// # Errors
/// [`Error::Unavailable`] if the database is unavailable.
pub(super) async fn store_beside(db: &Db, clock: &Clock, mut chunk: Chunk) -> Result<ChunkOutcome> {
    let Some(new) = chunk.new.take() else { return Ok(ChunkOutcome::Known(chunk.into())) };
    let now = clock.now();
    let outcome = db.write(move |c| {
        let created = store_new(c, new, now)?;
        failpoint::reach("import-before-commit");
        Ok(created)
    });
    match outcome.await {
        Ok(created) if created == chunk.rows.len() => {
            failpoint::reach("import-after-commit");
            let created = u64::try_from(created).unwrap_or(u64::MAX);
            Ok(ChunkOutcome::Stored(StoredChunk::new(chunk, Merged { created, ..Merged::default() }).into()))
        }
        Ok(_) | Err(Error::Conflict(_)) => Ok(ChunkOutcome::Known(chunk.into())),
        Err(why) => Err(why),
    }
}

/// Converts the values of declared attributes. Values that do not fit are skipped with a warning.
fn typed<'r>(
    connection: &mut AnyConnection,
    rows: &'r [FileRow],
) -> Result<(Cow<'r, [FileRow]>, Vec<Warning>)> {
    let names: HashSet<_> = rows.iter().flat_map(|row| &row.patch.attributes).map(|(name, _)| name).collect();
    let types = declared::types(connection, names.into_iter())?;
    if types.is_empty() {
        return Ok((rows.into(), Vec::new()));
    }
    let (mut rows, mut unfit) = (rows.to_vec(), Vec::new());
    for row in &mut rows {
        let complaints = types.apply(&mut row.patch).into_iter();
        unfit.extend(complaints.map(|FieldError { field, reason }| {
            let reason = format!("{reason}; the cell was skipped");
            Warning { line: row.line, field, reason }
        }));
    }
    Ok((rows.into(), unfit))
}

/// Looks up the clients of the rows and applies the rows, without writing.
fn look(
    connection: &mut AnyConnection,
    chunk: &Chunk,
    rows: &[FileRow],
    now: Timestamp,
    previewed: usize,
) -> Result<Merged> {
    let numbers = rows.iter().filter_map(|row| row.number);
    let external_ids = rows.iter().filter_map(FileRow::external_id);
    let is_known_by_email = |row: &&FileRow| match chunk.match_by {
        MatchBy::Email => true,
        MatchBy::PhoneNumber => row.number.is_none() && row.external_id().is_none(),
        MatchBy::ExternalId => false,
    };
    let emails = rows.iter().filter(is_known_by_email);
    let emails = emails.filter_map(FileRow::email).map(Email::key);
    let stored = repo::find_many_for_update(connection, numbers, external_ids, emails.collect())?;
    let (rows, unfit) = typed(connection, rows)?;
    let merged = match chunk.match_by {
        MatchBy::PhoneNumber => merge(&rows, stored, now, previewed),
        by => merge_by_key(&rows, &stored, now, by, chunk.is_final, previewed),
    };
    Ok(Merged { unfit, ..merged })
}

/// Stores new clients as [`NewClients::store`] does, or none of them if some of their attributes have a type.
fn store_new(connection: &mut AnyConnection, new: NewClients, now: Timestamp) -> Result<usize> {
    let types = declared::types(connection, new.attributes())?;
    if types.is_empty() { new.store(connection, now) } else { Ok(0) }
}

/// Stores the rows that are expected to create new clients, and looks up the clients of the other rows.
fn write(
    connection: &mut AnyConnection,
    chunk: &Chunk,
    new: Option<NewClients>,
    now: Timestamp,
) -> Result<Merged> {
    let stored = new.map_or(Ok(0), |new| store_new(connection, new, now))?;
    let rest = chunk.rows.get(stored..).unwrap_or_default();
    let stored = u64::try_from(stored).unwrap_or(u64::MAX);
    if rest.is_empty() {
        failpoint::reach("import-before-commit");
        return Ok(Merged { created: stored, ..Merged::default() });
    }
    let mut merged = look(connection, chunk, rest, now, 0)?;
    merged.created += stored;
    let (new, changed) = (std::mem::take(&mut merged.new), std::mem::take(&mut merged.changed));
    repo::free_external_ids(connection, &merged.freed)?;
    repo::free_phone_numbers(connection, &merged.moved)?;
    repo::store_many(connection, &new, &changed)?;
    failpoint::reach("import-before-commit");
    Ok(merged)
}
