//! The parts of the engine, which are created once, and from which each task gets those that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::{Notify, mpsc};

use super::active_mailings::ActiveMailings;
use super::admitter::Admitter;
use super::adopter::Adopter;
use super::attempt::Attempter;
use super::circuit_breaker::CircuitBreaker;
use super::claimer::Claimer;
use super::dispatcher::{Dispatcher, DispatcherParts, rate_limiter};
use super::feeder::Feeder;
use super::feeder_signal::FeederSignal;
use super::heartbeat::NodeHeartbeat;
use super::lanes::Lanes;
use super::leases::{HeldLeases, NodeLease};
use super::mean_duration::MeanDuration;
use super::model::Outcome;
use super::outcomes::{OutcomeSender, Unrecorded};
use super::pause_switch::PauseSwitch;
use super::planner::Planner;
use super::preparer::Preparer;
use super::queues::{ChannelQueue, Queues};
use super::recall::{Recaller, Recalls};
use super::recorder::Recorder;
use super::releaser::Releaser;
use super::sender::Sender;
use super::settings::{ChannelSetup, EngineSettings, LaneSetup};
use super::suppress::Suppressor;
use crate::db::types::NodeId;
use crate::runtime::Runtime;
use crate::templates::RenderPool;

/// The parts of the engine. No task holds all of them.
pub struct EngineParts {
    pub(super) runtime: Runtime,
    settings: EngineSettings,
    pub(super) queues: Arc<Queues>,
    pub(super) pause_switch: Arc<PauseSwitch>,
    pub(super) leases: Arc<HeldLeases>,
    node_lease: Arc<NodeLease>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) feeder_signal: Arc<FeederSignal>,
    pub(super) claim: Arc<Notify>,
    pub(super) recaller: Arc<Recaller>,
    pub(super) outcomes: OutcomeSender,
    admitter: Admitter,
    renderers: RenderPool,
}

impl EngineParts {
    /// Creates the parts of a node with these channels, and the channel from which its recorder reads.
    pub fn new(
        runtime: Runtime,
        settings: EngineSettings,
        channels: &[LaneSetup],
        node: NodeId,
        is_paused: bool,
    ) -> (Self, mpsc::Receiver<Outcome>) {
        let Runtime { db, clock, metrics, .. } = &runtime;
        let feeder_signal = Arc::new(FeederSignal::new());
        // the channel holds as many outcomes as one group: both, with the permits of the dispatchers, bound the
        // messages that a crash repeats
        let (outcomes, received) = mpsc::channel(settings.record_batch);
        let outcomes = OutcomeSender::new(outcomes, Unrecorded::new(metrics.unrecorded.clone()));
        let pause_switch = Arc::new(PauseSwitch::new(is_paused, metrics.sending_paused.clone()));
        let queue = |setup: &LaneSetup| {
            let (kind, feed) = (setup.channel, || Arc::clone(feeder_signal.waker()));
            let lanes = Lanes::new(kind, settings.lane_capacity, feed(), metrics).with_rate(setup.rate);
            let breaker = CircuitBreaker::new(kind, setup.breaker_failures, feed(), metrics.clone());
            (kind, ChannelQueue { lanes: Arc::new(lanes), breaker: Arc::new(breaker) })
        };
        let queues: BTreeMap<_, _> = channels.iter().map(queue).collect();
        let queues = Arc::new(Queues::new(queues, Arc::clone(&pause_switch), settings.poll));
        let node_lease = Arc::new(NodeLease::new(settings.lease));
        let leases = HeldLeases::new(node, Arc::clone(&node_lease), Arc::clone(&feeder_signal));
        let leases = Arc::new(leases);
        let admitter = Admitter {
            clock: clock.clone(),
            suppressor: Suppressor::new(settings.quiet_zone, metrics.clone()),
            queues: Arc::clone(&queues),
            leases: Arc::clone(&leases),
            outcomes: outcomes.clone(),
        };
        let recaller = Recaller {
            db: db.clone(),
            clock: clock.clone(),
            queues: Arc::clone(&queues),
            leases: Arc::clone(&leases),
            outcomes: outcomes.clone(),
            wake: Notify::new(),
            poll: settings.poll,
            recalls: Recalls::default(),
        };
        let mailings = Arc::new(ActiveMailings::new(db.clone()));
        let parts = Self {
            runtime,
            settings,
            queues,
            pause_switch,
            leases,
            node_lease,
            mailings,
            feeder_signal,
            claim: Arc::new(Notify::new()),
            recaller: Arc::new(recaller),
            outcomes,
            admitter,
            renderers: RenderPool::default(),
        };
        (parts, received)
    }

