//! The timekeeper creates the occurrences of recurring requests at their times.

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
use crate::notifications::notifier::NewMessageNotifier;
use crate::runtime::Runtime;

/// The most recurring requests per transaction.
const AT_ONCE: i64 = 100;

/// Creates occurrences. Each one is created once, even if several nodes run a timekeeper.
pub struct Timekeeper {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    arrivals: Arc<dyn NewMessageNotifier>,
    wake: Arc<Notify>,
    poll: Duration,
}

impl Timekeeper {
    /// Creates a timekeeper. It wakes at the time of the next occurrence, at least every `poll`, and on `wake`.
    pub fn new(
        Runtime { db, clock, metrics, .. }: Runtime,
        arrivals: Arc<dyn NewMessageNotifier>,
        (wake, poll): (Arc<Notify>, Duration),
    ) -> Self {
        Self { db, clock, metrics, arrivals, wake, poll }
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = self.run_once().await.unwrap_or_else(|error| {
                tracing::error!(%error, "occurrences of recurring requests could not be created; retrying");
                self.poll
            });
            shutdown.rest(&self.wake, pause).await;
        }
    }

    /// Creates the due occurrences of at most a hundred recurring requests. Returns the time to wait before the next
    /// call.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&self) -> Result<Duration> {
        let now = self.clock.now();
        // a read first, since usually no occurrence is due and taking them is a write
        match self.db.read(repo::next_due).await? {
            None => return Ok(self.poll),
            Some(at) if at > now => return Ok(self.poll.min(at.since(now))),
            Some(_) => {}
        }
        let taken = self.db.write(move |c| repo::create_due_occurrences(c, AT_ONCE, now)).await?;
        failpoint::reach("recur-after-commit");
        if taken.runs > 0 {
            self.metrics.entered(ChannelKind::Request, taken.runs);
            self.arrivals.arrived();
        }
        // none was taken: another node is processing them
        Ok(if taken.recurring == 0 { self.poll } else { Duration::ZERO })
    }
}
