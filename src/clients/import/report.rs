//! Findings of an import beside the counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::columns::MappedColumn;
use crate::clients::model::Client;

/// One thing that was not used, in a row or a column that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The line of the file.
    #[schema(example = 17)]
    pub line: u64,
    /// The field, the attribute, or the header of the column.
    #[schema(example = "timezone")]
    pub field: String,
    /// The fault, its result, and what would be right.
    #[schema(example = "must be the IANA name of a time zone, like Europe/Moscow; the cell was left out")]
    pub reason: String,
}

/// Findings about the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assumed {
    /// The encoding, by its name in the WHATWG Encoding Standard.
    #[schema(example = "windows-1251")]
    pub encoding: String,
    /// The character between cells.
    #[schema(example = ";")]
    pub separator: String,
    /// `LF`, `CRLF`, `CR`, `mixed`, or `none` in a file of one line.
    #[schema(example = "CRLF")]
    pub line_ends: String,
    /// The line that names the columns.
    #[schema(example = 1)]
    pub header_line: u64,
    /// The field by which clients were matched.
    #[serde(rename = "match")]
    #[schema(example = "phone_number")]
    pub match_by: String,
    /// The meaning that each column was given.
    pub mapping: Vec<MappedColumn>,
}

/// A row of a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PreviewRow {
    /// The line that the row begins on.
    #[schema(example = 2)]
    pub line: u64,
    /// The client as it would be; the id of a new one is made up.
    pub client: Client,
}
