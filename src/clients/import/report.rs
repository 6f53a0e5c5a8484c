//! The report of an import.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clients::views::ClientView;

/// The largest number of listed rejections, and of listed warnings. More are only counted.
pub const LISTED_REJECTIONS: usize = 1000;

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

/// A skipped cell of an imported row, or a skipped column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The line of the file.
    #[schema(example = 17)]
    pub line: u64,
    /// The field, the attribute, or the header of the column.
    #[schema(example = "timezone")]
    pub field: String,
    /// The error, its effect and its remedy.
    #[schema(example = "must be the IANA name of a time zone, like Europe/Moscow; the cell was skipped")]
    pub reason: String,
}

/// The mapping of a column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MappedColumn {
    /// The number of the column; the first one is 1.
    #[schema(example = 2)]
    pub column: usize,
    /// The header of the column in the file.
    #[schema(example = "Имя")]
    pub header: String,
    /// The field of a client that the column sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// The attribute that the column sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "imya", nullable = false)]
    pub attribute: Option<String>,
    /// The reason why the column was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub left_out: Option<String>,
}

/// The detected format of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assumed {
    /// The encoding, by its name in the WHATWG Encoding Standard.
    #[schema(example = "windows-1251")]
    pub encoding: String,
    /// The separator of cells.
    #[schema(example = ";")]
    pub separator: String,
    /// `LF`, `CRLF`, `CR`, `mixed`, or `none` in a file of one line.
    #[schema(example = "CRLF")]
    pub line_ends: String,
    /// The number of the header line.
    #[schema(example = 1)]
    pub header_line: u64,
    /// The field that identifies clients.
    #[serde(rename = "match")]
    #[schema(example = "phone_number")]
    pub match_by: String,
    /// The mapping of each column.
    pub mapping: Vec<MappedColumn>,
}

/// A row of a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PreviewRow {
    /// The line that the row begins on.
    #[schema(example = 2)]
    pub line: u64,
    /// The client that the row would create or change. The id of a new client is only an example.
    pub client: ClientView,
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
    /// Adds rejected rows with their errors.
    pub(super) fn reject(&mut self, rows: u64, mut complaints: Vec<Rejection>) {
        self.rejected_count += rows;
        let room = LISTED_REJECTIONS.saturating_sub(self.rejected.len());
        complaints.sort_by_key(|complaint| complaint.line);
        self.rejected.extend(complaints.into_iter().take(room));
    }

    /// Adds warnings.
    pub(super) fn warn(&mut self, warnings: Vec<Warning>) {
        self.warning_count += u64::try_from(warnings.len()).unwrap_or(u64::MAX);
        let room = LISTED_REJECTIONS.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }
}
