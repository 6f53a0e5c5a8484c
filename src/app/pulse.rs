//! Looks at the database once a second: whether it can be written to, what time it is there, and whether SQLite's file is
//! where it was.

use std::time::Duration;

use crate::clock::Clock;
use crate::db::Db;
use crate::lifecycle::{Shutdown, Trigger};
use crate::metrics::Metrics;

/// Between two looks. A file that is gone is noticed within two of them.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two writes.
const PULSE: Duration = Duration::from_secs(1);
/// A measurement that took longer says too little of the clock.
const SLOW: Duration = Duration::from_millis(500);
/// A clock that is wrong by more seconds is logged.
const WRONG: f64 = 2.0;

/// Looks after a database.
pub(super) struct Pulse {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    is_wrong: bool,
}

impl Pulse {
    pub(super) fn new(db: Db, clock: Clock, metrics: Metrics) -> Self {
        Self { db, clock, metrics, is_wrong: false }
    }

    /// Runs until the shutdown, and asks for it when the database is not there any more.
    pub(super) async fn run(mut self, trigger: Trigger, shutdown: Shutdown) {
        let mut next = tokio::time::Instant::now() + PULSE;
        while !shutdown.is_fired() {
            if !self.db.is_in_place() {
                tracing::error!("the SQLite file was moved, replaced or removed; the service stops");
                trigger.fire();
                return;
            }
            if next <= tokio::time::Instant::now() {
                self.run_once().await;
                next = tokio::time::Instant::now() + PULSE;
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// One write, with a look at the clock.
    pub(super) async fn run_once(&mut self) {
        let before = self.clock.own();
        match self.db.pulse(self.clock.now()).await {
            Ok(pulse) => {
                let after = self.clock.own();
                if let Some(time) = pulse.time.filter(|_| after.since(before) < SLOW) {
                    self.compare(self.clock.compare((before, time, after)));
                }
            }
            Err(error) => tracing::warn!(%error, "the database could not be written to"),
        }
    }

    fn compare(&mut self, ahead: f64) {
        self.metrics.clock_offset.set(ahead);
        let is_wrong = ahead.abs() > WRONG;
        if is_wrong && !self.is_wrong {
            tracing::error!(
                ahead_seconds = ahead,
                "this machine's clock differs from the database's, whose time is used; set it by NTP"
            );
        } else if self.is_wrong && !is_wrong {
            tracing::info!(ahead_seconds = ahead, "this machine's clock agrees with the database's again");
        }
        self.is_wrong = is_wrong;
    }
}
