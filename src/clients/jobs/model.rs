//! The row of an import job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clients::import::{Assumed, FileProgress, Rejection, Warning};
use crate::db::types::{ImportId, Timestamp};
use crate::kinds::ImportStatus;

/// An import that runs as a job.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportJob {
    /// The id of the import.
    pub id: ImportId,
    /// The state of the import.
    pub status: ImportStatus,
    /// The size of the file in bytes.
    pub size: i64,
    /// The number of bytes whose rows are imported or rejected.
    pub bytes: i64,
    /// The number of rows that are imported or rejected.
    pub rows: i64,
    /// The line up to which every row is imported or rejected. Some later rows may be as well.
    pub line: i64,
    /// The number of rows that created a client.
    pub created: i64,
    /// The number of rows whose client existed already, changed or not.
    pub updated: i64,
    /// The number of rows that were rejected.
    pub rejected_count: i64,
    /// The reason for a failure, and the remedy.
    pub error: Option<String>,
    /// The time at which the file was received.
    pub created_at: Timestamp,
    /// The time at which the first row was read.
    pub started_at: Option<Timestamp>,
    /// The time at which the import was done or failed.
    pub finished_at: Option<Timestamp>,
}

impl ImportJob {
    /// Creates a queued job for a file of `size` bytes that was received at `now`.
    pub fn new(size: u64, now: Timestamp) -> Self {
        Self {
            id: ImportId::new(),
            status: ImportStatus::Queued,
            size: whole(size),
            bytes: 0,
            rows: 0,
            line: 0,
            created: 0,
            updated: 0,
            rejected_count: 0,
            error: None,
            created_at: now,
            started_at: None,
            finished_at: None,
        }
    }
}

/// Findings about the rows and the file, once an import has ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportFindings {
    /// The first 1000 errors of rejected rows.
    pub rejected: Vec<Rejection>,
    /// The first 1000 warnings about cells that were skipped.
    pub warnings: Vec<Warning>,
    /// The number of all warnings.
    pub warning_count: u64,
    /// The detected format of the file; null before it was read.
    pub assumed: Option<Assumed>,
}

/// The progress of an import, as it is published to subscribers of the event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportProgress {
    /// The id of the import.
    pub id: ImportId,
    /// The state of the import.
    pub status: ImportStatus,
    /// The number of bytes whose rows are imported or rejected.
    pub bytes: i64,
    /// The number of rows that are imported or rejected.
    pub rows: i64,
    /// The number of rows that created a client.
    pub created: i64,
    /// The number of rows whose client existed already.
    pub updated: i64,
    /// The number of rows that were rejected.
    pub rejected_count: i64,
}

impl ImportProgress {
    pub(super) fn new(id: ImportId, status: ImportStatus, progress: FileProgress) -> Self {
        Self {
            id,
            status,
            bytes: whole(progress.bytes),
            rows: whole(progress.rows),
            created: whole(progress.created),
            updated: whole(progress.updated),
            rejected_count: whole(progress.rejected),
        }
    }
}

/// Converts a count to the type of its column.
pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A publisher of the progress of imports. It never blocks.
pub trait ProgressPublisher: Send + Sync {
    /// Publishes the progress of an import.
    fn import_progressed(&self, progress: ImportProgress);
}
