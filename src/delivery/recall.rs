//! Taking cancelled messages of no mailing back from the lanes.

use std::collections::HashSet;
use std::sync::Arc;

use super::model::Item;
use super::shared::Shared;
use crate::db::types::MessageId;
use crate::error::Result;
use crate::lifecycle::Shutdown;
use crate::messages::repo::cancellation;

/// Recalls what other nodes were asked to cancel, until the shutdown.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    while !shutdown.is_fired() {
        if let Err(error) = shared.recall().await {
            tracing::error!(%error, "cancelled messages could not be taken back; trying again");
        }
        // the poll is the guarantee
        shutdown.rest(&shared.withdrawn, shared.settings.poll).await;
    }
}

impl Shared {
    /// Takes back what waits in the lanes of this node and is to be cancelled, and says of the rest whether an attempt is in
    /// flight.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn recall(&self) -> Result<()> {
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
        self.db.write(cancellation::forget_ended).await
    }

    /// Records that messages which were not tried are cancelled.
    pub async fn cancel(&self, items: Vec<Item>) {
        let now = self.now();
        for item in items {
            self.record(item.cancel(now)).await;
        }
    }
}
