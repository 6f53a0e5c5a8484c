//! The parts of an import's report beside the counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::columns::MappedColumn;
use crate::clients::model::Client;

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
    pub client: Client,
}
