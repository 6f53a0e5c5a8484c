//! Tries the records again that a broker's partition did not wait for.

use std::sync::Arc;
use std::time::Duration;

use super::model::Source;
use super::refused::{self, RefusedRow, line};
use super::usecase::{Events, Wanted};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, tidy};
use crate::metrics::Metrics;

/// Between looks for what is due, and where nothing new can come, since no broker is configured.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// Records of one look.
const PART: i64 = 100;

/// Reads a record as an event.
pub type Read = fn(&RefusedRow) -> Wanted;

/// The task that tries refused records again.
pub struct Retrier {
    events: Arc<Events>,
    db: Db,
    clock: Clock,
    metrics: Metrics,
    read: Read,
    /// None where no broker is configured; what is left is tried all the same.
    most_tries: Option<u64>,
}

impl Retrier {
    /// One that gives a record up after so many tries.
    pub fn new(
        events: Arc<Events>,
        (db, clock, metrics): (Db, Clock, Metrics),
        read: Read,
        most_tries: Option<u64>,
    ) -> Self {
        Self { events, db, clock, metrics, read, most_tries }
    }

    /// Tries until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let pause = if self.most_tries.is_some() { PAUSE } else { LONG_PAUSE };
        let look = || async {
            match self.look().await {
                Ok(is_more) => is_more,
                Err(error) => {
                    tracing::warn!(%error, "records that were refused wait for the database");
                    false
                }
            }
        };
        tidy(shutdown, pause, look).await;
    }

    /// Tries what is due; answers whether there may be more.
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
                // were it to die here, the event would be known by its id
                return self.db.write(move |c| refused::forget(c, id)).await;
            }
            Err(Error::Invalid(wrong)) => line(&wrong),
            Err(away @ (Error::Unavailable(_) | Error::OutcomeUnknown(_) | Error::Busy(_))) => {
                return Err(away);
            }
            Err(other) => {
                tracing::error!(error = %other, record = row.subject, "a refused record cannot be stored");
                "it cannot be stored".to_owned()
            }
        };
        let (record, tries) = (row.subject.clone(), row.tries);
        let (now, most) = (self.clock.now(), self.most_tries.unwrap_or(0));
        let is_buried = self.db.write(move |c| refused::refuse(c, &row, most, now)).await?;
        self.count("refused");
        if is_buried {
            self.count("buried");
            tracing::warn!(record, tries, "a record was refused too often; it is among the dead letters");
        }
        Ok(())
    }

    fn count(&self, outcome: &str) {
        self.metrics.broker_events.with_label_values(&["kafka", outcome]).inc();
    }
}
