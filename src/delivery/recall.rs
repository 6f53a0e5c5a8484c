//! Recalls cancelled standalone messages from the lanes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use super::leases::HeldLeases;
use super::outcomes::OutcomeSender;
use super::queues::Queues;
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::MessageId;
use crate::error::Result;
use crate::lifecycle::Shutdown;
use crate::messages::repo::cancellation;

/// The number of recalls that were requested, and the number of those that are done.
#[derive(Debug, Default)]
pub(super) struct Recalls {
    asked: AtomicU64,
    done: Mutex<u64>,
}

/// Recalls cancelled messages from this node's lanes.
pub struct Recaller {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) outcomes: OutcomeSender,
    /// Notified when another node announced cancelled messages that may be in a lane here.
    pub(super) wake: Notify,
    pub(super) poll: Duration,
    pub(super) recalls: Recalls,
}

impl Recaller {
    /// Recalls messages that were cancelled at other nodes, until the shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            if let Err(error) = self.run_once().await {
                tracing::error!(%error, "cancelled messages could not be recalled; trying again");
            }
            // the poll is the guarantee
            shutdown.rest(&self.wake, self.poll).await;
        }
    }

    async fn run_once(&self) -> Result<()> {
        self.recall().await?;
        // read before writing: usually the table is empty
        if self.db.read(cancellation::any).await? {
            self.db.write(cancellation::forget_ended).await?;
        }
        Ok(())
    }

    /// Lets the task recall soon.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

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
        let adopting = self.leases.adopting().await;
        let asked = self.db.read(cancellation::asked).await?;
        if asked.is_empty() {
            return Ok(());
        }
        let (mut taken, mut in_flight) = (Vec::new(), Vec::new());
        for (_, lanes) in self.queues.all() {
            let (items, flying) = lanes.withdraw(&asked);
            taken.extend(items);
            in_flight.extend(flying);
        }
        drop(adopting);
        let mut left: HashSet<MessageId> = asked.into_keys().collect();
        for item in &taken {
            left.remove(&item.id);
        }
        self.outcomes.cancel(taken, self.clock.now()).await;
        if !left.is_empty() {
            let node = self.leases.node();
            self.db.write(move |c| cancellation::answer(c, node, &left, &in_flight)).await?;
        }
        Ok(())
    }
}
