//! An import as its row shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clients::import::{Assumed, Progress, Rejection, Warning};
use crate::db::types::{ImportId, Timestamp};
use crate::kinds::ImportStatus;

/// An import that runs as a job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ImportJob {
    /// Its id.
    pub id: ImportId,
    /// Its state.
    pub status: ImportStatus,
    /// Bytes of the file.
    #[schema(example = 52_428_800)]
    pub size: i64,
    /// Bytes of the file whose rows are imported or rejected.
    pub bytes: i64,
    /// Rows that are imported or rejected.
    pub rows: i64,
    /// Every row up to this line of the file is imported or rejected, and perhaps some behind it.
    pub line: i64,
    /// Rows that made a client.
    pub created: i64,
    /// Rows whose client was there already, whether or not they changed it.
    pub updated: i64,
    /// Rows that were rejected.
    pub rejected_count: i64,
    /// The reason why it failed, and what to do.
    pub error: Option<String>,
    /// When the file was received.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its first row was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it was done or failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl ImportJob {
    /// A job whose file of so many bytes was received now.
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
    /// The first 1000 complaints about rejected rows.
    pub rejected: Vec<Rejection>,
    /// The first 1000 warnings of what was left out.
    pub warnings: Vec<Warning>,
    /// How many warnings there were.
    pub warning_count: u64,
    /// Findings about the file; null before it was read.
    pub assumed: Option<Assumed>,
}

/// An import with what is said of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ImportJobWithFindings {
    /// The import.
    #[serde(flatten)]
    pub job: ImportJob,
    /// Findings about its rows.
    #[serde(flatten)]
    pub findings: ImportFindings,
}

/// How far an import has come, as those who watch are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportProgress {
    /// The import.
    pub id: ImportId,
    /// Its state.
    pub status: ImportStatus,
    /// Bytes of the file whose rows are imported or rejected.
    pub bytes: i64,
    /// Rows that are imported or rejected.
    pub rows: i64,
    /// Rows that made a client.
    pub created: i64,
    /// Rows whose client was there already.
    pub updated: i64,
    /// Rows that were rejected.
    pub rejected_count: i64,
}

impl ImportProgress {
    pub(super) fn new(id: ImportId, status: ImportStatus, progress: Progress) -> Self {
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

/// A count as the database stores it.
pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Those who watch imports. It never waits.
pub trait Watchers: Send + Sync {
    /// Tells them how far one has come.
    fn import_progressed(&self, progress: ImportProgress);
}
