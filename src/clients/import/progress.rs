//! The progress of an import, and its failure before the end of its file.

use std::fmt;

use super::report::ImportReport;
use crate::error::Error;

/// The progress of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileProgress {
    /// The number of bytes whose rows are imported or rejected.
    pub bytes: u64,
    /// The number of rows that are imported or rejected.
    pub rows: u64,
    /// The line up to which every row is imported or rejected.
    pub line: u64,
    /// The number of rows that created a client.
    pub created: u64,
    /// The number of rows whose client existed already.
    pub updated: u64,
    /// The number of rows that were rejected.
    pub rejected: u64,
}

/// The error of an import that did not reach the end of its file.
pub struct Stopped {
    /// The cause.
    pub why: Error,
    /// The rows that were committed before. They stay committed.
    pub report: ImportReport,
    /// The line up to which every row is imported or rejected. Some later rows may be as well.
    pub line: u64,
}

impl Stopped {
    /// Creates the error of an import that stopped before it read a row.
    pub fn at_once(why: Error) -> Self {
        Self { why, report: ImportReport::default(), line: 0 }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        if self.line > 0 {
            let ImportReport { created, updated, rejected_count, .. } = &self.report;
            write!(
                f,
                "; committed before: {created} clients created, {updated} updated, {rejected_count} rows rejected, up \
                 to line {}",
                self.line
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stopped {
    /// Formats the error without the list of rejections: errors are logged, and a thousand rejections would not help
    /// there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("why", &self.why).field("line", &self.line).finish_non_exhaustive()
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}
