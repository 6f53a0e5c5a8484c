//! The import of clients from CSV: millions of rows in the memory of a few thousand. An upload and the command line
//! share it.
//!
//! A thread reads and validates rows and groups them into chunks; each chunk is one unit of work for the database. Only
//! a few chunks wait between the two, so that a slow database slows the reader, and through it the sender.
//!
//! From bytes to rows: [`decode`] detects the encoding, [`header`] the separator and the header line, [`split`] splits
//! records into cells, and [`columns`] maps columns to fields. Everything is detected unless the sender specifies it,
//! and the report lists the result. A column that is not a field of a client is an attribute with text values.
//!
//! Rows are applied in the order of the file, as if each were imported alone:
//!
//! - A row whose key (the phone number by default) is known, from the database or from an earlier row, updates that
//!   client. A column overwrites its field, an empty cell clears it (an attribute is removed), and a field without a
//!   column stays. An empty operator code counts as absent: it is derived from the number.
//! - An invalid cell is skipped with a warning. A row that cannot be used, because its key is invalid or its quotes do
//!   not match, is rejected with its line and all its invalid fields, and the import continues.
//! - A row with an external id of another client is rejected.

mod cells;
pub mod cli;
mod columns;
mod decode;
mod encoding;
mod fresh;
mod header;
mod importer;
mod lenient;
mod merge;
mod names;
mod options;
mod reader;
mod records;
mod report;
mod row;
mod split;
mod store;

use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

pub use self::columns::{MOST_ATTRIBUTES, MappedColumn};
pub use self::encoding::labelled;
use self::fresh::Expectation;
use self::importer::Importer;
use self::merge::Deferred;
pub use self::options::{ImportOptions, Mapping, MatchBy};
use self::reader::Chunk;
pub use self::report::{Assumed, PreviewRow, Warning};
use self::store::{PREVIEWED, StoredChunk};
use crate::clients::model::PhoneNumber;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Error;

/// The largest number of listed rejections, and of listed warnings. More are only counted.
pub const LISTED_REJECTIONS: usize = 1000;
/// The largest number of rows that wait for the end of the file because another client has their number. More are
/// rejected.
const MOST_DEFERRED: usize = 1000;
/// The number of new phone numbers that a dry run remembers, to count each client once.
const REMEMBERED_NUMBERS: usize = 1_000_000;
/// The number of chunks between the reader and the database.
const CHUNKS_WAITING: usize = 2;

/// An error of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejection {
    /// The line of the file on which the row begins; the first line of the file is 1.
    #[schema(example = 17)]
    pub line: u64,
    /// The column, or `row` if the error concerns the whole row.
    #[schema(example = "phone_number")]
    pub field: String,
    /// The error and its remedy.
    #[schema(example = "has too few or too many digits for a number of its country")]
    pub reason: String,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ImportReport {
    /// The number of rows that created a client.
    #[schema(example = 99_000)]
    pub created: u64,
    /// The number of rows whose client existed already, changed or not.
    #[schema(example = 998)]
    pub updated: u64,
    /// The first 1000 errors of rejected rows; each invalid field of a row has its own.
    pub rejected: Vec<Rejection>,
    /// The number of rows that were rejected.
    #[schema(example = 2)]
    pub rejected_count: u64,
    /// The first 1000 warnings about cells and columns that were skipped.
    pub warnings: Vec<Warning>,
    /// The number of all warnings.
    #[schema(example = 1)]
    pub warning_count: u64,
    /// The detected format of the file.
    pub assumed: Assumed,
    /// In a dry run, the first 20 rows with the clients that they would create or change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub preview: Option<Vec<PreviewRow>>,
}

impl ImportReport {
    fn reject(&mut self, rows: u64, mut complaints: Vec<Rejection>) {
        self.rejected_count += rows;
        let room = LISTED_REJECTIONS.saturating_sub(self.rejected.len());
        complaints.sort_by_key(|complaint| complaint.line);
        self.rejected.extend(complaints.into_iter().take(room));
    }

    fn warn(&mut self, warnings: Vec<Warning>) {
        self.warning_count += u64::try_from(warnings.len()).unwrap_or(u64::MAX);
        let room = LISTED_REJECTIONS.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }
}

/// The progress of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of bytes whose rows are imported or rejected.
    pub bytes: u64,
    /// The number of rows that are imported or rejected.
    pub rows: u64,
    /// The line up to which every row is imported or rejected.
    pub line: u64,
    /// The number of rows that created a client.
    pub created: u64,
    /// The number of rows whose client existed already.
    pub updated: u64,
    /// The number of rows that were rejected.
    pub rejected: u64,
}

/// The error of an import that did not reach the end of its file.
pub struct Stopped {
    /// The cause.
    pub why: Error,
    /// The rows that were committed before. They stay committed.
    pub report: ImportReport,
    /// The line up to which every row is imported or rejected. Some later rows may be as well.
    pub line: u64,
}

