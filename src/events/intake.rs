//! The intake of events: a group commit of the events that arrive during the previous commit.

use std::sync::Arc;

use super::model::Accepted;
use super::refused::{Refusal, SourceRecord};
use super::repo::{self, EventRow, EventStoreResult, IntakeResult};
use crate::broker::Step;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::group_commit::{self, GroupCommit, Submitter, group_commit};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{Claim, IdempotentResponse};
use crate::messages::repo::MessageRow;
use crate::notifications::intake::NotificationPublisher;
use crate::notifications::repo::NotificationRow;

/// The rows of one event.
#[derive(Debug, Clone)]
pub struct NewEventRows {
    /// The event.
    pub event: EventRow,
    /// Its messages.
    pub rows: Vec<(MessageRow, NotificationRow)>,
}

impl NewEventRows {
    /// Returns the result of accepting the event, if it is new.
    ///
    /// # Errors
    /// An internal error for rows that this program did not create.
    pub fn accepted(&self) -> Result<Accepted> {
        let EventRow { id, received_at, skipped, .. } = &self.event;
        let skipped = repo::skipped_of(skipped.as_deref())?;
        Ok(Accepted { id: *id, received_at: *received_at, skipped, is_known: false })
    }
}

/// Makes the response to a request from the results of its events.
pub type BuildEventResponse = Arc<dyn Fn(&[EventStoreResult]) -> Result<IdempotentResponse> + Send + Sync>;

/// The events of one request, or of one read from a broker.
pub struct EventOrder {
    /// The events.
    pub events: Vec<NewEventRows>,
    /// The claim of the request's idempotency key, with the response if all events are new.
    pub claim: Option<Claim>,
    /// Makes the response that is stored under the key if some events are not new. If it returns an error of the input,
    /// no response is stored.
    pub answer: BuildEventResponse,
    /// The records of the events, if they come from a partition of a broker.
    pub source: Option<SourceRecords>,
}

/// The records of one partition.
pub struct SourceRecords {
    /// The move of the partition's position. If it fails, nothing of the order is stored.
    pub step: Step,
    /// The record of each event, in the order of the events.
    pub records: Vec<SourceRecord>,
    /// Records that are not events.
    pub refused: Vec<Refusal>,
}

/// Submits events; cloning it is cheap. The worker ends when the last clone is dropped.
#[derive(Clone)]
pub struct EventIntake(Submitter<EventCommit>);

/// The task that commits the events.
pub type Worker = group_commit::GroupCommitWorker<EventCommit>;

/// Stores events in groups.
pub struct EventCommit {
    db: Db,
    clock: Clock,
    announcer: NotificationPublisher,
}

impl EventIntake {
    /// Creates an intake and the task that must run for it.
    pub fn new(db: Db, clock: Clock, announcer: NotificationPublisher) -> (Self, Worker) {
        let (entrance, worker) = group_commit(EventCommit { db: db.clone(), clock, announcer }, &db);
        (Self(entrance), worker)
    }

    /// Stores the events of one order. Returns their results after the commit.
    ///
    /// # Errors
    /// Database errors.
    pub async fn store(&self, order: Arc<EventOrder>) -> Result<IntakeResult> {
        self.0.write(order).await
    }
}

impl GroupCommit for EventCommit {
    type Item = Arc<EventOrder>;
    type Done = IntakeResult;
    const LARGEST_GROUP: usize = 2000;

    fn size(order: &Self::Item) -> usize {
        let refused = order.source.as_ref().map_or(0, |source| 1 + source.refused.len());
        refused + order.events.iter().map(|event| 1 + event.rows.len()).sum::<usize>()
    }

    // the second of two requests with the same key finds the first's response; of two events with the same id the
    // statement inserts the first
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
            Ok(IntakeResult::Each(stored)) => Some((order, stored)),
            Ok(IntakeResult::Refused(_) | IntakeResult::Fenced) | Err(_) => None,
        });
        let new = stored.flat_map(|(order, stored)| order.events.iter().zip(stored));
        let new = new.filter(|(_, stored)| **stored == EventStoreResult::New);
        self.announcer.announce(new.flat_map(|(event, _)| &event.rows));
    }
}
