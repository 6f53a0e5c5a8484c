//! Import jobs, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{ImportFindings, ImportJob};
use crate::db::types::{ImportId, Timestamp};
use crate::kinds::ImportStatus;

/// An import that runs as a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportJob)]
pub struct ImportJobView {
    /// The id of the import.
    pub id: ImportId,
    /// The state of the import.
    pub status: ImportStatus,
    /// The size of the file in bytes.
    #[schema(example = 52_428_800)]
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
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time at which the first row was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// The time at which the import was done or failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl From<ImportJob> for ImportJobView {
    fn from(job: ImportJob) -> Self {
        let ImportJob {
            id,
            status,
            size,
            bytes,
            rows,
            line,
            created,
            updated,
            rejected_count,
            error,
            created_at,
            started_at,
            finished_at,
        } = job;
        Self {
            id,
            status,
            size,
            bytes,
            rows,
            line,
            created,
            updated,
            rejected_count,
            error,
            created_at,
            started_at,
            finished_at,
        }
    }
}

/// An import with the findings about its rows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportJobWithFindings)]
pub struct ImportJobWithFindingsView {
    /// The import.
    #[serde(flatten)]
    pub job: ImportJobView,
    /// The findings about its rows.
    #[serde(flatten)]
    pub findings: ImportFindings,
}
