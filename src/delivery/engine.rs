//! The engine as a whole: how its tasks start, end, and are spoken to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::announce::Announcer;
use super::claimer::Claimer;
use super::feeder::Feeder;
use super::gate::Gate;
use super::lanes::Lanes;
use super::pages::{Lease, Pages, Runs};
use super::recall::{self, Recalls};
use super::recorder::Recorder;
use super::repo::node;
use super::retry::Retries;
use super::shared::{Settings, Shared};
use super::valve::Valve;
use super::worker::Dispatcher;
use crate::channels::Channel;
use crate::clock::Clock;
use crate::db::listen::Listener;
use crate::db::types::{MailingId, NodeId, Timestamp};
use crate::db::{Db, Workload};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, ProviderState};
use crate::lifecycle::{self, Shutdown, Trigger, supervise};
use crate::live::Live;
use crate::mailings::model::MailingStatus;
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::messages::cancelling::Recall;
use crate::metrics::Metrics;
use crate::notifications::usecase::Arrivals;
use crate::sending;
use crate::sending::usecase::Switch;
use crate::templates::Pool;

/// A channel with its limits.
pub struct ChannelSetup {
    /// The adapter.
    pub channel: Arc<dyn Channel>,
    /// For one request.
    pub timeout: Duration,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Messages a second.
    pub rate: Option<f64>,
    /// Failures in a row after which its provider is left alone for a while; 0 for never.
    pub breaker_failures: u32,
    /// When its messages are tried again.
    pub retries: Retries,
}

/// The running engine.
pub struct Engine {
    shared: Arc<Shared>,
    limits: BTreeMap<ChannelKind, (usize, Option<f64>)>,
    pending: Arc<Notify>,
    beat_at: Arc<AtomicI64>,
    producers: Vec<JoinHandle<()>>,
    /// What ends after the producers: the recorder, which gets their last outcomes, and the heart, or another node
    /// would take over what is still in flight.
    last: Vec<JoinHandle<()>>,
    ending: Trigger,
    /// Ends after those: what they record at last is told to the other nodes, where callers may wait for it.
    announcing: (Trigger, JoinHandle<()>),
    listener: Option<Listener>,
}

/// How the engine is spoken to from outside.
pub struct Handle {
    shared: Arc<Shared>,
    limits: BTreeMap<ChannelKind, (usize, Option<f64>)>,
    pending: Arc<Notify>,
    beat_at: Arc<AtomicI64>,
}

impl Engine {
    /// Registers this node and starts every task.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn start(
        (db, clock, metrics, live): (Db, Clock, Metrics, Live),
        settings: Settings,
        channels: Vec<ChannelSetup>,
        (trigger, shutdown): (Trigger, Shutdown),
    ) -> Result<Self> {
        let node = NodeId::new();
        let feed = Arc::new(Notify::new());
        // as many outcomes may wait as one group holds: together they bound what a crash repeats, beside the places of dispatchers
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
                let gate = Gate::new(kind, setup.breaker_failures, Arc::clone(&feed), metrics.clone());
                (kind, Arc::new(gate))
            })
            .collect();
        let lease = Lease::new(settings.lease);
        let valve =
            Valve::new(db.read(sending::repo::paused_at).await?.is_some(), metrics.sending_paused.clone());
        let shared = Arc::new(Shared {
            clock,
            metrics,
            settings,
            renderers: Pool::default(),
            lanes,
            gates,
            runs: Runs::default(),
            pages: Pages::new(node),
            adopting: tokio::sync::Mutex::new(()),
            lease,
            valve,
            nodes: AtomicU32::new(1),
            feed,
            claim: Notify::new(),
            withdrawn: Notify::new(),
            recalls: Recalls::default(),
            changed: AtomicBool::new(true),
            page_done: AtomicBool::new(true),
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
        let heart = heart(Arc::clone(&engine.shared), Arc::clone(&engine.beat_at), ended);
        engine.last.push(supervise("heart", trigger.clone(), heart));
        engine.start_producers(channels, &trigger, &shutdown);
        // the others share with this node from now on
        engine.shared.announcer.mailing_changed();
        Ok(engine)
    }

    fn start_producers(&mut self, channels: Vec<ChannelSetup>, trigger: &Trigger, shutdown: &Shutdown) {
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

    /// How the engine is spoken to.
    pub fn handle(&self) -> Arc<Handle> {
        Arc::new(Handle {
            shared: Arc::clone(&self.shared),
            limits: self.limits.clone(),
            pending: Arc::clone(&self.pending),
            beat_at: Arc::clone(&self.beat_at),
        })
    }

    /// Ends after the shutdown was fired: waits for what is in flight, records it, and gives the rest back.
    pub async fn stop(self) {
        // on its thread, which may be connecting: it must not be cut off in the middle when the process ends
        let listener = self.listener;
        let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
        for task in self.producers {
            let _ = task.await;
        }
        let unrecorded = self.shared.metrics.clone();
        // requests that outlived the shutdown still hold the shared state; the recorder gets what was sent in time
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
                "outcomes could not be recorded before the end; their messages go out again"
            );
        }
        self.ending.fire();
        for task in self.last {
            end(task).await;
        }
        let (db, node) = (self.shared.db.clone(), self.shared.pages.node());
        match db.write(move |c| node::leave(c, node)).await {
            Ok(()) => tracing::info!("the rest was given back"),
            Err(error) => {
                tracing::error!(%error, "the rest could not be given back; it is taken over at the next start")
            }
        }
        // the others take it over at once
        self.shared.announcer.mailing_changed();
        let (silence, announcer) = self.announcing;
        silence.fire();
        end(announcer).await;
    }
}

