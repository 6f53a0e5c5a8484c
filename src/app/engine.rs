//! The part of a node that depends on its role: the delivery engine, or the connection to the nodes that have one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::channels::ChannelFactory;
use super::wiring::Wiring;
use crate::config::{Config, Role};
use crate::db::listen::Listener;
use crate::delivery::announce::Announcer;
use crate::delivery::{Engine, EngineSettings};
use crate::error::Result;
use crate::http::channels::ProviderStates;
use crate::http::health::Heartbeat;
use crate::inbox::delivery::InboxWriter;
use crate::kinds::ChannelKind;
use crate::lifecycle::{self, ShutdownTrigger, supervise, supervise_while_used};
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::notifications::notifier::NewMessageNotifier;
use crate::pending_mailing::watchdog::Watchdog;
use crate::sending::usecase::Switch;

/// The work besides serving the API.
pub(super) enum NodeWork {
    /// This node starts mailings and sends messages.
    Here { engine: Box<Engine>, watchdog: JoinHandle<()>, letters: JoinHandle<()> },
    /// Other nodes do this work, and this node notifies them of changes.
    Elsewhere { announcing: (ShutdownTrigger, JoinHandle<()>), listener: Option<Listener> },
}

impl NodeWork {
    /// Ends the work, after the server: an engine finishes the attempts in flight, and the last changes are announced.
    pub(super) async fn stop(self) {
        match self {
            Self::Here { engine, watchdog, letters } => {
                let _ = watchdog.await;
                engine.stop().await;
                let _ = letters.await;
            }
            Self::Elsewhere { announcing: (silence, announcer), listener } => {
                silence.fire();
                // with a timeout, since the database may be unavailable
                let _ = tokio::time::timeout(Duration::from_secs(1), announcer).await;
                // on a blocking thread: its own may be connecting, and must not be interrupted by the end of the
                // process
                let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
            }
        }
    }
}

/// The handles through which the API reaches the engine, here or on other nodes.
pub(super) struct EngineAccess {
    pub(super) wakeup: Arc<dyn Wakeup>,
    pub(super) rates: Arc<dyn ChannelRates>,
    pub(super) arrivals: Arc<dyn NewMessageNotifier>,
    pub(super) switch: Arc<dyn Switch>,
    pub(super) watchdog: Option<Heartbeat>,
    pub(super) engine: Option<Heartbeat>,
    pub(super) provider_states: ProviderStates,
}

/// The channels' rate limits from the configuration, for a node that does not send.
struct ConfiguredRates(BTreeMap<ChannelKind, f64>);

impl ConfiguredRates {
    fn new(config: &Config) -> Self {
        let limit = |channel: &ChannelKind| Some((*channel, config.rate(*channel)?));
        Self(ChannelKind::ALL.iter().filter_map(limit).collect())
    }
}

impl ChannelRates for ConfiguredRates {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        self.0.get(&channel).copied()
    }
}

/// Starts the work of the node's role.
///
/// # Errors
/// [`crate::error::Error::Invalid`] for an invalid setting of a channel, and database errors.
pub(super) async fn start(wiring: &Wiring) -> Result<(NodeWork, EngineAccess)> {
    match wiring.config.node.role {
        Role::Api => announce(wiring).await,
        Role::All | Role::Worker => send(wiring).await,
    }
}

/// Starts a node that sends nothing, but announces its changes and hears those of other nodes.
async fn announce(wiring: &Wiring) -> Result<(NodeWork, EngineAccess)> {
    let (db, live) = (wiring.background.db.clone(), wiring.background.live.clone());
    let announcer = Announcer::new(db.clone(), live);
    let (silence, silenced) = lifecycle::shutdown();
    let task = supervise("announcer", wiring.trigger.clone(), Arc::clone(&announcer).run(silenced));
    let hearing = Arc::clone(&announcer);
    // its waiting callers and subscribers need the changes from other nodes
    let heard = move |payload: &str| {
        hearing.hear(payload);
    };
    let listener = db.listen(heard).await?;
    let access = EngineAccess {
        wakeup: announcer.clone(),
        rates: Arc::new(ConfiguredRates::new(&wiring.config)),
        arrivals: announcer.clone(),
        switch: announcer,
        watchdog: None,
        engine: None,
        provider_states: Box::new(|_| None),
    };
    Ok((NodeWork::Elsewhere { announcing: (silence, task), listener }, access))
}

/// Starts a node that starts mailings and sends messages.
async fn send(wiring: &Wiring) -> Result<(NodeWork, EngineAccess)> {
    let (config, runtime) = (&wiring.config, wiring.background.clone());
    let (trigger, shutdown) = (&wiring.trigger, &wiring.shutdown);
    let (letterbox, taking) = InboxWriter::new(runtime.clone(), config.in_app.keep);
    // ends with the engine, which owns the last handle to it
    let letters = supervise_while_used("inbox writer", trigger.clone(), taking.run());
    let factory = ChannelFactory {
        config,
        clock: &runtime.clock,
        guard: Arc::clone(&wiring.guard),
        book: Arc::clone(&wiring.endpoint_cache),
        letterbox,
        keyring: Arc::clone(&wiring.credentials),
    };
    let ends = (trigger.clone(), shutdown.clone());
    let engine = Engine::start(runtime.clone(), settings(wiring), factory.all()?, ends).await?;
    let handle = engine.handle();
    let watchdog = Watchdog::new(runtime, handle.clone(), config.delivery.poll, handle.pending());
    let (looked_at, beating, breakers) = (watchdog.looked_at(), handle.clone(), handle.clone());
    let access = EngineAccess {
        wakeup: handle.clone(),
        rates: handle.clone(),
        arrivals: handle.clone(),
        switch: handle,
        watchdog: Some(Box::new(looked_at)),
        engine: Some(Box::new(move || beating.beat_at())),
        provider_states: Box::new(move |channel| breakers.provider_state(channel)),
    };
    let watchdog = supervise("watchdog", trigger.clone(), watchdog.run(shutdown.clone()));
    Ok((NodeWork::Here { engine: Box::new(engine), watchdog, letters }, access))
}

fn settings(wiring: &Wiring) -> EngineSettings {
    let config = &wiring.config;
    EngineSettings {
        page_size: config.delivery.page_size,
        lane_capacity: config.delivery.lane_capacity,
        record_batch: config.delivery.record_batch,
        poll: config.delivery.poll,
        claim_poll: claim_poll(config),
        retry_after_max: config.retry.after_max,
        lease: config.delivery.lease,
        shutdown: config.shutdown.timeout,
        // the configuration's check has refused invalid names
        quiet_zone: config.preferences.quiet_hours_timezone.parse().unwrap_or(chrono_tz::Tz::UTC),
        links: wiring.secrets.links(config),
    }
}

/// Returns the poll interval of the claimer, the shorter of two settings: scheduled messages and retries wait in one
/// table, and one task polls for both.
pub(super) fn claim_poll(config: &Config) -> Duration {
    config.delivery.scheduler_interval.min(config.retry.interval)
}
