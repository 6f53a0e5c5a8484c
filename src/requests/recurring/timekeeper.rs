//! The timekeeper: makes the runs of recurring requests at their times.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::Result;
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;
use crate::notifications::usecase::Arrivals;

/// Recurring requests whose runs are made in one transaction.
const AT_ONCE: i64 = 100;

/// Makes runs. Several may be at it, at several nodes: each run is made once.
pub struct Timekeeper {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    arrivals: Arc<dyn Arrivals>,
    wake: Arc<Notify>,
    poll: Duration,
}

impl Timekeeper {
    /// Over this database; it looks at the time of the next run, at least each `poll`, and when it is woken.
    pub fn new(
        (db, clock, metrics): (Db, Clock, Metrics),
        arrivals: Arc<dyn Arrivals>,
        (wake, poll): (Arc<Notify>, Duration),
    ) -> Self {
        Self { db, clock, metrics, arrivals, wake, poll }
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = self.run_once().await.unwrap_or_else(|error| {
                tracing::error!(%error, "runs of recurring requests could not be made; trying again");
                self.poll
            });
            shutdown.rest(&self.wake, pause).await;
        }
    }

    /// Makes the runs that are due, of a hundred recurring requests at most; answers how long there is nothing to do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&self) -> Result<Duration> {
        let now = self.clock.now();
        // looked at before taking, which is a write: usually nothing is due
        match self.db.read(repo::next_due).await? {
            None => return Ok(self.poll),
            Some(at) if at > now => return Ok(self.poll.min(at.since(now))),
            Some(_) => {}
        }
        let taken = self.db.write(move |c| repo::make_due(c, AT_ONCE, now)).await?;
        failpoint::reach("recur-after-commit");
        if taken.runs > 0 {
            self.metrics.entered(ChannelKind::Request, taken.runs);
            self.arrivals.arrived();
        }
        // none were left: another node is at them
        Ok(if taken.recurring == 0 { self.poll } else { Duration::ZERO })
    }
}
