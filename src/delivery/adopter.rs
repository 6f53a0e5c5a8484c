//! Takes over leases without an owner.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::active_mailing::{ActiveMailing, MailingState};
use super::active_mailings::ActiveMailings;
use super::admitter::Admitter;
use super::leases::{HeldLease, HeldLeases};
use super::model::QueuedMessage;
use super::origin::Origin;
use super::queues::Queues;
use super::repo::claim::LaneBatch;
use super::repo::take_over::{self, TakenOver};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{ClientId, MailingId};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, Priority};
use crate::mailings::recipient::Recipient;

/// The number of leases of one lane taken over in one transaction.
const TAKE_OVER: usize = 4;

/// Takes over mailings' leases without an owner, as far as the lanes have room.
pub struct Adopter {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) admitter: Admitter,
    /// The lanes that may have leases without an owner, which are taken over before new ones are planned.
    pub(super) left_over: BTreeSet<(ChannelKind, Priority)>,
}

impl Adopter {
    /// Notes lanes that have leases without an owner.
    pub fn note(&mut self, lanes: impl IntoIterator<Item = (ChannelKind, Priority)>) {
        self.left_over.extend(lanes);
    }

    /// Notes all lanes, because leases were released.
    pub fn note_all(&mut self) {
        self.left_over = self.queues.all_lanes().collect();
    }

    /// Returns true if the lane may have leases without an owner.
    pub fn is_left_over(&self, lane: (ChannelKind, Priority)) -> bool {
        self.left_over.contains(&lane)
    }

    /// Takes over leases without an owner, for every lane that has room. Returns true if there may be more.
    ///
    /// # Errors
    /// Database errors.
    pub async fn take_over(&mut self) -> Result<bool> {
        let mut more = false;
        for lane in self.left_over.clone() {
            let has_room = self.queues.lanes(lane.0).is_some_and(|lanes| lanes.has_room(lane.1));
            // for a channel with an open circuit breaker, only the mailings that are to be closed
            let only = (!self.queues.rest(lane.0).is_zero()).then(|| self.ending(lane));
            let is_wanted = only.as_ref().is_none_or(|mailings| !mailings.is_empty());
            if has_room && is_wanted && self.leases.may_take(self.clock.now()) {
                if self.take_over_into(lane, only).await? {
                    more = true;
                } else {
                    self.left_over.remove(&lane);
                }
            }
        }
        Ok(more)
    }

    /// Returns the mailings of a lane that are cancelled or past their window.
    fn ending(&self, lane: (ChannelKind, Priority)) -> Vec<MailingId> {
        let now = self.clock.now();
        let is_ending = |run: &Arc<ActiveMailing>| {
            (run.channel, run.priority) == lane
                && matches!(run.state(now), MailingState::Closed | MailingState::Cancelled)
        };
        self.mailings.all().iter().filter(|run| is_ending(run)).map(|run| run.id).collect()
    }

    /// Takes over leases of one lane, or `only` those of these mailings. Returns true if there were any.
    async fn take_over_into(
        &self,
        lane: (ChannelKind, Priority),
        only: Option<Vec<MailingId>>,
    ) -> Result<bool> {
        let _adopting = self.leases.adopting().await;
        let (held, now) = (self.leases.held(), self.clock.now());
        let lot = LaneBatch { node: self.leases.node(), channel: lane.0, priority: lane.1, limit: TAKE_OVER };
        let taken =
            self.db.write(move |c| take_over::take_over(c, lot, (&held, only.as_deref()), now)).await?;
        let any = !taken.is_empty();
        for lease in taken {
            failpoint::reach("take-over-after-commit");
            tracing::info!(lease = %lease.lease.id, messages = lease.open.len(), "lease taken over");
            self.admit(lease).await?;
        }
        Ok(any)
    }

    async fn admit(&self, taken: TakenOver) -> Result<()> {
        let Some(mailing) = taken.lease.mailing else {
            return Ok(());
        };
        let run = self.mailings.load(mailing).await?;
        let lease =
            Arc::new(HeldLease::new(taken.lease.id, taken.lease.node, taken.lease.mailing, taken.open.len()));
        let mut recipients: HashMap<ClientId, Recipient> =
            taken.recipients.into_iter().map(|r| (r.client_id, r)).collect();
        let before = taken.attempts_before;
        let items = taken.open.into_iter().map(|(member, row)| {
            let recipient = member.client.and_then(|id| recipients.remove(&id));
            let preferences = member.client.and_then(|id| taken.preferences.get(&id).cloned());
            let (lease, origin) = (Arc::clone(&lease), Origin::Mailing(Arc::clone(&run)));
            match row {
                Some(row) => {
                    let before = before.get(&row.id).copied().unwrap_or_default();
                    QueuedMessage::from_row((row, before), lease, origin, (recipient, preferences))
                }
                None => QueuedMessage {
                    id: member.message,
                    lease,
                    origin,
                    client: member.client,
                    recipient,
                    preferences,
                    address: None,
                    attempts: 0,
                    attempts_before: 0,
                    revision: 0,
                    due_at: run.due_at,
                },
            }
        });
        let items = items.collect();
        self.admitter.admit(&lease, (run.channel, run.priority), items).await;
        Ok(())
    }
}
