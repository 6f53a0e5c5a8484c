//! The engine as a whole: starts and stops its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::announce::Announcer;
use super::handles::{ChannelLimits, EngineHandles};
use super::leases::HeldLeases;
use super::mean_duration::MeanDuration;
use super::outcomes::Unrecorded;
use super::parts::EngineParts;
use super::repo::node;
use super::settings::{ChannelSetup, EngineSettings, LaneSetup};
use crate::db::Db;
use crate::db::listen::Listener;
use crate::db::types::NodeId;
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::lifecycle::{self, Shutdown, ShutdownTrigger, supervise};
use crate::mailings::usecase::Wakeup;
use crate::runtime::Runtime;
use crate::sending;

/// The running engine.
pub struct Engine {
    db: Db,
    leases: Arc<HeldLeases>,
    unrecorded: Unrecorded,
    handles: Arc<EngineHandles>,
    /// The time for the last outcomes to be recorded.
    patience: Duration,
    producers: Vec<JoinHandle<()>>,
    /// The tasks that end after the producers: the recorder, which receives their last outcomes, and the heartbeat,
    /// without which another node would take over the messages in flight.
    last: Vec<JoinHandle<()>>,
    ending: ShutdownTrigger,
    /// Ends after `last`, because the other nodes, where callers may wait, are notified of the last outcomes.
    announcing: (ShutdownTrigger, JoinHandle<()>),
    listener: Option<Listener>,
}

impl Engine {
    /// Registers this node and starts all tasks.
    ///
    /// # Errors
    /// Database errors.
    pub async fn start(
        runtime: Runtime,
        settings: EngineSettings,
        channels: Vec<ChannelSetup>,
        (trigger, shutdown): (ShutdownTrigger, Shutdown),
    ) -> Result<Self> {
        let Runtime { db, clock, live, .. } = runtime.clone();
        let (node, patience) = (NodeId::new(), settings.shutdown.min(Duration::from_secs(10)));
        let is_paused = db.read(sending::repo::paused_at).await?.is_some();
        let lanes: Vec<LaneSetup> = channels.iter().map(ChannelSetup::lanes).collect();
        let (parts, received) = EngineParts::new(runtime, settings, &lanes, node, is_paused);
        let beat_at = Arc::new(AtomicI64::new(clock.now().micros()));
        let heartbeat = parts.heartbeat(Arc::clone(&beat_at));
        heartbeat.register(node).await?;
        let handles = Arc::new(EngineHandles {
            announcer: Announcer::new(db.clone(), live),
            feeder: Arc::clone(&parts.feeder_signal),
            claim: Arc::clone(&parts.claim),
            pending: Arc::new(Notify::new()),
            mailings: Arc::clone(&parts.mailings),
            queues: Arc::clone(&parts.queues),
            pause_switch: Arc::clone(&parts.pause_switch),
            recaller: Arc::clone(&parts.recaller),
            limits: channels.iter().map(limits).collect(),
            beat_at,
        });
        let listener = listen(&db, &handles).await?;
        let (silence, silenced) = lifecycle::shutdown();
        let announcer = Arc::clone(&handles.announcer).run(silenced);
        let announcing = (silence, supervise("announcer", trigger.clone(), announcer));
        let (ending, ended) = lifecycle::shutdown();
        let recorder = parts.recorder(received).run(ended.clone());
        let last = vec![
            supervise("recorder", trigger.clone(), recorder),
            supervise("heartbeat", trigger.clone(), heartbeat.run(ended)),
        ];
        let producers = start_producers(&parts, channels, &handles.limits, (&trigger, &shutdown));
        // the other nodes share their rates with this node from now on
        handles.announcer.mailing_changed();
        Ok(Self {
            db,
            leases: parts.leases,
            unrecorded: parts.outcomes.unrecorded().clone(),
            handles,
            patience,
            producers,
            last,
            ending,
            announcing,
            listener,
        })
    }

    /// Returns a handle to the engine.
    pub fn handle(&self) -> Arc<EngineHandles> {
        Arc::clone(&self.handles)
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
        // attempts that outlive the shutdown timeout still hold senders of outcomes; the recorder gets those that ended
        // in time
        let recorded = async {
            while self.unrecorded.count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(self.patience, recorded).await.is_err() {
            let outcomes = self.unrecorded.count();
            tracing::error!(
                outcomes,
                "outcomes were not recorded before shutdown; their messages are sent again"
            );
        }
        self.ending.fire();
        for task in self.last {
            end(task).await;
        }
        let (db, node) = (self.db, self.leases.node());
        match db.write(move |c| node::leave(c, node)).await {
            Ok(()) => tracing::info!("remaining leases released"),
            Err(error) => {
                tracing::error!(%error, "remaining leases not released; they are taken over at the next start")
            }
        }
        // the other nodes take them over at once
        self.handles.announcer.mailing_changed();
        let (silence, announcer) = self.announcing;
        silence.fire();
        end(announcer).await;
    }
}

fn limits(setup: &ChannelSetup) -> (ChannelKind, ChannelLimits) {
    let mean = Arc::new(MeanDuration::default());
    (setup.channel.kind(), ChannelLimits { concurrency: setup.concurrency, rate: setup.rate, mean })
}

/// Starts the tasks that put messages into the lanes and take them out.
fn start_producers(
    parts: &EngineParts,
    channels: Vec<ChannelSetup>,
    limits: &BTreeMap<ChannelKind, ChannelLimits>,
    (trigger, shutdown): (&ShutdownTrigger, &Shutdown),
) -> Vec<JoinHandle<()>> {
    let mut producers = Vec::new();
    for setup in channels {
        let mean = limits.get(&setup.channel.kind()).map(|limits| Arc::clone(&limits.mean));
        if let Some(dispatcher) = parts.dispatcher(setup, mean.unwrap_or_default()) {
            producers.push(supervise("dispatcher", trigger.clone(), dispatcher.run(shutdown.clone())));
        }
    }
    producers.push(supervise("feeder", trigger.clone(), parts.feeder().run(shutdown.clone())));
    let recaller = Arc::clone(&parts.recaller).run(shutdown.clone());
    producers.push(supervise("recaller", trigger.clone(), recaller));
    producers.push(supervise("claimer", trigger.clone(), parts.claimer().run(shutdown.clone())));
    producers
}

/// Waits for a task that was told to end, and aborts it after a second: a task that hangs on the database would keep
/// the process from ending.
async fn end(mut task: JoinHandle<()>) {
    if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
        task.abort();
    }
}

/// Wakes this node when another node announces a change.
async fn listen(db: &Db, handles: &Arc<EngineHandles>) -> Result<Option<Listener>> {
    // weak: the listener belongs to the engine, and must not keep its parts alive
    let handles = Arc::downgrade(handles);
    let on_notify = move |payload: &str| {
        if let Some(handles) = handles.upgrade() {
            handles.hear(payload);
        }
    };
    db.listen(on_notify).await
}
