//! Puts the messages of stored leases into their lanes.

use std::sync::Arc;

use super::active_mailing::MailingState;
use super::leases::{HeldLease, HeldLeases};
use super::model::QueuedMessage;
use super::outcomes::OutcomeSender;
use super::queues::Queues;
use super::suppress::{Admission, Suppressor};
use crate::clock::Clock;
use crate::kinds::{ChannelKind, Priority};

/// Puts the messages of stored leases into their lanes.
#[derive(Clone)]
pub struct Admitter {
    pub(super) clock: Clock,
    pub(super) suppressor: Suppressor,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) outcomes: OutcomeSender,
}

impl Admitter {
    /// Puts the messages of a stored lease into their lane, and records the outcomes of suppressed and deferred
    /// messages.
    pub async fn admit(
        &self,
        lease: &Arc<HeldLease>,
        (channel, priority): (ChannelKind, Priority),
        items: Vec<QueuedMessage>,
    ) {
        let (now, mut suppressed) = (self.clock.now(), Vec::new());
        let admitted = items.into_iter().filter_map(|item| {
            // messages of a paused or ended mailing are handled by the feeder
            if item.preferences.is_none() || item.origin.state(now) != MailingState::Running {
                return Some(item);
            }
            match self.suppressor.apply(item, now) {
                Admission::Admitted(item) => Some(item),
                Admission::Suppressed(outcome) => {
                    suppressed.push(outcome);
                    None
                }
            }
        });
        let items = admitted.collect();
        // before the outcomes, because the lease is dropped from memory with its last outcome
        if let Some(lanes) = self.queues.lanes(channel) {
            self.leases.admit(lease, || lanes.push(priority, lease.mailing, items));
        }
        for outcome in suppressed {
            self.outcomes.record(outcome).await;
        }
    }
}
