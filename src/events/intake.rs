//! The intake of events: those that come while one transaction is being committed share the next one.

use std::sync::Arc;

use super::model::Accepted;
use super::refused::{Record, Refusal};
use super::repo::{self, EventRow, Handed, Stored};
use crate::broker::Step;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::gather::{self, Entrance, Gather, gathering};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{Answer, Claim};
use crate::messages::repo::MessageRow;
use crate::notifications::intake::Announcer;
use crate::notifications::repo::NotificationRow;

/// What an event makes.
#[derive(Debug, Clone)]
pub struct NewRows {
    /// The event.
    pub event: EventRow,
    /// Its messages.
    pub rows: Vec<(MessageRow, NotificationRow)>,
}

impl NewRows {
    /// The event as it is taken when it is stored.
    ///
    /// # Errors
    /// For rows that this program did not make.
    pub fn accepted(&self) -> Result<Accepted> {
        let EventRow { id, received_at, skipped, .. } = &self.event;
        let skipped = repo::skipped_of(skipped.as_deref())?;
        Ok(Accepted { id: *id, received_at: *received_at, skipped, is_known: false })
    }
}

/// Makes the answer to events that were handed in together, from the result of each.
pub type Answering = Arc<dyn Fn(&[Stored]) -> Result<Answer> + Send + Sync>;

/// Events that are handed in together.
pub struct Order {
    /// The events.
    pub events: Vec<NewRows>,
    /// The key that their request came with, and its answer if all of them are new.
    pub claim: Option<Claim>,
    /// Makes the answer that is kept under the key otherwise; an error of the input keeps none.
    pub answer: Answering,
    /// The records that they were read from, if they come from a partition of a broker.
    pub source: Option<SourceRecords>,
}

/// The records of one partition that an order was made of.
pub struct SourceRecords {
    /// The move of the partition's position. If it fails, nothing of the order is stored.
    pub step: Step,
    /// The record of each event, in the order of the events.
    pub records: Vec<Record>,
    /// Records that are not events.
    pub refused: Vec<Refusal>,
}

/// Where events are handed in; cloning it is cheap. The intake ends when the last clone is gone.
#[derive(Clone)]
pub struct Intake(Entrance<Events>);

/// The task behind it.
pub type Worker = gather::Worker<Events>;

/// How events are stored.
pub struct Events {
    db: Db,
    clock: Clock,
    announcer: Announcer,
}

impl Intake {
    /// An intake and the task that has to be run for it.
    pub fn new(db: Db, clock: Clock, announcer: Announcer) -> (Self, Worker) {
        let (entrance, worker) = gathering(Events { db: db.clone(), clock, announcer }, &db);
        (Self(entrance), worker)
    }

    /// Stores events that came together; answers after the commit, what became of each.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn store(&self, order: Arc<Order>) -> Result<Handed> {
        self.0.write(order).await
    }
}

impl Gather for Events {
    type Item = Arc<Order>;
    type Done = Handed;
    const LARGEST_GROUP: usize = 2000;

    fn size(order: &Self::Item) -> usize {
        let refused = order.source.as_ref().map_or(0, |source| 1 + source.refused.len());
        refused + order.events.iter().map(|event| 1 + event.rows.len()).sum::<usize>()
    }

    // the second of two requests with one key finds the first's answer; of two events with one id the statement takes the
    // first
    fn key(order: &Self::Item) -> Option<&str> {
        order.claim.as_ref().map(|claim| claim.key.key.as_str())
    }

    async fn commit(&self, items: Arc<[Self::Item]>) -> Result<Vec<Self::Done>> {
        let now = self.clock.now();
        self.db.write(move |c| repo::take(c, &items, now)).await
    }

    fn committed(&self, items: &[Self::Item], results: &[Result<Self::Done>]) {
        failpoint::reach("event-after-commit");
        let stored = items.iter().zip(results).filter_map(|(order, result)| match result {
            Ok(Handed::Each(stored)) => Some((order, stored)),
            Ok(Handed::Refused(_) | Handed::Fenced) | Err(_) => None,
        });
        let new = stored.flat_map(|(order, stored)| order.events.iter().zip(stored));
        let new = new.filter(|(_, stored)| **stored == Stored::New);
        self.announcer.announce(new.flat_map(|(event, _)| &event.rows));
    }
}
