//! The engine as a whole: starts and stops its tasks, and provides a handle to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::announce::Announcer;
use super::circuit_breaker::CircuitBreaker;
use super::claimer::Claimer;
use super::feeder::Feeder;
use super::lanes::Lanes;
use super::leases::{ActiveMailings, HeldLeases, NodeLease};
use super::pause_switch::PauseSwitch;
use super::recall;
use super::recorder::Recorder;
use super::repo::node;
use super::settings::{ChannelSetup, EngineSettings};
use super::shared::{Recalls, Shared};
use super::worker::Dispatcher;
use crate::db::Workload;
use crate::db::listen::Listener;
use crate::db::types::{MailingId, NodeId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, ProviderState};
use crate::lifecycle::{self, Shutdown, ShutdownTrigger, supervise};
use crate::mailings::model::MailingStatus;
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::messages::cancelling::Recall;
use crate::notifications::usecase::NewMessageNotifier;
use crate::runtime::Runtime;
use crate::sending;
use crate::sending::usecase::Switch;
use crate::templates::RenderPool;

/// The running engine.
pub struct Engine {
    shared: Arc<Shared>,
    limits: BTreeMap<ChannelKind, (usize, Option<f64>)>,
    pending: Arc<Notify>,
    beat_at: Arc<AtomicI64>,
    producers: Vec<JoinHandle<()>>,
    /// The tasks that end after the producers: the recorder, which receives their last outcomes, and the heartbeat,
    /// without which another node would take over the messages in flight.
    last: Vec<JoinHandle<()>>,
    ending: ShutdownTrigger,
    /// Ends after `last`, because the other nodes, where callers may wait, are notified of the last outcomes.
    announcing: (ShutdownTrigger, JoinHandle<()>),
    listener: Option<Listener>,
}

/// A handle to the running engine.
pub struct EngineHandles {
    shared: Arc<Shared>,
    limits: BTreeMap<ChannelKind, (usize, Option<f64>)>,
    pending: Arc<Notify>,
    beat_at: Arc<AtomicI64>,
}

impl Engine {
    /// Registers this node and starts all tasks.
    ///
    /// # Errors
    /// Database errors.
    pub async fn start(
        Runtime { db, clock, metrics, live }: Runtime,
        settings: EngineSettings,
        channels: Vec<ChannelSetup>,
        (trigger, shutdown): (ShutdownTrigger, Shutdown),
    ) -> Result<Self> {
        let node = NodeId::new();
        let feed = Arc::new(Notify::new());
        // the channel holds as many outcomes as one group: both, with the permits of the dispatchers, bound the
        // messages that a crash repeats
        let (outcomes, received) = mpsc::channel(settings.record_batch);
        let lanes = channels
            .iter()
            .map(|setup| {
                let kind = setup.channel.kind();
                let lanes = Lanes::new(kind, settings.lane_capacity, Arc::clone(&feed), &metrics);
                let lanes = lanes.with_rate(setup.rate);
                (kind, Arc::new(lanes))
            })
            .collect();
        let gates = channels
            .iter()
            .map(|setup| {
                let kind = setup.channel.kind();
                let gate =
                    CircuitBreaker::new(kind, setup.breaker_failures, Arc::clone(&feed), metrics.clone());
                (kind, Arc::new(gate))
            })
            .collect();
        let node_lease = NodeLease::new(settings.lease);
        let valve = PauseSwitch::new(
            db.read(sending::repo::paused_at).await?.is_some(),
            metrics.sending_paused.clone(),
        );
        let shared = Arc::new(Shared {
            clock,
            metrics,
            settings,
            renderers: RenderPool::default(),
            lanes,
            gates,
            runs: ActiveMailings::default(),
            leases: HeldLeases::new(node),
            adopting: tokio::sync::Mutex::new(()),
            node_lease,
            valve,
            nodes: AtomicU32::new(1),
            feed,
            claim: Notify::new(),
            withdrawn: Notify::new(),
            recalls: Recalls::default(),
            changed: AtomicBool::new(true),
            lease_done: AtomicBool::new(true),
            announcer: Announcer::new(db.clone(), live.clone()),
            live,
            db,
            outcomes,
        });
        register(&shared, node).await?;
        let (ending, ended) = lifecycle::shutdown();
        let pending = Arc::new(Notify::new());
        let listener = listen(&shared, &pending).await?;
        let (silence, silenced) = lifecycle::shutdown();
        let announcer = Arc::clone(&shared.announcer).run(silenced);
        let announcing = (silence, supervise("announcer", trigger.clone(), announcer));
        let mut engine = Self {
            limits: channels.iter().map(|c| (c.channel.kind(), (c.concurrency, c.rate))).collect(),
            pending,
            listener,
            beat_at: Arc::new(AtomicI64::new(shared.now().micros())),
            producers: Vec::new(),
            last: Vec::new(),
            ending,
            announcing,
            shared,
        };
        let recorder = Recorder::new(Arc::clone(&engine.shared), received).run(ended.clone());
        engine.last.push(supervise("recorder", trigger.clone(), recorder));
        let heartbeat = heartbeat(Arc::clone(&engine.shared), Arc::clone(&engine.beat_at), ended);
        engine.last.push(supervise("heartbeat", trigger.clone(), heartbeat));
        engine.start_producers(channels, &trigger, &shutdown);
        // the other nodes share their rates with this node from now on
        engine.shared.announcer.mailing_changed();
        Ok(engine)
    }

