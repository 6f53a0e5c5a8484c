//! The leases that this node holds, and its node lease.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::feeder_signal::FeederSignal;
use super::sync::{Mutex, MutexGuard};
use crate::db::types::{LeaseId, MailingId, NodeId, Timestamp};

/// A lease that this node holds.
#[derive(Debug)]
pub struct HeldLease {
    /// The lease's id.
    pub id: LeaseId,
    /// The node id under which it is held: the fence.
    pub node: NodeId,
    /// The mailing of its messages.
    pub mailing: Option<MailingId>,
    tally: Mutex<LeaseCounts>,
    lost: AtomicBool,
}

#[derive(Debug)]
struct LeaseCounts {
    /// Members without a recorded outcome.
    open: usize,
    /// The open members that were returned without an attempt.
    returned: usize,
}

impl HeldLease {
    /// Creates a lease with this number of members without an outcome.
    pub fn new(id: LeaseId, node: NodeId, mailing: Option<MailingId>, open: usize) -> Self {
        Self {
            id,
            node,
            mailing,
            tally: Mutex::new(LeaseCounts { open, returned: 0 }),
            lost: AtomicBool::new(false),
        }
    }

    /// Marks the lease as lost: another node may hold it, so none of its messages may be sent any more.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Returns true if another node may hold the lease.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Counts `count` recorded outcomes, and returns the state of the lease.
    pub fn recorded(&self, count: usize) -> LeaseState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.open = tally.open.saturating_sub(count);
        tally.state()
    }

    /// Counts `count` returned members, and returns the state of the lease.
    pub fn returned(&self, count: usize) -> LeaseState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.returned += count;
        tally.state()
    }
}

/// The state of a lease on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Some members are in a lane or in flight.
    Busy,
    /// All members without an outcome were returned, so the lease can be released.
    Idle,
    /// Every member has its outcome.
    Done,
}

impl LeaseCounts {
    fn state(&self) -> LeaseState {
        match (self.open, self.returned) {
            (0, _) => LeaseState::Done,
            (open, returned) if open == returned => LeaseState::Idle,
            _ => LeaseState::Busy,
        }
    }
}

#[derive(Debug)]
struct LeaseTable {
    node: NodeId,
    leases: HashMap<LeaseId, Arc<HeldLease>>,
    idle: Vec<LeaseId>,
}

/// The leases that this node holds, and the node id under which it holds them.
#[derive(Debug)]
pub struct HeldLeases {
    table: Mutex<LeaseTable>,
    /// Locked from storing leases until they are in memory.
    adopting: tokio::sync::Mutex<()>,
    node_lease: Arc<NodeLease>,
    feeder: Arc<FeederSignal>,
}

impl HeldLeases {
    /// Creates it without leases, under this node id. The feeder is woken for leases to release.
    pub fn new(node: NodeId, node_lease: Arc<NodeLease>, feeder: Arc<FeederSignal>) -> Self {
        let table = LeaseTable { node, leases: HashMap::new(), idle: Vec::new() };
        Self { table: Mutex::new(table), adopting: tokio::sync::Mutex::new(()), node_lease, feeder }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if this node may take leases at `now`.
    pub fn may_take(&self, now: Timestamp) -> bool {
        self.node_lease.is_held(now)
    }

    /// Locks the leases from before they are stored until they are in memory: meanwhile they look like leases without
    /// an owner, and their messages are in no lane.
    pub async fn adopting(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.adopting.lock().await
    }

    /// Returns the present node id.
    pub fn node(&self) -> NodeId {
        self.lock().node
    }

    /// Removes a lease that is done, released or lost.
    pub fn forget(&self, id: LeaseId) {
        self.lock().leases.remove(&id);
    }

    /// Adds a stored lease and calls `push`, unless the node was declared dead meanwhile: then the node that takes the
    /// lease over sends its messages.
    pub fn admit(&self, lease: &Arc<HeldLease>, push: impl FnOnce()) {
        let mut holdings = self.lock();
        if lease.node == holdings.node {
            holdings.leases.insert(lease.id, Arc::clone(lease));
            push();
        }
    }

    /// Returns the leases in memory, which must not be taken over.
    pub fn held(&self) -> Vec<LeaseId> {
        self.lock().leases.keys().copied().collect()
    }

    /// Returns true if this node holds a lease of this mailing.
    pub fn holds(&self, mailing: MailingId) -> bool {
        self.lock().leases.values().any(|lease| lease.mailing == Some(mailing))
    }

    /// Returns a message of this lease without an attempt. The feeder releases the lease when none is left in hand.
    pub fn give_back(&self, lease: &HeldLease) {
        if lease.returned(1) == LeaseState::Idle {
            self.set_idle(lease.id);
            self.feeder.wake();
        }
    }

    /// Marks a lease as idle, so that it is released.
    pub fn set_idle(&self, id: LeaseId) {
        self.lock().idle.push(id);
    }

    /// Takes the leases to release.
    pub fn take_idle(&self) -> Vec<LeaseId> {
        std::mem::take(&mut self.lock().idle)
    }

    /// Marks all leases as lost, because the node was declared dead, and continues under another node id.
    pub fn start_anew(&self, node: NodeId) {
        let mut holdings = self.lock();
        holdings.leases.values().for_each(|lease| lease.lose());
        *holdings = LeaseTable { node, leases: HashMap::new(), idle: Vec::new() };
    }
}

/// The node lease: the time until which this node may send, which each heartbeat extends.
#[derive(Debug)]
pub struct NodeLease {
    until: AtomicI64,
    length: Duration,
}

impl NodeLease {
    /// Creates a node lease of this length that is not held yet.
    pub fn new(length: Duration) -> Self {
        Self { until: AtomicI64::new(0), length }
    }

    /// Extends it after a successful heartbeat that was sent at `at`. A fifth of the length is reserved for attempts in
    /// flight at its end.
    pub fn renew(&self, at: Timestamp) {
        self.until.store(at.plus(self.length.mul_f64(0.8)).micros(), Ordering::Release);
    }

    /// Makes it endless, because no other node can take leases over.
    pub fn hold_forever(&self) {
        self.until.store(i64::MAX, Ordering::Release);
    }

    /// Returns true if this node may send at `now`.
    pub fn is_held(&self, now: Timestamp) -> bool {
        now.micros() < self.until.load(Ordering::Acquire)
    }

    /// Returns its length.
    pub fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// For any order of outcomes and returns: the lease is done exactly when all outcomes are recorded, and idle
        /// exactly when no member is in a lane or in flight.
        #[test]
        fn a_lease_is_idle_only_when_no_member_is_in_hand(steps in proptest::collection::vec(any::<bool>(), 1..40)) {
            let lease = HeldLease::new(LeaseId::new(), NodeId::new(), None, steps.len());
            let (mut recorded, mut returned) = (0, 0);
            for is_outcome in &steps {
                let state = if *is_outcome {
                    recorded += 1;
                    lease.recorded(1)
                } else {
                    returned += 1;
                    lease.returned(1)
                };
                let in_hand = steps.len() - recorded - returned;
                let expected = match (recorded == steps.len(), in_hand) {
                    (true, _) => LeaseState::Done,
                    (_, 0) => LeaseState::Idle,
                    _ => LeaseState::Busy,
                };
                prop_assert_eq!(state, expected);
            }
        }
    }
}
