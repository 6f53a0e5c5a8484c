//! The dispatcher of a channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::circuit_breaker::CircuitBreaker;
use super::lanes::Lanes;
use super::leases::NodeLease;
use super::pause_switch::PauseSwitch;
use super::queues::ChannelQueue;
use super::rate_limiter::{RateLimiter, Reserve, SharedSlots, Slots};
use super::repo::rate;
use super::sender::Sender;
use crate::channels::MAX_UNRECORDED;
use crate::clock::Clock;
use crate::db::{AnyConnection, Db};
use crate::kinds::ChannelKind;
use crate::lifecycle::Shutdown;
use crate::metrics::ChannelMetrics;

/// The time between two checks of a dispatcher without a node lease.
const LEASE_POLL: Duration = Duration::from_millis(100);

/// The parts of the engine that a dispatcher uses.
pub struct DispatcherParts {
    /// The channel's lanes and circuit breaker.
    pub queue: ChannelQueue,
    /// The pause switch.
    pub pause_switch: Arc<PauseSwitch>,
    /// The node lease.
    pub node_lease: Arc<NodeLease>,
    /// The clock.
    pub clock: Clock,
    /// The channel's metrics.
    pub metrics: ChannelMetrics,
    /// The channel's rate limiter.
    pub pacer: RateLimiter,
    /// The time that attempts in flight get to end at a shutdown.
    pub patience: Duration,
}

/// Takes messages from the lanes of one channel, one at a time, at its rate, and sends up to `concurrency` at once.
///
/// One task waits for the rate instead of every worker, and takes a message only when it can be sent, so that an urgent
/// message overtakes all messages that are not in flight yet.
pub struct Dispatcher {
    lanes: Arc<Lanes>,
    breaker: Arc<CircuitBreaker>,
    pause_switch: Arc<PauseSwitch>,
    node_lease: Arc<NodeLease>,
    clock: Clock,
    metrics: ChannelMetrics,
    sender: Arc<Sender>,
    slots: Arc<Semaphore>,
    /// Permits that an attempt holds until its outcome is recorded, for a peer that does not drop repeats: they bound
    /// the messages that a crash may repeat.
    places: Option<Arc<Semaphore>>,
    concurrency: u32,
    pacer: RateLimiter,
    /// The time that attempts in flight get to end at a shutdown.
    patience: Duration,
}

impl Dispatcher {
    /// Creates the dispatcher of a channel, which may have `concurrency` attempts in flight.
    pub fn new(parts: DispatcherParts, sender: Sender, concurrency: usize) -> Self {
        let DispatcherParts { queue, pause_switch, node_lease, clock, metrics, pacer, patience } = parts;
        let places =
            (!sender.drops_repeats()).then(|| Arc::new(Semaphore::new(concurrency + MAX_UNRECORDED)));
        Self {
            lanes: queue.lanes,
            breaker: queue.breaker,
            pause_switch,
            node_lease,
            clock,
            metrics,
            sender: Arc::new(sender),
            slots: Arc::new(Semaphore::new(concurrency)),
            places,
            concurrency: u32::try_from(concurrency).unwrap_or(u32::MAX),
            pacer,
            patience,
        }
    }

    /// Runs until the shutdown, then waits for the attempts in flight, for as long as the settings allow.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                () = self.next() => {}
            }
        }
        let all = self.slots.acquire_many(self.concurrency);
        if tokio::time::timeout(self.patience, all).await.is_err() {
            let late = self.concurrency as usize - self.slots.available_permits();
            tracing::warn!(
                in_flight = late,
                "attempts did not end in time; their messages are sent again later"
            );
        }
    }

    /// Waits until a message can be sent, and sends it. If it is dropped at an await, every message stays in its lane.
    async fn next(&mut self) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return;
        };
        let place = match &self.places {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        self.lanes.wait().await;
        self.pause_switch.opened().await;
        self.breaker.wait().await;
        let ready = Instant::now();
        self.pacer.wait().await;
        self.metrics.paced(ready.elapsed());
        // checked last: at a low rate the slot may come long after the node lease ended
        while !self.node_lease.is_held(self.clock.now()) {
            tokio::time::sleep(LEASE_POLL).await;
        }
        if self.pause_switch.is_shut() {
            return;
        }
        let Some(pass) = self.breaker.enter() else { return };
        let Some(item) = self.lanes.take() else { return };
        let sender = Arc::clone(&self.sender);
        tokio::spawn(async move {
            sender.process(item, pass, place).await;
            // released only when the recorder has the outcome, so that a slow database slows the sending down
            drop(slot);
        });
    }
}

/// Returns the rate limiter of a channel, which the nodes share if there may be several.
pub fn rate_limiter(db: &Db, channel: ChannelKind, rate: Option<f64>) -> RateLimiter {
    match rate {
        Some(rate) if !db.is_single_node() => {
            RateLimiter::Together(SharedSlots::new(rate, reserve(db, channel)))
        }
        rate => RateLimiter::Alone(Slots::new(rate)),
    }
}

/// Returns the function that reserves this node's slots of a channel's rate.
fn reserve(db: &Db, channel: ChannelKind) -> Reserve {
    let db = db.clone();
    Arc::new(move |span| {
        let db = db.clone();
        let take = move |c: &mut AnyConnection| {
            let delay = rate::reserve(c, channel.as_str(), span)?;
            Ok(tokio::time::Instant::now() + delay)
        };
        Box::pin(async move { db.write(take).await })
    })
}
