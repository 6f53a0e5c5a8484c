//! The claimer: claims due messages in bulk, and sleeps until the next one is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::active_mailings::ActiveMailings;
use super::admitter::Admitter;
use super::leases::{HeldLease, HeldLeases};
use super::model::QueuedMessage;
use super::origin::{Origin, Standalone};
use super::outcomes::OutcomeSender;
use super::queues::Queues;
use super::repo::claim::{self, Claimed, LaneBatch};
use super::repo::expire;
use super::retry::RetryPolicy;
use crate::db::types::{ClientId, MessageId};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, NotificationStatus, OutcomeKind, Priority};
use crate::lifecycle::Shutdown;
use crate::live::Change;
use crate::mailings::recipient::Recipient;
use crate::messages::repo::MessageRow;
use crate::notifications::repo::StoredContent;
use crate::preferences::repo::PreferenceLookup;
use crate::requests::repo::{Ended, StoredRequest};
use crate::runtime::Runtime;
use crate::templates::Filled;

/// Claims due messages.
pub struct Claimer {
    pub(super) runtime: Runtime,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) admitter: Admitter,
    pub(super) outcomes: OutcomeSender,
    pub(super) wake: Arc<Notify>,
    pub(super) poll: Duration,
    /// The largest number of messages claimed or expired in one transaction.
    pub(super) batch: usize,
}

