//! Sends the messages that were taken from the lanes of a channel.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::active_mailing::MailingState;
use super::attempt::{AttemptResult, Attempter};
use super::circuit_breaker::Permit;
use super::lanes::Lanes;
use super::leases::HeldLeases;
use super::model::{Outcome, QueuedMessage};
use super::outcomes::OutcomeSender;
use super::pause_switch::PauseSwitch;
use super::preparer::{PreparationFailure, Preparer};
use super::reasons::{CANCELLED, EXPIRED, WINDOW_CLOSED};
use super::suppress::{Admission, Suppressor};
use crate::channels::Delivery;
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::kinds::OutcomeKind;

/// Sends the messages of one channel.
pub struct Sender {
    pub(super) clock: Clock,
    pub(super) lanes: Arc<Lanes>,
    pub(super) pause_switch: Arc<PauseSwitch>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) preparer: Preparer,
    pub(super) suppressor: Suppressor,
    pub(super) attempter: Attempter,
    pub(super) outcomes: OutcomeSender,
}

impl Sender {
    /// Returns true if the peer drops repeated messages.
    pub fn drops_repeats(&self) -> bool {
        self.attempter.drops_repeats()
    }

    /// Handles a message that was taken from its lane. Without an attempt, `place` is released at once.
    pub async fn process(&self, item: QueuedMessage, pass: Permit, place: Option<OwnedSemaphorePermit>) {
        // rendered first, because that may take a while, and the checks must hold when the attempt begins
        let Some((item, prepared)) = self.preparer.prepare(item).await else { return };
        if item.lease.is_lost() {
            return self.lanes.done(&item);
        }
        if self.pause_switch.is_shut() {
            return self.put_back(item).await;
        }
        let now = self.clock.now();
        let outcome = match item.origin.state(now) {
            MailingState::Paused => {
                self.lanes.done(&item);
                return self.leases.give_back(&item.lease);
            }
            MailingState::Running if self.lanes.is_withdrawn(item.id) => item.cancel(now),
            MailingState::Cancelled => item.close(OutcomeKind::Cancelled, now, CANCELLED),
            MailingState::Closed => {
                let reason = if item.lease.mailing.is_some() { WINDOW_CLOSED } else { EXPIRED };
                item.close(OutcomeKind::Expired, now, reason)
            }
            MailingState::Running => match self.suppressor.apply(item, now) {
                Admission::Admitted(item) => match self.send((item, prepared), now, pass).await {
                    AttemptResult::To(outcome) if outcome.tried.is_some() => Outcome { place, ..outcome },
                    AttemptResult::To(outcome) => outcome,
                    AttemptResult::Back(item) => return self.put_back(item).await,
                },
                Admission::Suppressed(outcome) => outcome,
            },
        };
        self.outcomes.record(outcome).await;
    }

    /// Makes one attempt, if the delivery could be built.
    async fn send(
        &self,
        (item, prepared): (QueuedMessage, Result<Delivery, PreparationFailure>),
        now: Timestamp,
        pass: Permit,
    ) -> AttemptResult {
        match prepared {
            Ok(delivery) => self.attempter.attempt(item, delivery, now, pass).await,
            Err((class, why)) => AttemptResult::To(item.fail(class, now, why)),
        }
    }

    /// Puts a message that was taken back into its lane, because it cannot be sent now. A message that was cancelled
    /// meanwhile ends instead.
    async fn put_back(&self, item: QueuedMessage) {
        let withdrawn = self.lanes.put_back(item.origin.priority(), item.lease.mailing, item);
        self.outcomes.cancel(withdrawn, self.clock.now()).await;
    }
}
