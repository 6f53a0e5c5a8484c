//! The state that the engine's tasks share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::active_mailing::ActiveMailing;
use super::announce::Announcer;
use super::circuit_breaker::CircuitBreaker;
use super::lanes::Lanes;
use super::leases::{ActiveMailings, HeldLease, HeldLeases, LeaseState, NodeLease};
use super::model::{Outcome, QueuedMessage};
use super::pause_switch::PauseSwitch;
use super::settings::EngineSettings;
use crate::clock::Clock;
use crate::db::types::{MailingId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind, Priority};
use crate::live::Live;
use crate::mailings::repo;
use crate::metrics::Metrics;
use crate::templates::RenderPool;

/// The number of recalls that were requested, and the number of those that are done.
#[derive(Debug, Default)]
pub struct Recalls {
    pub(super) asked: AtomicU64,
    pub(super) done: tokio::sync::Mutex<u64>,
}

/// The state that the engine's tasks share.
pub struct Shared {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Metrics,
    /// Publishes status changes of notifications.
    pub live: Live,
    /// Sizes and times.
    pub settings: EngineSettings,
    /// The threads that render mailings' texts.
    pub renderers: RenderPool,
    /// The lanes of each channel.
    pub lanes: BTreeMap<ChannelKind, Arc<Lanes>>,
    /// The circuit breaker of each channel.
    pub gates: BTreeMap<ChannelKind, Arc<CircuitBreaker>>,
    /// The active mailings.
    pub runs: ActiveMailings,
    /// The leases that this node holds.
    pub leases: HeldLeases,
    /// Locked from storing leases until they are in memory.
    pub adopting: tokio::sync::Mutex<()>,
    /// The node lease.
    pub node_lease: NodeLease,
    /// The pause switch.
    pub valve: PauseSwitch,
    /// The number of live nodes, including this one.
    pub nodes: AtomicU32,
    /// Wakes the feeder.
    pub feed: Arc<Notify>,
    /// Wakes the claimer.
    pub claim: Notify,
    /// Wakes the recaller: another node announced cancelled messages that may be in a lane here.
    pub withdrawn: Notify,
    /// The recalls that were requested.
    pub recalls: Recalls,
    /// True if a mailing changed, so that the feeder reads all of them.
    pub changed: AtomicBool,
    /// True if a lease was done, so that a mailing may be finished.
    pub lease_done: AtomicBool,
    /// Notifies the other nodes.
    pub announcer: Arc<Announcer>,
    /// The channel to the recorder.
    pub outcomes: mpsc::Sender<Outcome>,
}

impl Shared {
    /// Wakes the feeder after a mailing changed in the database.
    pub fn mailing_changed(&self) {
        self.changed.store(true, Ordering::Release);
        self.feed.notify_one();
    }

    /// Wakes the feeder and the claimer after a pause or a resume: they empty or fill the lanes.
    pub fn valve_was_turned(&self) {
        self.feed.notify_one();
        self.claim.notify_one();
    }

    /// Wakes the feeder, because a mailing may be finished.
    pub fn finalize_soon(&self) {
        self.lease_done.store(true, Ordering::Release);
        self.feed.notify_one();
    }

    /// Sends an outcome to the recorder, and waits while its channel is full.
    pub async fn record(&self, outcome: Outcome) {
        self.metrics.unrecorded.inc();
        if self.outcomes.send(outcome).await.is_err() {
            // the recorder ends last, so this happens only at a forced stop; the leases are taken over at the next
            // start
            tracing::error!("recorder stopped before it received an outcome");
        }
    }

    /// Records messages without an attempt as cancelled.
    pub async fn cancel(&self, items: Vec<QueuedMessage>) {
        let now = self.now();
        for item in items {
            self.record(item.cancel(now)).await;
        }
    }

    /// Puts the messages of a stored lease into their lane.
    pub fn push(
        &self,
        lease: &Arc<HeldLease>,
        (channel, priority): (ChannelKind, Priority),
        items: Vec<QueuedMessage>,
    ) {
        if let Some(lanes) = self.lanes.get(&channel) {
            self.leases.admit(lease, || lanes.push(priority, lease.mailing, items));
        }
    }

    /// Puts a message that was taken back into its lane, because it cannot be sent now. A message that was cancelled
    /// meanwhile ends instead.
    pub async fn put_back(&self, item: QueuedMessage) {
        let lanes = self.lanes.get(&item.origin.channel());
        let withdrawn =
            lanes.and_then(|lanes| lanes.put_back(item.origin.priority(), item.lease.mailing, item));
        self.cancel(withdrawn.into_iter().collect()).await;
    }

    /// Removes a message that was taken from its lane, after its outcome is on disk, or if it will have no outcome
    /// here.
    pub fn done(&self, item: &QueuedMessage) {
        if let Some(lanes) = self.lanes.get(&item.origin.channel()) {
            lanes.done(item);
        }
    }

    /// Returns the time for which this channel's messages must not be held in memory; zero if its lanes are to be
    /// filled.
    pub fn rest(&self, channel: ChannelKind) -> Duration {
        if self.valve.is_shut() {
            return self.settings.poll;
        }
        self.gates.get(&channel).map_or(Duration::ZERO, |gate| gate.rest())
    }

    /// Returns messages without an attempt to their leases.
    pub fn give_back(&self, items: Vec<QueuedMessage>) {
        for item in items {
            if item.lease.returned(1) == LeaseState::Idle {
                self.leases.set_idle(item.lease.id);
                self.feed.notify_one();
            }
        }
    }

    /// Returns the active mailing, which is read from the database if it is new here.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run(&self, id: MailingId) -> Result<Arc<ActiveMailing>> {
        match self.runs.get(id) {
            Some(run) => Ok(run),
            None => {
                let read = move |c: &mut AnyConnection| Ok((repo::get(c, id)?, repo::number(c, id)?));
                let (mut mailing, number) = self.db.read(read).await?;
                mailing.rate_per_second = self.part_of(mailing.rate_per_second);
                Ok(self.runs.add(ActiveMailing::new(mailing, number)))
            }
        }
    }

    /// Returns this node's part of a mailing's own rate: all live nodes have an equal part.
    pub fn part_of(&self, rate: Option<f64>) -> Option<f64> {
        rate.map(|rate| rate / f64::from(self.nodes.load(Ordering::Acquire).max(1)))
    }

    /// Counts a message that became a dead letter.
    pub fn count_dead_letter(&self, channel: ChannelKind, class: ErrorClass) {
        self.metrics.dead_letters.with_label_values(&[channel.as_str(), class.as_str()]).inc();
    }

    /// Counts reports of requests' results, which are messages that enter without a call of the API.
    pub fn count_reports(&self, reports: usize) {
        self.metrics.entered(ChannelKind::Request, reports);
    }

    /// Counts outcomes.
    pub fn count(&self, channel: ChannelKind, kind: OutcomeKind, messages: usize) {
        let counter = match kind {
            OutcomeKind::Delivered => &self.metrics.sent,
            OutcomeKind::Retry => &self.metrics.retries,
            OutcomeKind::Failed => &self.metrics.failed,
            OutcomeKind::Expired => &self.metrics.expired,
            OutcomeKind::Cancelled => &self.metrics.cancelled,
        };
        counter.with_label_values(&[channel.as_str()]).inc_by(u64::try_from(messages).unwrap_or_default());
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