impl Claimer {
    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = match self.run_once().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "due messages could not be claimed; trying again");
                    self.poll
                }
            };
            shutdown.rest(&self.wake, pause).await;
        }
    }

    /// Claims one batch for each lane with due messages. Returns the time until there may be more.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&self) -> Result<Duration> {
        let mut pause = self.poll;
        // read before claiming, which is a write: usually nothing is due
        let next = self.runtime.db.read(|c| Ok((claim::next_due(c)?, expire::next(c)?))).await?;
        let (firsts, expiry) = next;
        let now = self.runtime.clock.now();
        if let Some(at) = expiry {
            if at > now {
                pause = pause.min(at.since(now));
            } else if self.expire().await? {
                pause = Duration::ZERO;
            }
        }
        for (channel, priority, due_at) in firsts {
            let Some(lanes) = self.queues.lanes(channel) else { continue };
            let rest = self.queues.rest(channel);
            if !rest.is_zero() {
                pause = pause.min(rest);
            } else if due_at > now {
                pause = pause.min(due_at.since(now));
            } else {
                // one batch for each lane: a long queue of one priority must not delay the claim of an urgent message
                let has_more = self.claim(channel, priority, lanes.room(priority)).await?;
                // a full lane is polled again soon
                pause = if has_more { Duration::ZERO } else { pause.min(Duration::from_millis(20)) };
            }
        }
        Ok(pause)
    }

    /// Expires waiting messages. Returns true if there may be more.
    async fn expire(&self) -> Result<bool> {
        let Runtime { db, clock, metrics, live } = &self.runtime;
        let (limit, now) = (self.batch, clock.now());
        let expired = db.write(move |c| expire::expire(c, now, limit)).await?;
        let Ended { requests, reports } = expired.requests;
        // the reports are due at once
        let more = expired.notifications.len() + requests == limit || reports > 0;
        metrics.ended(ChannelKind::Request, OutcomeKind::Expired, requests);
        metrics.entered(ChannelKind::Request, reports);
        for change in expired.notifications {
            metrics.ended(change.channel, OutcomeKind::Expired, 1);
            live.publish(&change, true);
        }
        Ok(more)
    }

    /// Claims one batch. Returns true if there may be more for which the lane has room.
    async fn claim(&self, channel: ChannelKind, priority: Priority, room: usize) -> Result<bool> {
        let limit = self.batch.min(room);
        let lot = LaneBatch { node: self.leases.node(), channel, priority, limit };
        let now = self.runtime.clock.now();
        if limit == 0 || !self.leases.may_take(now) {
            return Ok(false);
        }
        // until the leases are in memory, the feeder must not mistake them for leases without an owner
        let _adopting = self.leases.adopting().await;
        let claimed = self.runtime.db.write(move |c| claim::claim(c, lot, now)).await?;
        let count: usize = claimed.iter().map(|lease| lease.rows.len()).sum();
        for lease in claimed {
            failpoint::reach("claim-after-commit");
            self.admit(lease).await?;
        }
        Ok(count == limit && room > limit)
    }

    async fn admit(&self, claimed: Claimed) -> Result<()> {
        let Claimed { lease, rows, attempts_before, recipients, contents, requests, preferences, cancelled } =
            claimed;
        let rows = rows.into_iter().map(|row| {
            let before = attempts_before.get(&row.id).copied().unwrap_or_default();
            (row, before)
        });
        let rows: Vec<(MessageRow, i16)> = rows.collect();
        let open = Arc::new(HeldLease::new(lease.id, lease.node, lease.mailing, rows.len()));
        let lane = (lease.channel, lease.priority);
        let items: Vec<QueuedMessage> = match lease.mailing {
            Some(mailing) => {
                let run = self.mailings.load(mailing).await?;
                let mut recipients: HashMap<ClientId, Recipient> =
                    recipients.into_iter().map(|r| (r.client_id, r)).collect();
                let items = rows.into_iter().map(|(row, before)| {
                    let recipient = row.client_id.and_then(|id| recipients.remove(&id));
                    let preferences = preferences.by(row.client_id, &row.recipient);
                    let origin = Origin::Mailing(Arc::clone(&run));
                    QueuedMessage::from_row(
                        (row, before),
                        Arc::clone(&open),
                        origin,
                        (recipient, preferences),
                    )
                });
                items.collect()
            }
            None if lease.channel == ChannelKind::Request => requested(&open, lease.priority, rows, requests),
            None => self.singles(&open, lane, rows, (contents, preferences)),
        };
        let (cancelled, items): (Vec<QueuedMessage>, Vec<QueuedMessage>) =
            items.into_iter().partition(|item| cancelled.contains(&item.id));
        self.admitter.admit(&open, lane, items).await;
        self.outcomes.cancel(cancelled, self.runtime.clock.now()).await;
        Ok(())
    }

    /// Builds the lane items of notifications, and publishes that they are being processed.
    fn singles(
        &self,
        open: &Arc<HeldLease>,
        (channel, priority): (ChannelKind, Priority),
        rows: Vec<(MessageRow, i16)>,
        (mut contents, preferences): (HashMap<MessageId, StoredContent>, PreferenceLookup),
    ) -> Vec<QueuedMessage> {
        let at = self.runtime.clock.now();
        let items = rows.into_iter().map(|(row, before)| {
            let content = contents.remove(&row.id).unwrap_or_default();
            let single = Standalone {
                channel,
                priority,
                batch: content.batch_id,
                event: content.event_id,
                content: Filled { subject: content.subject, text: content.text, html: content.html },
                data: content.data.map(Arc::from),
                request: None,
                expires_at: row.expires_at,
                retry: content.retry.as_deref().and_then(RetryPolicy::from_json),
                group: content.group,
                is_transactional: content.is_transactional,
                is_awaited: content.is_awaited,
            };
            let (id, batch, attempts) = (row.id, content.batch_id, row.attempts);
            let change = Change { id, batch, channel, status: NotificationStatus::Processing, attempts, at };
            self.runtime.live.publish(&change, false);
            let preferences = preferences.by(row.client_id, &row.recipient);
            QueuedMessage::from_row(
                (row, before),
                Arc::clone(open),
                Origin::Standalone(Box::new(single)),
                (None, preferences),
            )
        });
        items.collect()
    }
}

/// Builds the lane items of requests, which have no subscribers.
fn requested(
    open: &Arc<HeldLease>,
    priority: Priority,
    rows: Vec<(MessageRow, i16)>,
    mut requests: HashMap<MessageId, StoredRequest>,
) -> Vec<QueuedMessage> {
    let items = rows.into_iter().map(|(row, before)| {
        let asking = requests.remove(&row.id).unwrap_or_default();
        let single = Standalone {
            channel: ChannelKind::Request,
            priority,
            batch: None,
            event: None,
            content: Filled::default(),
            data: None,
            // a request that cannot be parsed fails at its attempt
            request: serde_json::from_str(&asking.spec).ok().map(Arc::new),
            expires_at: row.expires_at,
            retry: asking.retry.as_deref().and_then(RetryPolicy::from_json),
            group: None,
            is_transactional: true,
            is_awaited: false,
        };
        QueuedMessage::from_row(
            (row, before),
            Arc::clone(open),
            Origin::Standalone(Box::new(single)),
            (None, None),
        )
    });
    items.collect()
}