    /// Creates the feeder.
    pub fn feeder(&self) -> Feeder {
        let Runtime { db, clock, .. } = &self.runtime;
        let releaser = Releaser {
            db: db.clone(),
            clock: clock.clone(),
            leases: Arc::clone(&self.leases),
            claim: Arc::clone(&self.claim),
        };
        let planner = Planner {
            runtime: self.runtime.clone(),
            queues: Arc::clone(&self.queues),
            leases: Arc::clone(&self.leases),
            mailings: Arc::clone(&self.mailings),
            admitter: self.admitter.clone(),
            outcomes: self.outcomes.clone(),
            releaser: releaser.clone(),
            signal: Arc::clone(&self.feeder_signal),
            batch: self.settings.page_size,
        };
        let adopter = Adopter {
            db: db.clone(),
            clock: clock.clone(),
            queues: Arc::clone(&self.queues),
            leases: Arc::clone(&self.leases),
            mailings: Arc::clone(&self.mailings),
            admitter: self.admitter.clone(),
            left_over: BTreeSet::new(),
        };
        Feeder {
            db: db.clone(),
            queues: Arc::clone(&self.queues),
            pause_switch: Arc::clone(&self.pause_switch),
            leases: Arc::clone(&self.leases),
            mailings: Arc::clone(&self.mailings),
            signal: Arc::clone(&self.feeder_signal),
            claim: Arc::clone(&self.claim),
            planner,
            adopter,
            releaser,
            poll: self.settings.poll,
            looked_at: None,
        }
    }

    /// Creates the claimer.
    pub fn claimer(&self) -> Claimer {
        Claimer {
            runtime: self.runtime.clone(),
            queues: Arc::clone(&self.queues),
            leases: Arc::clone(&self.leases),
            mailings: Arc::clone(&self.mailings),
            admitter: self.admitter.clone(),
            outcomes: self.outcomes.clone(),
            wake: Arc::clone(&self.claim),
            poll: self.settings.claim_poll,
            batch: self.settings.page_size,
        }
    }

    /// Creates the recorder, which reads from this channel.
    pub fn recorder(&self, outcomes: mpsc::Receiver<Outcome>) -> Recorder {
        Recorder {
            runtime: self.runtime.clone(),
            queues: Arc::clone(&self.queues),
            leases: Arc::clone(&self.leases),
            unrecorded: self.outcomes.unrecorded().clone(),
            feeder: Arc::clone(&self.feeder_signal),
            claim: Arc::clone(&self.claim),
            batch: self.settings.record_batch,
            outcomes,
        }
    }

    /// Creates the heartbeat, which notes the time of each success.
    pub fn heartbeat(&self, beat_at: Arc<AtomicI64>) -> NodeHeartbeat {
        NodeHeartbeat {
            db: self.runtime.db.clone(),
            clock: self.runtime.clock.clone(),
            node_lease: Arc::clone(&self.node_lease),
            leases: Arc::clone(&self.leases),
            queues: Arc::clone(&self.queues),
            feeder: Arc::clone(&self.feeder_signal),
            beat_at,
        }
    }

    /// Creates the dispatcher of a channel, which measures the mean duration of its deliveries; `None` for a channel
    /// without lanes.
    pub fn dispatcher(&self, setup: ChannelSetup, mean: Arc<MeanDuration>) -> Option<Dispatcher> {
        let Runtime { db, clock, metrics, .. } = &self.runtime;
        let ChannelSetup { channel, timeout, concurrency, rate, retries, .. } = setup;
        let kind = channel.kind();
        let queue = self.queues.of(kind)?.clone();
        let sender = Sender {
            clock: clock.clone(),
            lanes: Arc::clone(&queue.lanes),
            pause_switch: Arc::clone(&self.pause_switch),
            leases: Arc::clone(&self.leases),
            preparer: Preparer { renderers: self.renderers.clone(), links: self.settings.links.clone() },
            suppressor: self.admitter.suppressor.clone(),
            attempter: Attempter {
                channel,
                clock: clock.clone(),
                metrics: metrics.of_channel(kind),
                mean,
                timeout,
                retry_after_max: self.settings.retry_after_max,
                retries,
            },
            outcomes: self.outcomes.clone(),
        };
        let parts = DispatcherParts {
            queue,
            pause_switch: Arc::clone(&self.pause_switch),
            node_lease: Arc::clone(&self.node_lease),
            clock: clock.clone(),
            metrics: metrics.of_channel(kind),
            pacer: rate_limiter(db, kind, rate),
            patience: self.settings.shutdown,
        };
        Some(Dispatcher::new(parts, sender, concurrency))
    }
}
