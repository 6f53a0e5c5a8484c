//! Applies recipient preferences. They are checked when a message enters its lane, so that a suppressed message never
//! uses the channel's rate, and again right before the attempt.

use std::sync::Arc;

use super::active_mailing::MailingState;
use super::leases::HeldLease;
use super::model::{Outcome, QueuedMessage};
use super::reasons::{CLIENT_DELETED, QUIET, QUIET_TOO_LONG};
use super::shared::Shared;
use crate::db::types::Timestamp;
use crate::kinds::{ChannelKind, OutcomeKind, Priority};
use crate::preferences::model::Decision;

/// A message after its recipient's preferences were applied.
pub enum Admission {
    /// The message may be sent.
    Admitted(QueuedMessage),
    /// The message is suppressed or deferred.
    Suppressed(Outcome),
}

impl Shared {
    /// Applies the preferences of its recipient to a message at `now`.
    pub fn apply_preferences(&self, item: QueuedMessage, now: Timestamp) -> Admission {
        if item.is_erased() {
            return Admission::Suppressed(item.close(OutcomeKind::Cancelled, now, CLIENT_DELETED));
        }
        let (channel, zone) = (item.origin.channel(), self.settings.quiet_zone);
        let decision = match &item.preferences {
            Some(preferences) => {
                let kind = (item.origin.group(), item.origin.is_transactional());
                preferences.decide(channel, kind, (now, zone))
            }
            None => Decision::Send,
        };
        let (counter, outcome) = match decision {
            Decision::Send => return Admission::Admitted(item),
            Decision::Suppress(why) => {
                (&self.metrics.opted_out, item.close(OutcomeKind::Cancelled, now, why))
            }
            Decision::Defer(until) if item.origin.ends_at().is_some_and(|end| until >= end) => {
                return Admission::Suppressed(item.close(OutcomeKind::Expired, now, QUIET_TOO_LONG));
            }
            Decision::Defer(until) => (&self.metrics.deferred, item.defer(now, until, QUIET)),
        };
        counter.with_label_values(&[channel.as_str()]).inc();
        Admission::Suppressed(outcome)
    }

    /// Puts the messages of a stored lease into their lane, and records the outcomes of suppressed and deferred
    /// messages.
    pub async fn admit(
        &self,
        lease: &Arc<HeldLease>,
        lane: (ChannelKind, Priority),
        items: Vec<QueuedMessage>,
    ) {
        let (now, mut suppressed) = (self.now(), Vec::new());
        let admitted = items.into_iter().filter_map(|item| {
            // messages of a paused or ended mailing are handled by the feeder
            if item.preferences.is_none() || item.origin.state(now) != MailingState::Running {
                return Some(item);
            }
            match self.apply_preferences(item, now) {
                Admission::Admitted(item) => Some(item),
                Admission::Suppressed(outcome) => {
                    suppressed.push(outcome);
                    None
                }
            }
        });
        let items = admitted.collect();
        // before the outcomes, because the lease is dropped from memory with its last outcome
        self.push(lease, lane, items);
        for outcome in suppressed {
            self.record(outcome).await;
        }
    }
}
