//! Retries refused records, which their partition did not wait for.

use std::sync::Arc;
use std::time::Duration;

use super::model::Source;
use super::refused::{self, RefusedRow, line};
use super::usecase::{Events, ParsedEvent};
use crate::broker::Broker;
use crate::broker::kafka::Kafka;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, run_periodically};
use crate::metrics::Metrics;
use crate::runtime::Runtime;

/// The interval between looks for due records.
const PAUSE: Duration = Duration::from_secs(1);
/// The same while no broker is configured, so that only earlier records can be left.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The most records of one look.
const PART: i64 = 100;

/// Parses a record as an event.
pub type ParseRecord = fn(&RefusedRow) -> ParsedEvent;

/// The task that retries refused records.
pub struct Retrier {
    events: Arc<Events>,
    db: Db,
    clock: Clock,
    metrics: Metrics,
    read: ParseRecord,
    /// `None` while no broker is configured; earlier records are retried all the same.
    most_tries: Option<u64>,
}

impl Retrier {
    /// Creates the task. After `most_tries` a record becomes a dead letter.
    pub fn new(
        events: Arc<Events>,
        Runtime { db, clock, metrics, .. }: Runtime,
        read: ParseRecord,
        most_tries: Option<u64>,
    ) -> Self {
        Self { events, db, clock, metrics, read, most_tries }
    }

    /// Retries until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let pause = if self.most_tries.is_some() { PAUSE } else { LONG_PAUSE };
        let look = || async {
            match self.look().await {
                Ok(is_more) => is_more,
                Err(error) => {
                    tracing::warn!(%error, "refused records wait for the database");
                    false
                }
            }
        };
        run_periodically(shutdown, pause, look).await;
    }

    /// Retries the due records; returns `true` if there may be more.
    async fn look(&self) -> Result<bool> {
        let now = self.clock.now();
        let rows = self.db.read(move |c| refused::due(c, now, PART)).await?;
        let is_more = rows.len() == PART as usize;
        for mut row in rows {
            let claimed = row.clone();
            if !self.db.write(move |c| refused::claim(c, &claimed, now)).await? {
                continue;
            }
            row.tries += 1;
            self.retry(row).await?;
        }
        Ok(is_more)
    }

    async fn retry(&self, mut row: RefusedRow) -> Result<()> {
        let event = (self.read)(&row);
        let taken = match event {
            Ok(event) => self.events.accept(event, Source::Broker, None).await.map(drop),
            Err(wrong) => Err(Error::Invalid(wrong)),
        };
        let id = row.id;
        row.error = match taken {
            Ok(()) => {
                self.count("taken");
                // after a crash here the event is recognised by its id
                return self.db.write(move |c| refused::forget(c, id)).await;
            }
            Err(Error::Invalid(wrong)) => line(&wrong),
            Err(away @ (Error::Unavailable(_) | Error::OutcomeUnknown(_) | Error::Busy(_))) => {
                return Err(away);
            }
            Err(other) => {
                tracing::error!(error = %other, record = row.subject, "refused record rejected by the database");
                "it cannot be stored".to_owned()
            }
        };
        let (record, tries) = (row.subject.clone(), row.tries);
        let (now, most) = (self.clock.now(), self.most_tries.unwrap_or(0));
        let is_buried = self.db.write(move |c| refused::refuse(c, &row, most, now)).await?;
        self.count("refused");
        if is_buried {
            self.count("buried");
            tracing::warn!(record, tries, "refused record stored as a dead letter");
        }
        Ok(())
    }

    fn count(&self, outcome: &str) {
        self.metrics.broker_events.with_label_values(&[Kafka::NAME, outcome]).inc();
    }
}
