//! Measures the backlog of all nodes together. An alert uses it to distinguish an idle service from a stuck one.

use std::time::Duration;

use super::repo::backlog::backlog;
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::lifecycle::{Shutdown, run_periodically};
use crate::runtime::Runtime;

/// The time between two measurements.
const LOOK: Duration = Duration::from_secs(10);

/// Sets `fanfare_backlog` to the present backlog in the database.
///
/// # Errors
/// Database errors.
pub async fn measure(Runtime { db, clock, metrics, .. }: &Runtime) -> Result<()> {
    let now = clock.now();
    let found = db.read(move |c| backlog(c, now)).await?;
    for channel in ChannelKind::ALL {
        let waiting = found.get(channel).copied().unwrap_or_default();
        metrics.backlog.with_label_values(&[channel.as_str()]).set(waiting);
    }
    Ok(())
}

/// Measures the backlog periodically until the shutdown. While the database is unavailable the last values stay,
/// because the messages counted then still wait.
pub async fn watch(runtime: Runtime, shutdown: Shutdown) {
    run_periodically(shutdown, LOOK, || async {
        if let Err(error) = measure(&runtime).await {
            tracing::warn!(%error, "the backlog could not be counted; trying again");
        }
        false
    })
    .await;
}
