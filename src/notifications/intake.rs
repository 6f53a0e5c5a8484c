//! The intake: requests that come while one transaction is being committed share the next one
//! ([`gather`](crate::db::gather)).

use std::sync::Arc;
use std::time::Duration;

use super::repo::{self, NewRows, NotificationRow, Stored};
use super::usecase::Arrivals;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::gather::{self, Entrance, Gather, gathering};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::live::{Change, Live};
use crate::messages::repo::MessageRow;
use crate::metrics::Metrics;

/// Where requests are handed in; cloning it is cheap. The intake ends when the last clone is gone.
#[derive(Clone)]
pub struct Intake(Entrance<Requests>);

/// The task behind it.
pub type Worker = gather::Worker<Requests>;

/// How requests are stored.
pub struct Requests {
    db: Db,
    clock: Clock,
    announcer: Announcer,
}

impl Intake {
    /// An intake and the task that has to be run for it.
    pub fn new(db: Db, clock: Clock, announcer: Announcer) -> (Self, Worker) {
        let (entrance, worker) = gathering(Requests { db: db.clone(), clock, announcer }, &db);
        (Self(entrance), worker)
    }

    /// Stores what a request makes; answers after the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn store(&self, rows: NewRows) -> Result<Stored> {
        self.0.write(rows).await
    }
}

impl Gather for Requests {
    type Item = NewRows;
    type Done = Stored;
    const LARGEST_GROUP: usize = 2000;

    fn size(request: &NewRows) -> usize {
        request.rows.len()
    }

    // the second of two requests with one key finds the first's answer
    fn key(request: &NewRows) -> Option<&str> {
        request.claim.as_ref().map(|claim| claim.key.key.as_str())
    }

    async fn commit(&self, requests: Arc<[NewRows]>) -> Result<Vec<Stored>> {
        let now = self.clock.now();
        self.db.write(move |c| repo::store(c, &requests, now)).await
    }

    fn committed(&self, requests: &[NewRows], results: &[Result<Stored>]) {
        failpoint::reach("accept-after-commit");
        let stored = requests.iter().zip(results).filter(|(_, result)| matches!(result, Ok(Stored::New)));
        self.announcer.announce(stored.flat_map(|(request, _)| &request.rows));
    }
}

/// Tells of notifications that were stored: those who watch, and the engine.
#[derive(Clone)]
pub struct Announcer {
    clock: Clock,
    metrics: Metrics,
    live: Live,
    arrivals: Arc<dyn Arrivals>,
    look: Duration,
}

impl Announcer {
    /// The engine looks by itself for what is due, at least once in every `look`.
    pub fn new(
        (clock, metrics, live): (Clock, Metrics, Live),
        (arrivals, look): (Arc<dyn Arrivals>, Duration),
    ) -> Self {
        Self { clock, metrics, live, arrivals, look }
    }

    /// These were stored.
    pub fn announce<'r>(&self, stored: impl Iterator<Item = &'r (MessageRow, NotificationRow)>) {
        // what is due only after the engine's next look but one need not wake it: a look costs as much as some requests
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
