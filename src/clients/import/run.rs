//! One import, from its source to its report.

use std::io::Read;
use std::path::Path;

use tokio::sync::mpsc;

use super::committed::Committed;
use super::fresh::Expectation;
use super::importer::Importer;
use super::options::ImportOptions;
use super::progress::{FileProgress, Stopped};
use super::reader;
use super::report::ImportReport;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Error;

/// The number of chunks between the reader and the database.
const CHUNKS_WAITING: usize = 2;

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
    progress: impl Fn(FileProgress),
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

/// Imports a file.
///
/// # Errors
/// Those of [`import`], and [`Error::Malformed`] for a file that cannot be opened.
pub async fn import_file(
    db: &Db,
    clock: &Clock,
    path: &Path,
    options: ImportOptions,
    progress: impl Fn(FileProgress),
) -> Result<ImportReport, Stopped> {
    match std::fs::File::open(path) {
        Ok(file) => import(db, clock, file, options, progress).await,
        Err(e) => {
            let why = format!("{} cannot be opened: {e}", path.display());
            Err(Stopped::at_once(Error::Malformed(why)))
        }
    }
}
