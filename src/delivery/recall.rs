//! Recalls cancelled standalone messages from the lanes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::lifecycle::Shutdown;
use crate::messages::repo::cancellation;

/// Recalls messages that were cancelled at other nodes, until the shutdown.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    while !shutdown.is_fired() {
        let recalled = async {
            shared.recall().await?;
            // read before writing: usually the table is empty
            if shared.db.read(cancellation::any).await? {
                shared.db.write(cancellation::forget_ended).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = recalled.await {
            tracing::error!(%error, "cancelled messages could not be recalled; trying again");
        }
        // the poll is the guarantee
        shutdown.rest(&shared.withdrawn, shared.settings.poll).await;
    }
}

impl Shared {
    /// Cancels messages that wait in this node's lanes, and acknowledges the other requests, with whether an attempt is
    /// in flight. Concurrent calls share one read of the database.
    ///
    /// # Errors
    /// Database errors.
    pub async fn recall(&self) -> Result<()> {
        let turn = self.recalls.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.recalls.done.lock().await;
        if *done < turn {
            // this read covers all requests so far
            let asked = self.recalls.asked.load(Ordering::Acquire);
            self.recall_once().await?;
            *done = asked;
        }
        Ok(())
    }

    async fn recall_once(&self) -> Result<()> {
        // waits until a lease that is being claimed is in its lane
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
            let node = self.leases.node();
            self.db.write(move |c| cancellation::answer(c, node, &left, &in_flight)).await?;
        }
        Ok(())
    }
}