    fn start_producers(
        &mut self,
        channels: Vec<ChannelSetup>,
        trigger: &ShutdownTrigger,
        shutdown: &Shutdown,
    ) {
        let shared = &self.shared;
        for setup in channels {
            let kind = setup.channel.kind();
            let (Some(lanes), Some(gate)) = (shared.lanes.get(&kind), shared.gates.get(&kind)) else {
                continue;
            };
            let ways = (Arc::clone(lanes), Arc::clone(gate));
            let dispatcher = Dispatcher::new(Arc::clone(shared), ways, setup);
            self.producers.push(supervise("dispatcher", trigger.clone(), dispatcher.run(shutdown.clone())));
        }
        let feeder = Feeder::new(Arc::clone(shared)).run(shutdown.clone());
        self.producers.push(supervise("feeder", trigger.clone(), feeder));
        let recaller = recall::run(Arc::clone(shared), shutdown.clone());
        self.producers.push(supervise("recaller", trigger.clone(), recaller));
        let claimer = Claimer::new(Arc::clone(shared)).run(shutdown.clone());
        self.producers.push(supervise("claimer", trigger.clone(), claimer));
    }

    /// Returns a handle to the engine.
    pub fn handle(&self) -> Arc<EngineHandles> {
        Arc::new(EngineHandles {
            shared: Arc::clone(&self.shared),
            limits: self.limits.clone(),
            pending: Arc::clone(&self.pending),
            beat_at: Arc::clone(&self.beat_at),
        })
    }

    /// Stops after the shutdown was triggered: waits for the attempts in flight, records them, and releases the
    /// remaining leases.
    pub async fn stop(self) {
        // waits for the listener's thread, which may be connecting: the end of the process must not interrupt that
        let listener = self.listener;
        let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
        for task in self.producers {
            let _ = task.await;
        }
        let unrecorded = self.shared.metrics.clone();
        // attempts that outlive the shutdown timeout still hold the shared state; the recorder gets those that ended in
        // time
        let patience = self.shared.settings.shutdown.min(Duration::from_secs(10));
        let recorded = async {
            while unrecorded.unrecorded.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(patience, recorded).await.is_err() {
            let outcomes = unrecorded.unrecorded.get();
            tracing::error!(
                outcomes,
                "outcomes were not recorded before shutdown; their messages are sent again"
            );
        }
        self.ending.fire();
        for task in self.last {
            end(task).await;
        }
        let (db, node) = (self.shared.db.clone(), self.shared.leases.node());
        match db.write(move |c| node::leave(c, node)).await {
            Ok(()) => tracing::info!("remaining leases released"),
            Err(error) => {
                tracing::error!(%error, "remaining leases not released; they are taken over at the next start")
            }
        }
        // the other nodes take them over at once
        self.shared.announcer.mailing_changed();
        let (silence, announcer) = self.announcing;
        silence.fire();
        end(announcer).await;
    }
}

/// Waits for a task that was told to end, and aborts it after a second: a task that hangs on the database would keep
/// the process from ending.
async fn end(mut task: JoinHandle<()>) {
    if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
        task.abort();
    }
}

