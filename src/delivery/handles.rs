//! The handle through which the rest of the service reaches the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::active_mailings::ActiveMailings;
use super::announce::Announcer;
use super::feeder_signal::FeederSignal;
use super::mean_duration::MeanDuration;
use super::pause_switch::PauseSwitch;
use super::queues::Queues;
use super::recall::Recaller;
use crate::db::types::{MailingId, Timestamp};
use crate::kinds::{ChannelKind, ProviderState};
use crate::mailings::model::MailingStatus;
use crate::mailings::usecase::{ChannelRates, Wakeup};
use crate::messages::cancelling::Recall;
use crate::notifications::notifier::NewMessageNotifier;
use crate::sending::usecase::Switch;

/// The limits of a channel, from which its rate is estimated.
pub(super) struct ChannelLimits {
    /// The maximum number of attempts in flight.
    pub concurrency: usize,
    /// The rate limit in messages per second.
    pub rate: Option<f64>,
    /// The mean duration of its deliveries.
    pub mean: Arc<MeanDuration>,
}

/// A handle to the running engine.
pub struct EngineHandles {
    pub(super) announcer: Arc<Announcer>,
    pub(super) feeder: Arc<FeederSignal>,
    /// Wakes the claimer.
    pub(super) claim: Arc<Notify>,
    /// Wakes the watchdog.
    pub(super) pending: Arc<Notify>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) queues: Arc<Queues>,
    pub(super) pause_switch: Arc<PauseSwitch>,
    pub(super) recaller: Arc<Recaller>,
    pub(super) limits: BTreeMap<ChannelKind, ChannelLimits>,
    /// The time of the last successful heartbeat.
    pub(super) beat_at: Arc<AtomicI64>,
}

impl Wakeup for EngineHandles {
    fn mailing_changed(&self) {
        self.feeder.mailing_changed();
        self.announcer.mailing_changed();
    }

    fn mailing_stopped(&self, id: MailingId, status: MailingStatus) {
        if let Some(run) = self.mailings.get(id) {
            run.set_status(status);
        }
    }

    fn pending_changed(&self) {
        self.pending.notify_one();
        self.announcer.pending_changed();
    }
}

impl NewMessageNotifier for EngineHandles {
    fn arrived(&self) {
        self.claim.notify_one();
    }
}

impl Switch for EngineHandles {
    fn switched(&self, is_paused: bool) {
        if self.pause_switch.turn(is_paused) {
            // a pause empties the lanes, and a resume fills them
            self.feeder.wake();
            self.claim.notify_one();
        }
        self.announcer.mailing_changed();
    }
}

impl Recall for EngineHandles {
    fn recall(&self) -> BoxFuture<'static, ()> {
        let (announcer, recaller) = (Arc::clone(&self.announcer), Arc::clone(&self.recaller));
        Box::pin(async move {
            announcer.announce_recall();
            if let Err(error) = recaller.recall().await {
                // the recaller tries again
                tracing::error!(%error, "cancelled messages could not be recalled; trying again");
                recaller.wake();
            }
        })
    }
}

impl ChannelRates for EngineHandles {
    fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let limits = self.limits.get(&channel)?;
        limits.rate.or_else(|| limits.mean.seconds().map(|seconds| limits.concurrency as f64 / seconds))
    }
}

impl EngineHandles {
    /// Wakes the tasks that a payload from another node concerns.
    pub(super) fn hear(&self, payload: &str) {
        let announced = self.announcer.hear(payload);
        if announced.look {
            self.feeder.mailing_changed();
            self.claim.notify_one();
            self.pending.notify_one();
        }
        if announced.recall {
            self.recaller.wake();
        }
    }

    /// Returns the signal that the due time of a pending mailing may have changed; for the watchdog.
    pub fn pending(&self) -> Arc<Notify> {
        Arc::clone(&self.pending)
    }

    /// Returns the state of a channel's provider, and the time for which nothing is sent to it; `None` for a channel
    /// that does not run.
    pub fn provider_state(&self, channel: ChannelKind) -> Option<(ProviderState, Duration)> {
        self.queues.of(channel).map(|queue| queue.breaker.state())
    }

    /// Returns the time of the last successful heartbeat.
    pub fn beat_at(&self) -> Timestamp {
        Timestamp::from_micros(self.beat_at.load(Ordering::Acquire))
    }
}
