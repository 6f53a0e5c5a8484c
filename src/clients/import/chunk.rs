//! A chunk: the rows that are stored in one transaction.

use super::options::MatchBy;
use super::report::{Rejection, Warning};
use super::row::FileRow;
use crate::clients::repo::NewClients;

/// Consecutive records of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    pub(super) rows: Vec<FileRow>,
    /// The clients of the leading rows, if they are expected to be new.
    pub(super) new: Option<NewClients>,
    pub(super) rejected: Vec<Rejection>,
    pub(super) rejected_rows: u64,
    pub(super) warnings: Vec<Warning>,
    /// The number of rows, including rejected ones.
    pub(super) records: u64,
    /// The number of bytes from the beginning of the file to the end of this chunk.
    pub(super) bytes: u64,
    pub(super) last_line: u64,
    /// The field that identifies the clients of the rows.
    pub(super) match_by: MatchBy,
    /// True if no rows follow, so that a number that is still taken is not released any more.
    pub(super) is_final: bool,
}
