//! The registration of this node, and its heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::feeder_signal::FeederSignal;
use super::leases::{HeldLeases, NodeLease};
use super::queues::Queues;
use super::repo::node;
use crate::clock::Clock;
use crate::db::types::NodeId;
use crate::db::{Db, Workload};
use crate::error::Result;
use crate::failpoint;
use crate::lifecycle::Shutdown;

/// Keeps this node registered.
pub struct NodeHeartbeat {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) node_lease: Arc<NodeLease>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) queues: Arc<Queues>,
    pub(super) feeder: Arc<FeederSignal>,
    /// The time of the last successful heartbeat.
    pub(super) beat_at: Arc<AtomicI64>,
}

impl NodeHeartbeat {
    /// Registers this node under this id.
    ///
    /// # Errors
    /// Database errors.
    pub async fn register(&self, id: NodeId) -> Result<()> {
        let name = format!("pid {}", std::process::id());
        let now = self.clock.now();
        self.db.write(move |c| node::register(c, id, &name, now)).await?;
        failpoint::reach("register-after-commit");
        if self.db.is_single_node() {
            self.node_lease.hold_forever()
        } else {
            self.node_lease.renew(now)
        }
        Ok(())
    }

    /// Writes this node's heartbeat, five times per node lease.
    pub async fn run(self, shutdown: Shutdown) {
        let (lease, single) = (self.node_lease.length(), self.db.is_single_node());
        // a heartbeat without a response must not delay the next one
        let db = self.db.doing(Workload::Request);
        while !shutdown.is_fired() {
            let (id, now) = (self.leases.node(), self.clock.now());
            match db.write(move |c| node::heartbeat(c, id, lease)).await {
                Ok(true) => {
                    if !single {
                        self.node_lease.renew(now);
                    }
                    self.beat_at.store(now.micros(), Ordering::Release);
                }
                Ok(false) => self.register_again().await,
                Err(error) => {
                    tracing::error!(%error, "heartbeat failed; sending stops when the node lease ends")
                }
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(lease / 5) => {}
            }
        }
    }

    /// Continues under a new node id after the other nodes declared this one dead: they own its leases.
    async fn register_again(&self) {
        tracing::warn!(
            "this node was declared dead; its leases were dropped, and it continues under a new id"
        );
        let id = NodeId::new();
        self.leases.start_anew(id);
        self.queues.all().for_each(|(_, lanes)| drop(lanes.drain_all()));
        if let Err(error) = self.register(id).await {
            tracing::error!(%error, "node could not be registered again; trying again");
        }
        self.feeder.mailing_changed();
    }
}
