//! Opens the configured database, and corrects the clock to the database's time.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::pulse::Pulse;
use crate::clock::Clock;
use crate::config::Config;
pub use crate::db::migrations::{KnownMigration as Migration, Target};
use crate::db::{Db, DbOptions, Workload, offline};
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Opens the configured database and measures its commits.
///
/// # Errors
/// Errors of [`Db::open`].
pub async fn open_db(config: &Config, metrics: &Metrics) -> Result<Db> {
    let measured = metrics.clone();
    let options = DbOptions {
        pool_size: config.database.pool_size,
        timeout: config.database.timeout,
        on_commit: Arc::new(move |seconds| measured.db_write.observe(seconds)),
        ..DbOptions::new(config.database.url.expose_secret())
    };
    tokio::task::spawn_blocking(move || Db::open(options)).await.map_err(|e| Error::Internal(e.into()))?
}

/// Reverts migrations down to `target`, if one is given. Returns the names of the reverted migrations, and all
/// migrations.
///
/// # Errors
/// Errors of [`offline::revert`] and [`offline::status`].
pub async fn migrations(config: Config, target: Option<Target>) -> Result<(Vec<String>, Vec<Migration>)> {
    let work = move || {
        let url = config.database.url.expose_secret();
        let undone = target.map(|target| offline::revert(url, &target, config.delivery.lease)).transpose()?;
        Ok((undone.unwrap_or_default(), offline::status(url)?))
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(e.into()))?
}

/// Returns the clock of a service, corrected to the database's time if other nodes may use the database, and the pulse
/// that keeps checking both.
pub(super) async fn followed(db: &Db, clock: Clock, metrics: &Metrics) -> (Clock, Pulse) {
    let clock = if db.is_single_node() { clock } else { clock.corrected() };
    let mut pulse = Pulse::new(db.doing(Workload::Probe), clock.clone(), metrics.clone());
    // before the first messages, so that they use the corrected time
    pulse.run_once().await;
    (clock, pulse)
}
