//! The rows of an import that are committed so far.

use std::collections::HashSet;

use super::chunk::Chunk;
use super::merge::Deferred;
use super::options::MatchBy;
use super::progress::FileProgress;
use super::report::ImportReport;
use super::store::{PREVIEWED, StoredChunk};
use crate::clients::model::PhoneNumber;

/// The largest number of rows that wait for the end of the file because another client has their number. More are
/// rejected.
const MOST_DEFERRED: usize = 1000;
/// The number of new phone numbers that a dry run remembers, to count each client once.
const REMEMBERED_NUMBERS: usize = 1_000_000;

/// The rows that are committed so far.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) report: ImportReport,
    /// The line up to which every row is imported or rejected.
    pub(super) line: u64,
    rows: u64,
    bytes: u64,
    deferred: Vec<Deferred>,
    match_by: MatchBy,
    /// The numbers of clients that a dry run would have created.
    new_numbers: HashSet<PhoneNumber>,
}

impl Committed {
    /// Creates the record of an import without rows.
    pub(super) fn new(is_dry_run: bool) -> Self {
        let report = ImportReport { preview: is_dry_run.then(Vec::new), ..ImportReport::default() };
        Self { report, ..Self::default() }
    }

    /// Adds the result of a chunk, and returns the progress.
    pub(super) fn add(&mut self, chunk: StoredChunk) -> FileProgress {
        let mut again = 0;
        if let Some(preview) = &mut self.report.preview {
            let room = PREVIEWED.saturating_sub(preview.len());
            preview.extend(chunk.preview.into_iter().take(room));
            // a dry run stores nothing, so the next chunk does not find the new clients of this one
            for number in chunk.new_numbers {
                let is_full = self.new_numbers.len() >= REMEMBERED_NUMBERS;
                again += u64::from(
                    self.new_numbers.contains(&number) || !(is_full || self.new_numbers.insert(number)),
                );
            }
        }
        self.report.created += chunk.created.saturating_sub(again);
        self.report.updated += chunk.updated + again;
        self.report.reject(chunk.rejected_rows, chunk.rejected);
        self.report.warn(chunk.warnings);
        self.match_by = chunk.match_by;
        self.deferred.extend(chunk.deferred);
        let surplus = self.deferred.split_off(self.deferred.len().min(MOST_DEFERRED));
        let rows = u64::try_from(surplus.len()).unwrap_or(u64::MAX);
        self.report.reject(rows, surplus.into_iter().map(|deferred| deferred.rejection).collect());
        self.line = self.line.max(chunk.last_line);
        self.rows += chunk.records;
        self.bytes = self.bytes.max(chunk.bytes);
        let ImportReport { created, updated, rejected_count: rejected, .. } = self.report;
        FileProgress { bytes: self.bytes, rows: self.rows, line: self.line, created, updated, rejected }
    }

    /// Returns the rows that waited for the end of the file as a last chunk.
    pub(super) fn last_chunk(&mut self) -> Option<Chunk> {
        let rows: Vec<_> =
            std::mem::take(&mut self.deferred).into_iter().map(|deferred| deferred.row).collect();
        let chunk = Chunk { rows, match_by: self.match_by, is_final: true, ..Chunk::default() };
        (!chunk.rows.is_empty()).then_some(chunk)
    }
}
