//! The intake of notifications: a group commit of the requests that arrive during the previous commit
//! ([`group_commit`](crate::db::group_commit)).

use std::sync::Arc;
use std::time::Duration;

use super::notifier::NewMessageNotifier;
use super::repo::{self, NewNotificationRows, NotificationRow, StoreResult};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::group_commit::{self, GroupCommit, Submitter, group_commit};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::live::{Change, Live};
use crate::messages::repo::MessageRow;
use crate::metrics::Metrics;
use crate::runtime::Runtime;

/// Submits requests; cloning it is cheap. The worker ends when the last clone is dropped.
#[derive(Clone)]
pub struct NotificationIntake(Submitter<NotificationCommit>);

/// The task that commits the requests.
pub type Worker = group_commit::GroupCommitWorker<NotificationCommit>;

/// Stores requests in groups.
pub struct NotificationCommit {
    db: Db,
    clock: Clock,
    announcer: NotificationPublisher,
}

impl NotificationIntake {
    /// Creates an intake and the task that must run for it.
    pub fn new(db: Db, clock: Clock, announcer: NotificationPublisher) -> (Self, Worker) {
        let (entrance, worker) = group_commit(NotificationCommit { db: db.clone(), clock, announcer }, &db);
        (Self(entrance), worker)
    }

    /// Stores the rows of a request, and returns after the commit.
    ///
    /// # Errors
    /// Database errors.
    pub async fn store(&self, rows: NewNotificationRows) -> Result<StoreResult> {
        self.0.write(rows).await
    }
}

impl GroupCommit for NotificationCommit {
    type Item = NewNotificationRows;
    type Done = StoreResult;
    const LARGEST_GROUP: usize = 2000;

    fn size(request: &NewNotificationRows) -> usize {
        request.rows.len()
    }

    // the second of two requests with the same key finds the first's response
    fn key(request: &NewNotificationRows) -> Option<&str> {
        request.claim.as_ref().map(|claim| claim.key.key.as_str())
    }

    async fn commit(&self, requests: Arc<[NewNotificationRows]>) -> Result<Vec<StoreResult>> {
        let now = self.clock.now();
        self.db.write(move |c| repo::store(c, &requests, now)).await
    }

    fn committed(&self, requests: &[NewNotificationRows], results: &[Result<StoreResult>]) {
        failpoint::reach("accept-after-commit");
        let stored =
            requests.iter().zip(results).filter(|(_, result)| matches!(result, Ok(StoreResult::New)));
        self.announcer.announce(stored.flat_map(|(request, _)| &request.rows));
    }
}

/// Publishes stored notifications to the subscribers, and wakes the engine.
#[derive(Clone)]
pub struct NotificationPublisher {
    clock: Clock,
    metrics: Metrics,
    live: Live,
    arrivals: Arc<dyn NewMessageNotifier>,
    look: Duration,
}

impl NotificationPublisher {
    /// Creates an announcer for an engine that polls for due messages at least once every `look`.
    pub fn new(
        Runtime { clock, metrics, live, .. }: Runtime,
        (arrivals, look): (Arc<dyn NewMessageNotifier>, Duration),
    ) -> Self {
        Self { clock, metrics, live, arrivals, look }
    }

    /// Publishes notifications that were stored.
    pub fn announce<'r>(&self, stored: impl Iterator<Item = &'r (MessageRow, NotificationRow)>) {
        // the engine needs no wake-up for messages that are due after its next poll but one: a poll costs as much as
        // several requests
        let soon = self.clock.now().plus(2 * self.look);
        let mut any = false;
        for (message, content) in stored {
            any |= message.due_at.is_none_or(|at| at <= soon);
            let Ok(channel) = ChannelKind::from_code(message.channel) else { continue };
            self.metrics.entered(channel, 1);
            let (status, attempts, at) = (content.status_at_first(message), 0, content.updated_at);
            let change = Change { id: message.id, batch: content.batch_id, channel, status, attempts, at };
            self.live.publish(&change, false);
        }
        if any {
            self.arrivals.arrived();
        }
    }
}
