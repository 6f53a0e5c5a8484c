//! Polls the open mailings while they have subscribers, and publishes their changes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::publisher::{Live, UNOBSERVED};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{MailingId, Timestamp};
use crate::error::Result;
use crate::lifecycle::Shutdown;
use crate::mailings::model::MailingProgress;
use crate::mailings::repo;

/// The time between two polls: a subscriber gets at most two events a second of a mailing.
const PAUSE: Duration = Duration::from_millis(500);
/// The margin before the last poll: a mailing with an older id, within this margin, may not have been visible to that
/// poll, because its commit took as long, or the clock of its node is behind.
const MARGIN: Duration = Duration::from_secs(10);

/// Publishes changes of mailings, whichever node sends them. It reads the database only while mailings have
/// subscribers.
pub struct MailingObserver {
    db: Db,
    clock: Clock,
    live: Live,
    /// The state published last, of open mailings and of mailings created just before the last poll.
    known: BTreeMap<MailingId, MailingProgress>,
    looked_at: Timestamp,
}

impl MailingObserver {
    /// Creates an observer that publishes to `live`.
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
                tracing::error!(%error, "subscribed mailings could not be read; trying again");
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Polls once. The first poll after a long time only records the state, because every subscriber is newer.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&mut self) -> Result<()> {
        // twice the time that subscribers rely on, because a subscriber may have connected just in time
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

    /// Reads the open mailings, those that were open at the last poll, and those created since: a mailing may start and
    /// finish between two polls.
    async fn read(&mut self) -> Result<Vec<MailingProgress>> {
        let now = self.clock.now();
        let since = made_since(self.looked_at);
        let open: Vec<MailingId> = self.known.values().filter(|p| !p.settled).map(|p| p.mailing_id).collect();
        let found = self.db.read(move |c| repo::progress(c, since, &open)).await?;
        self.looked_at = now;
        Ok(found)
    }

    /// Stores the state of a mailing. Returns true if it changed.
    fn note(&mut self, progress: MailingProgress) -> bool {
        self.known.insert(progress.mailing_id, progress) != Some(progress)
    }
}

/// Returns the smallest id of a mailing that a poll at this time may not have seen.
fn made_since(looked_at: Timestamp) -> MailingId {
    let millis = u128::try_from(looked_at.minus(MARGIN).micros() / 1000).unwrap_or_default();
    MailingId(uuid::Uuid::from_u128(millis << 80))
}
