//! Checks the database: once a second that it accepts a write and what its time is, and twice a second that SQLite's
//! file is in place.

use std::time::Duration;

use crate::clock::Clock;
use crate::db::Db;
use crate::lifecycle::{Shutdown, ShutdownTrigger};
use crate::metrics::Metrics;

/// The pause between two checks of the file. A missing file is noticed within two of them.
const PAUSE: Duration = Duration::from_millis(500);
/// The pause between two writes.
const PULSE: Duration = Duration::from_secs(1);
/// The duration above which a measurement is too inaccurate to compare clocks.
const SLOW: Duration = Duration::from_millis(500);
/// The offset in seconds above which the clock is reported as wrong.
const WRONG: f64 = 2.0;

/// Checks a database periodically.
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

    /// Runs until the shutdown, and triggers the shutdown if SQLite's file is gone.
    pub(super) async fn run(mut self, trigger: ShutdownTrigger, shutdown: Shutdown) {
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

    /// Writes once, and compares the clocks.
    pub(super) async fn run_once(&mut self) {
        let before = self.clock.own();
        match self.db.pulse(self.clock.now()).await {
            Ok(pulse) => {
                let after = self.clock.own();
                if let Some(time) = pulse.time.filter(|_| after.since(before) < SLOW) {
                    self.compare(self.clock.compare((before, time, after)));
                }
            }
            Err(error) => tracing::warn!(%error, "database write failed"),
        }
    }

    fn compare(&mut self, ahead: f64) {
        self.metrics.clock_offset.set(ahead);
        let is_wrong = ahead.abs() > WRONG;
        if is_wrong && !self.is_wrong {
            tracing::error!(
                ahead_seconds = ahead,
                "clock differs from the database's time, which is used instead; synchronize this machine by NTP"
            );
        } else if self.is_wrong && !is_wrong {
            tracing::info!(ahead_seconds = ahead, "clock agrees with the database's time again");
        }
        self.is_wrong = is_wrong;
    }
}
