//! `fanfare import FILE`: the import from the command line, with a progress bar.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use clap::Args;

use super::encoding::labelled;
use super::options::{ImportOptions, Mapping, MatchBy};
use super::progress::{FileProgress, Stopped};
use super::report::{Assumed, ImportReport, LISTED_REJECTIONS, PreviewRow, Warning};
use super::run::{import, import_file};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};

/// The arguments of `fanfare import`. The flags are the parameters of the API.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The CSV file, or `-` for standard input. Columns are matched to fields by name; other columns become attributes.
    file: PathBuf,
    /// Read and check the whole file without storing anything.
    #[arg(long)]
    dry_run: bool,
    /// Reject a row with an invalid cell, instead of skipping the cell with a warning.
    #[arg(long)]
    strict: bool,
    /// The field that identifies clients: phone_number, external_id or email [default: the first that the file has].
    #[arg(long = "match", value_name = "FIELD")]
    match_by: Option<MatchBy>,
    /// The fields of columns, by their headers: Header:field,Other:attribute,Third:- (`-` skips a column).
    #[arg(long)]
    mapping: Option<Mapping>,
    /// The encoding of the file, for example windows-1251 [default: detected].
    #[arg(long, value_parser = |label: &str| labelled(label))]
    encoding: Option<&'static encoding_rs::Encoding>,
}

/// Imports the file and prints the report.
///
/// # Errors
/// Those of [`import`], after the report of the rows that were committed before; [`Error::Invalid`] if no row was
/// imported.
pub async fn run(db: &Db, clock: &Clock, args: ImportArgs) -> Result<()> {
    let ImportArgs { file, dry_run, strict, match_by, mapping, encoding } = args;
    let mapping = mapping.unwrap_or_default();
    let options = ImportOptions { match_by, is_strict: strict, is_dry_run: dry_run, mapping, encoding };
    let path = file.as_path();
    let is_standard_input = path == Path::new("-");
    let bar = bar((!is_standard_input).then_some(path));
    let moved = bar.clone();
    let progress = move |FileProgress { bytes, rows, .. }| {
        moved.set_position(bytes);
        moved.set_message(format!("{rows} rows"));
    };
    let outcome = if is_standard_input {
        import(db, clock, io::stdin(), options, progress).await
    } else {
        import_file(db, clock, path, options, progress).await
    };
    bar.finish_and_clear();
    match outcome {
        Ok(report) => {
            print(&report)?;
            if report.created + report.updated == 0 {
                return Err(Error::invalid(path.display().to_string(), "no row was imported"));
            }
            Ok(())
        }
        Err(Stopped { why, report, line }) => {
            if line > 0 {
                print(&report)?;
            }
            Err(why)
        }
    }
}

/// Creates the progress bar: by bytes if the size of the file is known, else a spinner. It is drawn only on a terminal.
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
    let ImportReport {
        created,
        updated,
        rejected_count,
        rejected,
        warning_count,
        warnings,
        assumed,
        preview,
    } = report;
    if !assumed.encoding.is_empty() {
        write_assumed(assumed, out)?;
    }
    for PreviewRow { line, client } in preview.iter().flatten() {
        writeln!(out, "  line {line}: {}", serde_json::to_string(client).unwrap_or_default())?;
    }
    if preview.is_some() {
        writeln!(out, "dry run: nothing was stored")?;
    }
    writeln!(out, "created  {created:>10}\nupdated  {updated:>10}\nrejected {rejected_count:>10}")?;
    for rejection in rejected {
        writeln!(out, "  line {}: {}: {}", rejection.line, rejection.field, rejection.reason)?;
    }
    if rejected.len() >= LISTED_REJECTIONS {
        writeln!(out, "  (more are not listed)")?;
    }
    writeln!(out, "warnings {warning_count:>10}")?;
    for Warning { line, field, reason } in warnings {
        writeln!(out, "  line {line}: {field}: {reason}")?;
    }
    if warnings.len() >= LISTED_REJECTIONS {
        writeln!(out, "  (more are not listed)")?;
    }
    out.flush()
}

fn write_assumed(assumed: &Assumed, out: &mut impl Write) -> io::Result<()> {
    let Assumed { encoding, separator, line_ends, header_line, match_by, mapping } = assumed;
    let separator = if separator == "\t" { "tab" } else { separator };
    writeln!(
        out,
        "read as {encoding}, separator {separator}, line ends {line_ends}, header in line {header_line}, clients matched by \
         {match_by}"
    )?;
    for column in mapping {
        let held = match (&column.field, &column.attribute, &column.left_out) {
            (Some(field), _, _) => field.clone(),
            (_, Some(attribute), _) => format!("attribute {attribute}"),
            (_, _, why) => format!("skipped: {}", why.as_deref().unwrap_or_default()),
        };
        writeln!(out, "  {} -> {held}", column.header)?;
    }
    Ok(())
}
