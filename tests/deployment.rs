//! The parts of an installation besides the service: backups, and the commands that containers and scripts run.

mod backup;
mod commands;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
