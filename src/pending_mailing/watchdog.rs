//! The watchdog: wakes every second, or at the start time of the next mailing, and starts the due mailings.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{MailingId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::lifecycle::Shutdown;
use crate::mailings::model::MailingStatus;
use crate::mailings::repo::audience;
use crate::mailings::usecase::Wakeup;
use crate::metrics::Metrics;
use crate::runtime::Runtime;

/// The number of mailings started in one poll.
const AT_ONCE: i64 = 50;
/// The time after which a mailing that was taken and not started is taken again: its node died in between.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts mailings at their time. A mailing past its window starts too, so that its counts balance: the engine expires
/// all its messages.
pub struct Watchdog {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    engine: Arc<dyn Wakeup>,
    poll: Duration,
    wake: Arc<Notify>,
    looked_at: Arc<AtomicI64>,
}

impl Watchdog {
    /// Creates a watchdog that polls every `poll`, and when `wake` is notified.
    pub fn new(
        Runtime { db, clock, metrics, .. }: Runtime,
        engine: Arc<dyn Wakeup>,
        poll: Duration,
        wake: Arc<Notify>,
    ) -> Self {
        // its creation counts as the first poll, so that a service is ready as soon as it listens
        let looked_at = Arc::new(AtomicI64::new(clock.now().micros()));
        Self { db, clock, metrics, engine, poll, wake, looked_at }
    }

    /// Returns a function that gives the time of the last poll; for readiness.
    pub fn looked_at(&self) -> impl Fn() -> Timestamp + Send + Sync + use<> {
        let looked_at = Arc::clone(&self.looked_at);
        move || Timestamp::from_micros(looked_at.load(Ordering::Acquire))
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = match self.run_once().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "pending mailings could not be started; trying again");
                    self.poll
                }
            };
            shutdown.rest(&self.wake, pause).await;
        }
    }

    /// Starts the due mailings. Returns the time until the next one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&self) -> Result<Duration> {
        let now = self.clock.now();
        // read before taking, which is a write: usually nothing is due
        let next = self.db.read(move |c| repo::next_due(c, now)).await?;
        let pause = match next {
            Some(at) if at <= now => {
                let due = self.db.write(move |c| repo::take_due(c, now, PATIENCE, AT_ONCE)).await?;
                for id in &due {
                    failpoint::reach("begin-after-take");
                    self.begin(*id, now).await?;
                }
                if due.is_empty() { self.poll } else { Duration::ZERO }
            }
            Some(at) => self.poll.min(at.since(now)),
            None => self.poll,
        };
        self.metrics.watchdog_ticks.inc();
        self.looked_at.store(now.micros(), Ordering::Release);
        Ok(pause)
    }

    async fn begin(&self, id: MailingId, now: Timestamp) -> Result<()> {
        let (mailing, counted) = self
            .db
            .read(move |c| {
                let mailing = crate::mailings::repo::get(c, id)?;
                let counted = audience::measure(c, &mailing.filter)?;
                Ok((mailing, counted))
            })
            .await?;
        // the mailing may have been paused or cancelled since it was taken
        let begins = match mailing.status {
            MailingStatus::Pending => true,
            MailingStatus::Paused => mailing.ends_at <= now,
            _ => false,
        };
        if !begins {
            return Ok(());
        }
        let begun = self.db.write(move |c| crate::mailings::repo::begin(c, &mailing, counted, now)).await?;
        if begun {
            tracing::info!(mailing = %id, recipients = counted.total, "mailing started");
            self.engine.mailing_changed();
        }
        Ok(())
    }
}
