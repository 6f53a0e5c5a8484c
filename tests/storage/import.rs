//! The import of clients from CSV.

mod chunks;
mod faults;
mod rows;

use std::io::Cursor;

use fanfare::clients::import::{self, ImportOptions, ImportReport, Stopped};

use crate::storage::stage::Stage;

/// Imports this text.
async fn import(stage: &Stage, csv: impl Into<Vec<u8>>) -> Result<ImportReport, Stopped> {
    import::import(&stage.db, &stage.clock, Cursor::new(csv.into()), ImportOptions::default(), |_| ()).await
}

/// Returns the numbers of created, updated and rejected rows of a successful import.
async fn counts(stage: &Stage, csv: impl Into<Vec<u8>>) -> (u64, u64, u64) {
    let report = import(stage, csv).await.unwrap();
    (report.created, report.updated, report.rejected_count)
}

/// Returns the line and the field of each error.
fn complaints(report: &ImportReport) -> Vec<(u64, &str)> {
    report.rejected.iter().map(|complaint| (complaint.line, complaint.field.as_str())).collect()
}