/// Waits for the end of a task that was told to end. One that hangs on the database would keep the process from ending.
async fn end(mut task: JoinHandle<()>) {
    if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
        task.abort();
    }
}

/// Wakes this node when another one says that something changed.
async fn listen(shared: &Arc<Shared>, pending: &Arc<Notify>) -> Result<Option<Listener>> {
    // weak: the listener belongs to the engine, and must not keep alive what it wakes
    let (shared_by, pending) = (Arc::downgrade(shared), Arc::clone(pending));
    let heard = move |payload: &str| {
        let Some(shared) = shared_by.upgrade() else { return };
        let heard = shared.announcer.hear(payload);
        if heard.look {
            shared.mailing_changed();
            shared.claim.notify_one();
            pending.notify_one();
        }
        if heard.recall {
            shared.withdrawn.notify_one();
        }
    };
    shared.db.listen(heard).await
}

async fn register(shared: &Shared, id: NodeId) -> Result<()> {
    let name = format!("pid {}", std::process::id());
    let now = shared.now();
    shared.db.write(move |c| node::register(c, id, &name, now)).await?;
    failpoint::reach("register-after-commit");
    if shared.db.is_single_node() {
        shared.lease.hold_forever()
    } else {
        shared.lease.renew(now)
    }
    Ok(())
}

/// Shows that this node is alive, five times a lease.
async fn heart(shared: Arc<Shared>, beat_at: Arc<AtomicI64>, shutdown: Shutdown) {
    let (lease, single) = (shared.lease.length(), shared.db.is_single_node());
    // one that is not answered must not take the time of the next
    let db = shared.db.doing(Workload::Request);
    while !shutdown.is_fired() {
        let (id, now) = (shared.pages.node(), shared.now());
        match db.write(move |c| node::heartbeat(c, id, lease)).await {
            Ok(true) => {
                if !single {
                    shared.lease.renew(now);
                }
                beat_at.store(now.micros(), Ordering::Release);
            }
            Ok(false) => start_anew(&shared).await,
            Err(error) => tracing::error!(%error, "the heartbeat failed; without one, sending stops"),
        }
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(lease / 5) => {}
        }
    }
}

/// The others took this node for dead: whatever it held is theirs.
async fn start_anew(shared: &Shared) {
    tracing::warn!("this node was taken for dead; it drops what it held and goes on as a new one");
    let id = NodeId::new();
    shared.pages.start_anew(id);
    shared.lanes.values().for_each(|lanes| drop(lanes.drain_all()));
    if let Err(error) = register(shared, id).await {
        tracing::error!(%error, "the node could not be registered anew; trying again");
    }
    shared.mailing_changed();
}

impl Wakeup for Handle {
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

impl Arrivals for Handle {
    fn arrived(&self) {
        self.shared.claim.notify_one();
    }
}

impl Switch for Handle {
    fn switched(&self, is_paused: bool) {
        if self.shared.valve.turn(is_paused) {
            self.shared.valve_was_turned();
        }
        self.shared.announcer.mailing_changed();
    }
}

impl Recall for Handle {
    fn recall(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            shared.announcer.announce_recall();
            if let Err(error) = shared.recall().await {
                // the recaller tries again
                tracing::error!(%error, "cancelled messages could not be taken back; trying again");
                shared.withdrawn.notify_one();
            }
        })
    }
}

impl ChannelRates for Handle {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let (concurrency, limit) = self.limits.get(&channel)?;
        limit.or_else(|| {
            self.shared.metrics.mean_delivery(channel).map(|seconds| *concurrency as f64 / seconds)
        })
    }
}

impl Handle {
    /// Notified when a pending mailing may be due at another time; for the watchdog.
    pub fn pending(&self) -> Arc<Notify> {
        Arc::clone(&self.pending)
    }

    /// How a channel's provider is, and for how long nothing is sent to it; none of a channel without one.
    pub fn provider_state(&self, channel: ChannelKind) -> Option<(ProviderState, Duration)> {
        self.shared.gates.get(&channel).map(|gate| gate.state())
    }

    /// When the engine last showed that it is alive.
    pub fn beat_at(&self) -> Timestamp {
        Timestamp::from_micros(self.beat_at.load(Ordering::Acquire))
    }
}
