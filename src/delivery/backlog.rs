//! Shows what waits to be sent, of all nodes together: an alert tells by it a service that is idle from one that is stuck.

use std::time::Duration;

use super::repo::backlog::backlog;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::lifecycle::{Shutdown, tidy};
use crate::metrics::Metrics;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// Sets `fanfare_backlog` to what the database says now.
///
/// # Errors
/// Those of the database.
pub async fn measure((db, clock, metrics): &(Db, Clock, Metrics)) -> Result<()> {
    let now = clock.now();
    let found = db.read(move |c| backlog(c, now)).await?;
    for channel in ChannelKind::ALL {
        let waiting = found.get(channel).copied().unwrap_or_default();
        metrics.backlog.with_label_values(&[channel.as_str()]).set(waiting);
    }
    Ok(())
}

/// Measures it again and again until the shutdown. While the database does not answer, the last figures stay: what waited
/// then still waits.
pub async fn watch(parts: (Db, Clock, Metrics), shutdown: Shutdown) {
    tidy(shutdown, LOOK, || async {
        if let Err(error) = measure(&parts).await {
            tracing::warn!(%error, "the backlog could not be counted; trying again");
        }
        false
    })
    .await;
}
