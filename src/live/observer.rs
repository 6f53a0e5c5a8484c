//! Looks at the open mailings while somebody watches, and tells what has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Live, UNOBSERVED};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{MailingId, Timestamp};
use crate::error::Result;
use crate::lifecycle::Shutdown;
use crate::mailings::model::Progress;
use crate::mailings::repo;

/// Between two looks: a watcher is told of a mailing twice a second at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How much earlier than the last look a mailing may have been made, by its id, and not have been seen by it: its commit
/// took as long, or the clock of its node is behind.
const MARGIN: Duration = Duration::from_secs(10);

/// Tells what mailings do, whichever node sends them. It reads the database only while somebody watches mailings.
pub struct Observer {
    db: Db,
    clock: Clock,
    live: Live,
    /// What was told last, of mailings that are open and of those made just before the last look.
    known: BTreeMap<MailingId, Progress>,
    looked_at: Timestamp,
}

impl Observer {
    /// Tells it here.
    pub fn new(db: Db, clock: Clock, live: Live) -> Self {
        let looked_at = clock.now();
        Self { db, clock, live, known: BTreeMap::new(), looked_at }
    }

    /// Runs until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        let live = self.live.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = live.mailings_are_watched() => {}
            }
            if let Err(error) = self.run_once().await {
                tracing::error!(%error, "the mailings that are watched could not be read; trying again");
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Looks once. The first look after a long time only notes what there is: nobody who watches has seen less.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&mut self) -> Result<()> {
        // twice as long as a watcher is promised, who may have come just in time
        let is_first = self.live.is_unobserved(UNOBSERVED * 2);
        if is_first {
            self.known.clear();
            self.looked_at = self.clock.now();
        }
        for progress in self.read().await? {
            if self.note(progress) && !is_first {
                self.live.progressed(progress);
            }
        }
        let recent = made_since(self.looked_at);
        self.known.retain(|id, progress| !progress.settled || *id >= recent);
        self.live.looked();
        Ok(())
    }

    /// The open mailings, those that were open at the last look, and those made since: one may begin and end between
    /// two looks.
    async fn read(&mut self) -> Result<Vec<Progress>> {
        let now = self.clock.now();
        let since = made_since(self.looked_at);
        let open: Vec<MailingId> = self.known.values().filter(|p| !p.settled).map(|p| p.mailing_id).collect();
        let found = self.db.read(move |c| repo::progress(c, since, &open)).await?;
        self.looked_at = now;
        Ok(found)
    }

    /// Notes where a mailing is; answers whether that is new.
    fn note(&mut self, progress: Progress) -> bool {
        self.known.insert(progress.mailing_id, progress) != Some(progress)
    }
}

/// The least id of a mailing that a look at this time may not have seen.
fn made_since(looked_at: Timestamp) -> MailingId {
    let millis = u128::try_from(looked_at.minus(MARGIN).micros() / 1000).unwrap_or_default();
    MailingId(uuid::Uuid::from_u128(millis << 80))
}
