//! The parts that imports which run as jobs go through.

use std::path::PathBuf;
use std::sync::Arc;

use super::MIB;
use crate::clients::Clients;
use crate::clients::jobs::runner::Runner;
use crate::clients::jobs::usecase::{Imports, Spool};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::live::Live;

/// Where imports are received and run, with the runner that is to be run for them.
///
/// # Errors
/// A folder that was configured and takes no file.
pub(super) fn imports(
    config: &Config,
    parts: (Db, Clock),
    clients: &Clients,
    live: &Live,
) -> Result<(Imports, Runner)> {
    let most = config.clients.import_max_size * MIB as u64;
    let dir = match &config.clients.import_dir {
        None => std::env::temp_dir(),
        Some(dir) => {
            tempfile::tempfile_in(dir).map_err(|e| {
                Error::invalid("clients.import_dir (IMPORT_DIR)", format!("takes no file: {e}"))
            })?;
            PathBuf::from(dir)
        }
    };
    let spool = (Spool { dir, most }, config.delivery.lease);
    Ok(Imports::new(parts, clients.clone(), Arc::new(live.clone()), spool))
}
