//! The intake of events: those that come while one transaction is being committed share the next one.

use std::sync::Arc;

use super::repo::{self, EventRow, Stored};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::gather::{self, Entrance, Gather, gathering};
use crate::error::Result;
use crate::failpoint;
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
    pub async fn store(&self, events: Arc<[NewRows]>) -> Result<Vec<Stored>> {
        self.0.write(events).await
    }
}

impl Gather for Events {
    type Item = Arc<[NewRows]>;
    type Done = Vec<Stored>;
    const LARGEST_GROUP: usize = 2000;

    fn size(events: &Self::Item) -> usize {
        events.iter().map(|event| 1 + event.rows.len()).sum()
    }

    // of two events with one id the statement takes the first
    fn key(_: &Self::Item) -> Option<&str> {
        None
    }

    async fn commit(&self, items: Arc<[Self::Item]>) -> Result<Vec<Self::Done>> {
        let now = self.clock.now();
        let store = move |c: &mut crate::db::AnyConnection| {
            let all: Vec<&NewRows> = items.iter().flat_map(|events| events.iter()).collect();
            let mut stored = repo::store(c, &all, now)?.into_iter();
            Ok(items.iter().map(|events| stored.by_ref().take(events.len()).collect()).collect())
        };
        self.db.write(store).await
    }

    fn committed(&self, items: &[Self::Item], results: &[Result<Self::Done>]) {
        failpoint::reach("event-after-commit");
        let stored =
            items.iter().zip(results).filter_map(|(events, result)| Some((events, result.as_ref().ok()?)));
        let new = stored.flat_map(|(events, stored)| events.iter().zip(stored));
        let new = new.filter(|(_, stored)| **stored == Stored::New);
        self.announcer.announce(new.flat_map(|(event, _)| &event.rows));
    }
}