impl Stopped {
    /// Creates the error of an import that stopped before it read a row.
    pub fn at_once(why: Error) -> Self {
        Self { why, report: ImportReport::default(), line: 0 }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        if self.line > 0 {
            let ImportReport { created, updated, rejected_count, .. } = &self.report;
            write!(
                f,
                "; committed before: {created} clients created, {updated} updated, {rejected_count} rows rejected, up \
                 to line {}",
                self.line
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stopped {
    /// Formats the error without the list of rejections: errors are logged, and a thousand rejections would not help
    /// there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("why", &self.why).field("line", &self.line).finish_non_exhaustive()
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// Imports everything that `source` contains.
///
/// # Errors
/// [`Stopped`], with [`Error::Invalid`] for a file without a header line, [`Error::Unsupported`] for a file that is not
/// text, [`Error::Malformed`] if the source is cut off, [`Error::Unavailable`] if the database is unavailable.
pub async fn import(
    db: &Db,
    clock: &Clock,
    source: impl Read + Send + 'static,
    options: ImportOptions,
    progress: impl Fn(Progress),
) -> Result<ImportReport, Stopped> {
    let (sender, messages) = mpsc::channel(CHUNKS_WAITING);
    let mut done = Committed::new(options.is_dry_run);
    let expectation = Expectation::new(options.is_dry_run);
    let importer = Importer { db, clock, is_dry_run: options.is_dry_run, expectation: expectation.clone() };
    // a separate thread: a stalled upload would occupy one of the blocking threads that the database needs
    let outcome = match std::thread::Builder::new()
        .name("import-reader".into())
        .spawn(move || reader::read(source, &options, expectation, &sender))
    {
        Ok(_) => importer.run(messages, &mut done, progress).await,
        Err(e) => Err(Error::Internal(e.into())),
    };
    match outcome {
        Ok(()) => Ok(done.report),
        Err(why) => Err(Stopped { why, report: done.report, line: done.line }),
    }
}

/// The rows that are committed so far.
#[derive(Default)]
struct Committed {
    report: ImportReport,
    line: u64,
    rows: u64,
    bytes: u64,
    deferred: Vec<Deferred>,
    match_by: MatchBy,
    /// The numbers of clients that a dry run would have created.
    new_numbers: HashSet<PhoneNumber>,
}

impl Committed {
    fn new(is_dry_run: bool) -> Self {
        let report = ImportReport { preview: is_dry_run.then(Vec::new), ..ImportReport::default() };
        Self { report, ..Self::default() }
    }

    fn add(&mut self, chunk: StoredChunk) -> Progress {
        let mut again = 0;
        if let Some(preview) = &mut self.report.preview {
            let room = PREVIEWED.saturating_sub(preview.len());
            preview.extend(chunk.preview.into_iter().take(room));
            // a dry run stores nothing, so the next chunk does not find the new clients of this one
            for number in chunk.new_numbers {
                let is_full = self.new_numbers.len() >= REMEMBERED_NUMBERS;
                again += u64::from(
                    self.new_numbers.contains(&number) || !(is_full || self.new_numbers.insert(number)),
                );
            }
        }
        self.report.created += chunk.created.saturating_sub(again);
        self.report.updated += chunk.updated + again;
        self.report.reject(chunk.rejected_rows, chunk.rejected);
        self.report.warn(chunk.warnings);
        self.match_by = chunk.match_by;
        self.deferred.extend(chunk.deferred);
        let surplus = self.deferred.split_off(self.deferred.len().min(MOST_DEFERRED));
        let rows = u64::try_from(surplus.len()).unwrap_or(u64::MAX);
        self.report.reject(rows, surplus.into_iter().map(|deferred| deferred.rejection).collect());
        self.line = self.line.max(chunk.last_line);
        self.rows += chunk.records;
        self.bytes = self.bytes.max(chunk.bytes);
        let ImportReport { created, updated, rejected_count: rejected, .. } = self.report;
        Progress { bytes: self.bytes, rows: self.rows, line: self.line, created, updated, rejected }
    }

    /// Returns the rows that waited for the end of the file as a last chunk.
    fn last_chunk(&mut self) -> Option<Chunk> {
        let rows: Vec<_> =
            std::mem::take(&mut self.deferred).into_iter().map(|deferred| deferred.row).collect();
        let chunk = Chunk { rows, match_by: self.match_by, is_final: true, ..Chunk::default() };
        (!chunk.rows.is_empty()).then_some(chunk)
    }
}

/// Imports a file.
///
/// # Errors
/// Those of [`import`], and [`Error::Malformed`] for a file that cannot be opened.
pub async fn import_file(
    db: &Db,
    clock: &Clock,
    path: &Path,
    options: ImportOptions,
    progress: impl Fn(Progress),
) -> Result<ImportReport, Stopped> {
    match std::fs::File::open(path) {
        Ok(file) => import(db, clock, file, options, progress).await,
        Err(e) => {
            let why = format!("{} cannot be opened: {e}", path.display());
            Err(Stopped::at_once(Error::Malformed(why)))
        }
    }
}
