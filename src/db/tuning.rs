//! Settings of SQLite's writer while imports run.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;

use super::any::AnyConnection;
use super::limits::Workload;

/// The settings during imports. The clients of an import are unsorted, so their rows change pages all over the indexes.
/// A cache that holds most of these pages reads each page once; a smaller one writes it to the log and reads it again
/// within a transaction. With 8000 pages between two checkpoints (32 MB; the log may have 64), a page that changes in
/// each commit is written to the file once. In memory, the savepoint's copies of changed pages need no file. Larger
/// values gain little, and a larger checkpoint would delay other writers for longer.
const IMPORTING: &str =
    "PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000; PRAGMA temp_store = MEMORY";
/// The settings of new connections (`connection.rs`), else SQLite's defaults.
const USUAL: &str = "PRAGMA cache_size = -2000; PRAGMA wal_autocheckpoint = 1000; PRAGMA temp_store = DEFAULT; \
    PRAGMA shrink_memory";
/// The time without a chunk after which an import has ended, or waits for its sender.
const PATIENCE: Duration = Duration::from_secs(2);

/// The current settings of a connection.
#[derive(Default)]
pub(super) struct Tuning {
    is_importing: bool,
    imported_at: Option<Instant>,
}

impl Tuning {
    /// Notes the arrival of work of this kind.
    pub(super) fn note(&mut self, work: Workload) {
        // `fanfare import` is a command
        if matches!(work, Workload::Import | Workload::Command) {
            self.imported_at = Some(Instant::now());
        }
    }

    /// Adapts the settings to the recent work, outside of a transaction.
    ///
    /// # Errors
    /// Errors of the connection, whose settings are then unchanged.
    pub(super) fn suit(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        let is_importing = self.imported_at.is_some_and(|at| at.elapsed() < PATIENCE);
        if is_importing != self.is_importing {
            connection.batch_execute(if is_importing { IMPORTING } else { USUAL })?;
            self.is_importing = is_importing;
        }
        Ok(())
    }
}
