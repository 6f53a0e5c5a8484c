//! Taking cancelled messages of no mailing back from the lanes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::model::Item;
use super::shared::Shared;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::lifecycle::Shutdown;
use crate::messages::repo::cancellation;

/// How often a recall was asked for, and how many of these are done.
#[derive(Debug, Default)]
pub struct Recalls {
    asked: AtomicU64,
    done: Mutex<u64>,
}

/// Recalls what other nodes were asked to cancel, until the shutdown.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    while !shutdown.is_fired() {
        let recalled = async {
            shared.recall().await?;
            // looked at before writing: usually there is nothing
            if shared.db.read(cancellation::any).await? {
                shared.db.write(cancellation::forget_ended).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = recalled.await {
            tracing::error!(%error, "cancelled messages could not be taken back; trying again");
        }
        // the poll is the guarantee
        shutdown.rest(&shared.withdrawn, shared.settings.poll).await;
    }
}

impl Shared {
    /// Takes back what waits in the lanes of this node and is to be cancelled, and says of the rest whether an attempt is in
    /// flight. Those who ask at once share a look.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn recall(&self) -> Result<()> {
        let turn = self.recalls.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.recalls.done.lock().await;
        if *done < turn {
            // all that was noted by now is seen
            let asked = self.recalls.asked.load(Ordering::Acquire);
            self.recall_once().await?;
            *done = asked;
        }
        Ok(())
    }

    async fn recall_once(&self) -> Result<()> {
        // a page that is being claimed comes into its lane first
        let adopting = self.adopting.lock().await;
        let asked = self.db.read(cancellation::asked).await?;
        if asked.is_empty() {
            return Ok(());
        }
        let (mut taken, mut in_flight) = (Vec::new(), Vec::new());
        for lanes in self.lanes.values() {
            let (items, flying) = lanes.withdraw(&asked);
            taken.extend(items);
            in_flight.extend(flying);
        }
        drop(adopting);
        let mut left: HashSet<MessageId> = asked.into_keys().collect();
        for item in &taken {
            left.remove(&item.id);
        }
        self.cancel(taken).await;
        if !left.is_empty() {
            let node = self.pages.node();
            self.db.write(move |c| cancellation::answer(c, node, &left, &in_flight)).await?;
        }
        Ok(())
    }

    /// Records that messages which were not tried are cancelled.
    pub async fn cancel(&self, items: Vec<Item>) {
        let now = self.now();
        for item in items {
            self.record(item.cancel(now)).await;
        }
    }
}
