//! Clients from CSV, by the million, in the memory of a few thousand: one road for an upload and the command line.
//!
//! A thread reads and checks rows and cuts them into chunks; each chunk is one unit of work for the database. A few
//! wait between the two at most, so that a slow database slows the reader, and through it the sender.
//!
//! On the way from bytes to rows: [`decode`] finds the encoding, [`header`] the separator and the names of the columns,
//! [`split`] the cells, [`columns`] what each holds. All of it is found out unless the sender says it, and the report says
//! what was assumed. A column that is no field of a client is an attribute, with texts for values.
//!
//! Rows are applied in the order of the file, as if each came alone:
//!
//! - A row whose phone number (or whatever clients are matched by) is known, from the database or from a row before,
//!   updates that client. A column that the file has overwrites, an empty cell clears (an attribute is removed), what the
//!   file has no column for stays. No operator's code in its column is as good as none given: it comes from the number.
//! - A wrong cell is left out with a warning. A row that cannot be taken, since its key is wrong or its quotes do not match,
//!   is rejected with its line and all its wrong fields, and the rest goes on.
//! - An external id of another client is a reason to reject.

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
use self::store::{PREVIEWED, Stored};
use crate::clients::model::PhoneNumber;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Error;

/// More rejections than this are counted, not listed; and so are more warnings.
pub const LISTED_REJECTIONS: usize = 1000;
/// Rows that wait for the end of the file, because another client has their number. More are rejected.
const MOST_DEFERRED: usize = 1000;
/// New numbers that a dry run remembers, so as to count a client once.
const REMEMBERED_NUMBERS: usize = 1_000_000;
/// Chunks between the reader and the database.
const CHUNKS_WAITING: usize = 2;

/// One thing wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejection {
    /// The line of the file that the row begins on; the names of the columns are line 1.
    #[schema(example = 17)]
    pub line: u64,
    /// The column, or `row` when the row as a whole is wrong.
    #[schema(example = "phone_number")]
    pub field: String,
    /// What is wrong and what would be right.
    #[schema(example = "must have 11 digits, since it begins with 7")]
    pub reason: String,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ImportReport {
    /// Rows that made a client.
    #[schema(example = 99_000)]
    pub created: u64,
    /// Rows whose client was there already, whether or not they changed it.
    #[schema(example = 998)]
    pub updated: u64,
    /// What was wrong with the rejected rows: the first 1000 complaints, every wrong field of a row has its own.
    pub rejected: Vec<Rejection>,
    /// How many rows were rejected.
    #[schema(example = 2)]
    pub rejected_count: u64,
    /// Cells and columns that were left out: the first 1000.
    pub warnings: Vec<Warning>,
    /// How many warnings there are.
    #[schema(example = 1)]
    pub warning_count: u64,
    /// Findings about the file.
    pub assumed: Assumed,
    /// In a dry run, the first 20 rows with their clients as they would be.
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

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file whose rows are dealt with.
    pub bytes: u64,
    /// Rows dealt with, the rejected ones too.
    pub rows: u64,
    /// Every row up to this line is dealt with.
    pub line: u64,
    /// Rows that made a client.
    pub created: u64,
    /// Rows whose client was there already.
    pub updated: u64,
    /// Rows that were rejected.
    pub rejected: u64,
}

/// An import that did not come to the end of its file.
pub struct Stopped {
    /// What stopped it.
    pub why: Error,
    /// What was committed before, and stays.
    pub report: ImportReport,
    /// Every row up to this line is dealt with, and perhaps some behind it.
    pub line: u64,
}

impl Stopped {
    /// Before a row was read.
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
                "; what came before stays: {created} clients created, {updated} updated, {rejected_count} rows \
                 rejected, up to line {}",
                self.line
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stopped {
    /// Without the list of rejections: an error is logged, and a thousand of them are no help there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("why", &self.why).field("line", &self.line).finish_non_exhaustive()
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// Imports everything that `source` has to read.
///
/// # Errors
/// [`Stopped`], with [`Error::Invalid`] for a file that does not name its columns, [`Error::Unsupported`] for one that is no
/// text, [`Error::Malformed`] when the source breaks off, [`Error::Unavailable`] when the database does.
pub async fn import(
    db: &Db,
    clock: &Clock,
    source: impl Read + Send + 'static,
    options: ImportOptions,
    progress: impl Fn(Progress),
) -> Result<ImportReport, Stopped> {
    let (sender, messages) = mpsc::channel(CHUNKS_WAITING);
    let mut done = Done::new(options.is_dry_run);
    let expectation = Expectation::new(options.is_dry_run);
    let importer = Importer { db, clock, is_dry_run: options.is_dry_run, expectation: expectation.clone() };
    // a thread of its own: a stalled upload would keep one of those that the database works on
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

/// What is committed so far.
#[derive(Default)]
struct Done {
    report: ImportReport,
    line: u64,
    rows: u64,
    bytes: u64,
    deferred: Vec<Deferred>,
    match_by: MatchBy,
    /// Numbers of clients that a dry run would have made.
    new_numbers: HashSet<PhoneNumber>,
}

impl Done {
    fn new(is_dry_run: bool) -> Self {
        let report = ImportReport { preview: is_dry_run.then(Vec::new), ..ImportReport::default() };
        Self { report, ..Self::default() }
    }

    fn add(&mut self, chunk: Stored) -> Progress {
        let mut again = 0;
        if let Some(preview) = &mut self.report.preview {
            let room = PREVIEWED.saturating_sub(preview.len());
            preview.extend(chunk.preview.into_iter().take(room));
            // a dry run leaves nothing behind that the next chunk would find
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

    /// The rows that waited for the end of the file.
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
