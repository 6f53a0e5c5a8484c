//! Clients from CSV, by the million, in the memory of a few thousand: one road for an upload and the command line.
//!
//! A thread reads and checks rows and cuts them into chunks; each chunk is one unit of work for the database. A few
//! wait between the two at most, so that a slow database slows the reader, and through it the sender.
//!
//! The first line names the columns. A column that is no field of a client is an attribute, with texts for values.
//! Rows are applied in the order of the file, as if each came alone:
//!
//! - A row whose phone number is known, from the database or from a row before, updates that client. A column that the
//!   file has overwrites, an empty cell clears (an attribute is removed), what the file has no column for stays. No
//!   operator's code in its column is as good as none given: it comes from the number.
//! - A wrong row is rejected with its line and all its wrong fields, and the rest goes on.
//! - An external id of another client is a reason to reject.

mod cells;
pub mod cli;
pub mod columns;
mod merge;
mod reader;
mod source;
mod store;

use std::fmt;
use std::io::Read;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use self::reader::Message;
use self::store::Stored;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Error;

/// More rejections than this are counted, not listed.
pub const LISTED_REJECTIONS: usize = 1000;
/// Chunks between the reader and the database.
const CHUNKS_WAITING: usize = 2;
/// SQLite commits so many together: numbers come in any order, so that each commit writes most pages of their index
/// anew, and one commit of eight chunks writes little more than one of one. More would keep other writers waiting for
/// longer. PostgreSQL has one transaction for each chunk, and two at once would not keep the order of the file.
const CHUNKS_IN_ONE_COMMIT: usize = 8;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
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
}

impl ImportReport {
    fn reject(&mut self, rows: u64, mut complaints: Vec<Rejection>) {
        self.rejected_count += rows;
        let room = LISTED_REJECTIONS.saturating_sub(self.rejected.len());
        complaints.sort_by_key(|complaint| complaint.line);
        self.rejected.extend(complaints.into_iter().take(room));
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
/// [`Stopped`], with [`Error::Invalid`] for a first line that does not name the columns and for a record without an
/// end, [`Error::Malformed`] when the source breaks off, [`Error::Unavailable`] when the database does.
pub async fn import(
    db: &Db,
    clock: &Clock,
    source: impl Read + Send + 'static,
    progress: impl Fn(Progress),
) -> Result<ImportReport, Stopped> {
    let (sender, mut messages) = mpsc::channel(CHUNKS_WAITING);
    let mut done = Done::default();
    // a thread of its own: a stalled upload would keep one of those that the database works on
    let outcome = match std::thread::Builder::new()
        .name("import-reader".into())
        .spawn(move || reader::read(source, &sender))
    {
        Ok(_) => run(db, clock, &mut messages, |chunk| progress(done.add(chunk))).await,
        Err(e) => Err(Error::Internal(e.into())),
    };
    match outcome {
        Ok(()) => Ok(done.report),
        Err(why) => Err(Stopped { why, report: done.report, line: done.line }),
    }
}

/// Stores the chunks in their order, and tells what became of each.
async fn run(
    db: &Db,
    clock: &Clock,
    messages: &mut mpsc::Receiver<Message>,
    mut on_stored: impl FnMut(Stored),
) -> crate::error::Result<()> {
    let at_once = if db.is_single_node() { CHUNKS_IN_ONE_COMMIT } else { 1 };
    let mut under_way = FuturesOrdered::new();
    let (mut read, mut failed) = (None, None);
    loop {
        tokio::select! {
            // each chunk is handed to the database before the next is taken, which keeps them in order
            biased;
            Some(outcome) = under_way.next() => match outcome {
                Ok(stored) if failed.is_none() => on_stored(stored),
                // one behind a chunk that failed is stored all the same: it counts, but it is not how far this came
                Ok(stored) => on_stored(Stored { last_line: 0, ..stored }),
                Err(why) => failed = failed.or(Some(why)),
            },
            message = messages.recv(),
            if read.is_none() && failed.is_none() && under_way.len() < at_once => match message {
                Some(Message::Chunk(chunk)) => under_way.push_back(store::store(db, clock, chunk)),
                Some(Message::End) => read = Some(Ok(())),
                Some(Message::Failed(why)) => read = Some(Err(why)),
                // it says how it ends, so it did not end well
                None => read = Some(Err(Error::internal("the reader of an import died"))),
            },
            // nothing is under way, and no more will come
            else => return failed.map_or(read.unwrap_or(Ok(())), Err),
        }
    }
}

/// What is committed so far.
#[derive(Default)]
struct Done {
    report: ImportReport,
    line: u64,
    rows: u64,
}

impl Done {
    fn add(&mut self, chunk: Stored) -> Progress {
        self.report.created += chunk.created;
        self.report.updated += chunk.updated;
        self.report.reject(chunk.rejected_rows, chunk.rejected);
        self.line = self.line.max(chunk.last_line);
        self.rows += chunk.records;
        let ImportReport { created, updated, rejected_count: rejected, .. } = self.report;
        Progress { bytes: chunk.bytes, rows: self.rows, line: self.line, created, updated, rejected }
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
    progress: impl Fn(Progress),
) -> Result<ImportReport, Stopped> {
    match std::fs::File::open(path) {
        Ok(file) => import(db, clock, file, progress).await,
        Err(e) => {
            let why = format!("{} cannot be opened: {e}", path.display());
            Err(Stopped::at_once(Error::Malformed(why)))
        }
    }
}
