//! The intake of events: a group commit of the events that arrive during the previous commit.

use std::sync::Arc;

use super::order::{EventOrder, EventStoreResult, IntakeResult};
use super::repo;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::group_commit::{self, GroupCommit, Submitter, group_commit};
use crate::error::Result;
use crate::failpoint;
use crate::notifications::intake::NotificationPublisher;

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
