//! Settings of SQLite's writer while imports run.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;

use super::any::AnyConnection;
use super::limits::Workload;

/// Clients of an import come in no order, so that their rows change pages all over the indexes. A cache that holds most
/// of these reads each once, instead of writing it to the log and reading it again within a transaction; 8000 pages
/// between two checkpoints (32 MB, where the log may have 64) write those that change in each commit once to the file;
/// and what a savepoint keeps of each changed page does not go through a file. More gains little, and a checkpoint of more
/// would keep other writers waiting for longer.
const IMPORTING: &str =
    "PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000; PRAGMA temp_store = MEMORY";
/// As connections are opened (`connection.rs`), or SQLite's defaults.
const USUAL: &str = "PRAGMA cache_size = -2000; PRAGMA wal_autocheckpoint = 1000; PRAGMA temp_store = DEFAULT; \
    PRAGMA shrink_memory";
/// An import without a chunk for this long has ended, or waits for its sender.
const PATIENCE: Duration = Duration::from_secs(2);

/// The settings that a connection has.
#[derive(Default)]
pub(super) struct Tuning {
    is_importing: bool,
    imported_at: Option<Instant>,
}

impl Tuning {
    /// Notes that work of this kind has come.
    pub(super) fn note(&mut self, work: Workload) {
        // `fanfare import` is a command
        if matches!(work, Workload::Import | Workload::Command) {
            self.imported_at = Some(Instant::now());
        }
    }

    /// Sets what suits the work that has come, outside of a transaction.
    ///
    /// # Errors
    /// Those of the connection, which is as it was then.
    pub(super) fn suit(&mut self, connection: &mut AnyConnection) -> QueryResult<()> {
        let is_importing = self.imported_at.is_some_and(|at| at.elapsed() < PATIENCE);
        if is_importing != self.is_importing {
            connection.batch_execute(if is_importing { IMPORTING } else { USUAL })?;
            self.is_importing = is_importing;
        }
        Ok(())
    }
}
