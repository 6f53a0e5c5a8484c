//! `fanfare import FILE`: the same import, with a bar to watch.

use std::io::{self, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::{ImportReport, LISTED_REJECTIONS, Progress, Stopped, import, import_file};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};

/// Imports the file at `path`, or the standard input for `-`, and prints what became of its rows.
///
/// # Errors
/// Those of [`import`]; what was committed before is printed all the same.
pub async fn run(db: &Db, clock: &Clock, path: &Path) -> Result<ImportReport> {
    let is_standard_input = path == Path::new("-");
    let bar = bar((!is_standard_input).then_some(path));
    let moved = bar.clone();
    let progress = move |Progress { bytes, rows, .. }| {
        moved.set_position(bytes);
        moved.set_message(format!("{rows} rows"));
    };
    let outcome = if is_standard_input {
        import(db, clock, io::stdin(), progress).await
    } else {
        import_file(db, clock, path, progress).await
    };
    bar.finish_and_clear();
    match outcome {
        Ok(report) => {
            print(&report)?;
            Ok(report)
        }
        Err(Stopped { why, report, line }) => {
            if line > 0 {
                print(&report)?;
            }
            Err(why)
        }
    }
}

/// By bytes when it is known how many there are; drawn only where somebody looks.
fn bar(path: Option<&Path>) -> ProgressBar {
    let size = path.and_then(|path| std::fs::metadata(path).ok()).map(|file| file.len());
    let (bar, template) = match size {
        Some(size) => {
            (ProgressBar::new(size), "{bar:40} {percent:>3}% {msg}, {binary_bytes_per_sec}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes} {msg}, {binary_bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(report: &ImportReport) -> Result<()> {
    write(report, &mut io::stdout().lock()).map_err(|e| Error::Internal(e.into()))
}

fn write(report: &ImportReport, out: &mut impl Write) -> io::Result<()> {
    let ImportReport { created, updated, rejected_count, rejected } = report;
    writeln!(out, "created  {created:>10}\nupdated  {updated:>10}\nrejected {rejected_count:>10}")?;
    for rejection in rejected {
        writeln!(out, "  line {}: {}: {}", rejection.line, rejection.field, rejection.reason)?;
    }
    if rejected.len() >= LISTED_REJECTIONS {
        writeln!(out, "  (the rest is not listed)")?;
    }
    out.flush()
}