/// Wakes this node when another node announces a change.
async fn listen(shared: &Arc<Shared>, pending: &Arc<Notify>) -> Result<Option<Listener>> {
    // weak: the listener belongs to the engine, and must not keep the shared state alive
    let (shared_by, pending) = (Arc::downgrade(shared), Arc::clone(pending));
    let on_notify = move |payload: &str| {
        let Some(shared) = shared_by.upgrade() else { return };
        let announced = shared.announcer.hear(payload);
        if announced.look {
            shared.mailing_changed();
            shared.claim.notify_one();
            pending.notify_one();
        }
        if announced.recall {
            shared.withdrawn.notify_one();
        }
    };
    shared.db.listen(on_notify).await
}

async fn register(shared: &Shared, id: NodeId) -> Result<()> {
    let name = format!("pid {}", std::process::id());
    let now = shared.now();
    shared.db.write(move |c| node::register(c, id, &name, now)).await?;
    failpoint::reach("register-after-commit");
    if shared.db.is_single_node() {
        shared.node_lease.hold_forever()
    } else {
        shared.node_lease.renew(now)
    }
    Ok(())
}

/// Writes this node's heartbeat, five times per node lease.
async fn heartbeat(shared: Arc<Shared>, beat_at: Arc<AtomicI64>, shutdown: Shutdown) {
    let (lease, single) = (shared.node_lease.length(), shared.db.is_single_node());
    // a heartbeat without a response must not delay the next one
    let db = shared.db.doing(Workload::Request);
    while !shutdown.is_fired() {
        let (id, now) = (shared.leases.node(), shared.now());
        match db.write(move |c| node::heartbeat(c, id, lease)).await {
            Ok(true) => {
                if !single {
                    shared.node_lease.renew(now);
                }
                beat_at.store(now.micros(), Ordering::Release);
            }
            Ok(false) => register_again(&shared).await,
            Err(error) => tracing::error!(%error, "heartbeat failed; sending stops when the node lease ends"),
        }
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(lease / 5) => {}
        }
    }
}

/// Continues under a new node id after the other nodes declared this one dead: they own its leases.
async fn register_again(shared: &Shared) {
    tracing::warn!("this node was declared dead; its leases were dropped, and it continues under a new id");
    let id = NodeId::new();
    shared.leases.start_anew(id);
    shared.lanes.values().for_each(|lanes| drop(lanes.drain_all()));
    if let Err(error) = register(shared, id).await {
        tracing::error!(%error, "node could not be registered again; trying again");
    }
    shared.mailing_changed();
}

impl Wakeup for EngineHandles {
    fn mailing_changed(&self) {
        self.shared.mailing_changed();
        self.shared.announcer.mailing_changed();
    }

    fn mailing_stopped(&self, id: MailingId, status: MailingStatus) {
        if let Some(run) = self.shared.runs.get(id) {
            run.set_status(status);
        }
    }

    fn pending_changed(&self) {
        self.pending.notify_one();
        self.shared.announcer.pending_changed();
    }
}

impl NewMessageNotifier for EngineHandles {
    fn arrived(&self) {
        self.shared.claim.notify_one();
    }
}

impl Switch for EngineHandles {
    fn switched(&self, is_paused: bool) {
        if self.shared.valve.turn(is_paused) {
            self.shared.valve_was_turned();
        }
        self.shared.announcer.mailing_changed();
    }
}

impl Recall for EngineHandles {
    fn recall(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            shared.announcer.announce_recall();
            if let Err(error) = shared.recall().await {
                // the recaller tries again
                tracing::error!(%error, "cancelled messages could not be recalled; trying again");
                shared.withdrawn.notify_one();
            }
        })
    }
}

impl ChannelRates for EngineHandles {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let (concurrency, limit) = self.limits.get(&channel)?;
        limit.or_else(|| {
            self.shared.metrics.mean_delivery(channel).map(|seconds| *concurrency as f64 / seconds)
        })
    }
}

impl EngineHandles {
    /// Returns the signal that the due time of a pending mailing may have changed; for the watchdog.
    pub fn pending(&self) -> Arc<Notify> {
        Arc::clone(&self.pending)
    }

    /// Returns the state of a channel's provider, and the time for which nothing is sent to it; `None` for a channel
    /// that does not run.
    pub fn provider_state(&self, channel: ChannelKind) -> Option<(ProviderState, Duration)> {
        self.shared.gates.get(&channel).map(|gate| gate.state())
    }

    /// Returns the time of the last successful heartbeat.
    pub fn beat_at(&self) -> Timestamp {
        Timestamp::from_micros(self.beat_at.load(Ordering::Acquire))
    }
}
