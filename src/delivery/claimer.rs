//! The claimer: takes due messages in bulk, and sleeps until the next is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Item, OpenPage};
use super::repo::claim::{self, Claimed, Lot};
use super::shared::Shared;
use crate::db::types::ClientId;
use crate::error::Result;
use crate::failpoint;
use crate::kinds::Priority;
use crate::lifecycle::Shutdown;
use crate::mailings::recipient::Recipient;

/// Claims what is due.
pub struct Claimer {
    shared: Arc<Shared>,
}

impl Claimer {
    /// For this engine.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = match self.run_once().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "due messages could not be claimed; trying again");
                    self.shared.settings.poll
                }
            };
            tokio::select! {
                () = shutdown.wait() => {}
                () = self.shared.claim.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Claims as much as the lanes take; answers how long nothing will be due.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&self) -> Result<Duration> {
        let mut pause = self.shared.settings.poll;
        for (channel, lanes) in &self.shared.lanes {
            let channel = *channel;
            let rest = self.shared.rest(channel);
            if !rest.is_zero() {
                pause = pause.min(rest);
                continue;
            }
            // looked at before claiming, which is a write: usually nothing is due
            let Some(next) = self.shared.db.read(move |c| claim::next_due(c, channel)).await? else {
                continue;
            };
            let now = self.shared.now();
            if next > now {
                pause = pause.min(next.since(now));
                continue;
            }
            for priority in Priority::ALL {
                while lanes.has_room(*priority) && self.claim(channel, *priority).await? {}
            }
            // what there was no room for is looked for again soon
            pause = pause.min(Duration::from_millis(20));
        }
        Ok(pause)
    }

    /// Claims one lot; answers whether there may be more.
    async fn claim(&self, channel: crate::kinds::ChannelKind, priority: Priority) -> Result<bool> {
        let lot =
            Lot { node: self.shared.pages.node(), channel, priority, limit: self.shared.settings.page_size };
        if !self.shared.lease.is_held(self.shared.now()) {
            return Ok(false);
        }
        let now = self.shared.now();
        // until the pages are in hand, the feeder must not take them for forgotten ones
        let _adopting = self.shared.adopting.lock().await;
        let claimed = self.shared.db.write(move |c| claim::claim(c, lot, now)).await?;
        let count: usize = claimed.iter().map(|page| page.rows.len()).sum();
        for page in claimed {
            failpoint::reach("claim-after-commit");
            self.admit(page).await?;
        }
        Ok(count == lot.limit)
    }

    async fn admit(&self, claimed: Claimed) -> Result<()> {
        let Claimed { page, rows, recipients } = claimed;
        let Some(mailing) = page.mailing else {
            return Ok(());
        };
        let run = self.shared.run(mailing).await?;
        let open = Arc::new(OpenPage::new(page.id, page.node, page.mailing, rows.len()));
        let mut recipients: HashMap<ClientId, Recipient> =
            recipients.into_iter().map(|r| (r.client_id, r)).collect();
        let items = rows.into_iter().map(|row| {
            let recipient = row.client_id.and_then(|id| recipients.remove(&id));
            Item::of_row(row, Arc::clone(&open), Arc::clone(&run), recipient)
        });
        let items = items.collect();
        self.shared.push(&open, &run, items);
        Ok(())
    }
}
