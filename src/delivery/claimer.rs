//! The claimer: takes due messages in bulk, and sleeps until the next is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Item, OpenPage};
use super::origin::{Origin, Single};
use super::repo::claim::{self, Claimed, Lot};
use super::repo::expire;
use super::retry::RetryPolicy;
use super::shared::Shared;
use crate::db::types::{ClientId, MessageId};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, NotificationStatus, OutcomeKind, Priority};
use crate::lifecycle::Shutdown;
use crate::live::Change;
use crate::mailings::recipient::Recipient;
use crate::messages::repo::MessageRow;
use crate::notifications::repo::Content;
use crate::preferences::repo::Known;
use crate::requests::repo::{Asking, Ended};
use crate::templates::Filled;

/// Claims what is due.
pub struct Claimer {
    shared: Arc<Shared>,
}

impl Claimer {
    /// For this engine.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = match self.run_once().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "due messages could not be claimed; trying again");
                    self.shared.settings.claim_poll
                }
            };
            shutdown.rest(&self.shared.claim, pause).await;
        }
    }

    /// Claims one lot for each lane that has due messages; returns the time until there may be more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&self) -> Result<Duration> {
        let shared = &self.shared;
        let mut pause = shared.settings.claim_poll;
        // looked at before claiming, which is a write: usually nothing is due
        let next = shared.db.read(|c| Ok((claim::next_due(c)?, expire::next(c)?))).await?;
        let (firsts, expiry) = next;
        let now = shared.now();
        if let Some(at) = expiry {
            if at > now {
                pause = pause.min(at.since(now));
            } else if self.expire().await? {
                pause = Duration::ZERO;
            }
        }
        for (channel, priority, due_at) in firsts {
            let Some(lanes) = shared.lanes.get(&channel) else { continue };
            let rest = shared.rest(channel);
            if !rest.is_zero() {
                pause = pause.min(rest);
            } else if due_at > now {
                pause = pause.min(due_at.since(now));
            } else {
                // one lot for each lane: a long queue of one priority must not keep an urgent message from being found
                let has_more = self.claim(channel, priority, lanes.room(priority)).await?;
                // a full lane is looked at again soon
                pause = if has_more { Duration::ZERO } else { pause.min(Duration::from_millis(20)) };
            }
        }
        Ok(pause)
    }

    /// Lets waiting messages expire whose time has come; answers whether there may be more.
    async fn expire(&self) -> Result<bool> {
        let (shared, now) = (&self.shared, self.shared.now());
        let limit = shared.settings.page_size;
        let expired = shared.db.write(move |c| expire::expire(c, now, limit)).await?;
        let Ended { requests, reports } = expired.requests;
        // the reports are due at once
        let more = expired.notifications.len() + requests == limit || reports > 0;
        shared.count(ChannelKind::Request, OutcomeKind::Expired, requests);
        shared.count_reports(reports);
        for change in expired.notifications {
            shared.count(change.channel, OutcomeKind::Expired, 1);
            shared.live.publish(&change, true);
        }
        Ok(more)
    }

    /// Claims one lot; answers whether there may be more that the lane takes.
    async fn claim(&self, channel: ChannelKind, priority: Priority, room: usize) -> Result<bool> {
        let limit = self.shared.settings.page_size.min(room);
        let lot = Lot { node: self.shared.pages.node(), channel, priority, limit };
        if limit == 0 || !self.shared.lease.is_held(self.shared.now()) {
            return Ok(false);
        }
        let now = self.shared.now();
        // until the pages are in hand, the feeder must not take them for forgotten ones
        let _adopting = self.shared.adopting.lock().await;
        let claimed = self.shared.db.write(move |c| claim::claim(c, lot, now)).await?;
        let count: usize = claimed.iter().map(|page| page.rows.len()).sum();
        for page in claimed {
            failpoint::reach("claim-after-commit");
            self.admit(page).await?;
        }
        Ok(count == limit && room > limit)
    }

    async fn admit(&self, claimed: Claimed) -> Result<()> {
        let Claimed { page, rows, attempts_before, recipients, contents, requests, wishes, cancelled } =
            claimed;
        let rows = rows.into_iter().map(|row| {
            let before = attempts_before.get(&row.id).copied().unwrap_or_default();
            (row, before)
        });
        let rows: Vec<(MessageRow, i16)> = rows.collect();
        let open = Arc::new(OpenPage::new(page.id, page.node, page.mailing, rows.len()));
        let lane = (page.channel, page.priority);
        let items: Vec<Item> = match page.mailing {
            Some(mailing) => {
                let run = self.shared.run(mailing).await?;
                let mut recipients: HashMap<ClientId, Recipient> =
                    recipients.into_iter().map(|r| (r.client_id, r)).collect();
                let items = rows.into_iter().map(|(row, before)| {
                    let recipient = row.client_id.and_then(|id| recipients.remove(&id));
                    let wishes = wishes.by(row.client_id, &row.recipient);
                    let origin = Origin::Mailing(Arc::clone(&run));
                    Item::of_row((row, before), Arc::clone(&open), origin, (recipient, wishes))
                });
                items.collect()
            }
            None if page.channel == ChannelKind::Request => requested(&open, page.priority, rows, requests),
            None => self.singles(&open, lane, rows, (contents, wishes)),
        };
        let (cancelled, items): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| cancelled.contains(&item.id));
        self.shared.admit(&open, lane, items).await;
        self.shared.cancel(cancelled).await;
        Ok(())
    }

    /// Notifications, whose watchers learn that they are being sent.
    fn singles(
        &self,
        open: &Arc<OpenPage>,
        (channel, priority): (ChannelKind, Priority),
        rows: Vec<(MessageRow, i16)>,
        (mut contents, wishes): (HashMap<MessageId, Content>, Known),
    ) -> Vec<Item> {
        let at = self.shared.now();
        let items = rows.into_iter().map(|(row, before)| {
            let content = contents.remove(&row.id).unwrap_or_default();
            let single = Single {
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
            self.shared.live.publish(&change, false);
            let wishes = wishes.by(row.client_id, &row.recipient);
            Item::of_row((row, before), Arc::clone(open), Origin::Single(Box::new(single)), (None, wishes))
        });
        items.collect()
    }
}

/// Requests; nobody watches them.
fn requested(
    open: &Arc<OpenPage>,
    priority: Priority,
    rows: Vec<(MessageRow, i16)>,
    mut requests: HashMap<MessageId, Asking>,
) -> Vec<Item> {
    let items = rows.into_iter().map(|(row, before)| {
        let asking = requests.remove(&row.id).unwrap_or_default();
        let single = Single {
            channel: ChannelKind::Request,
            priority,
            batch: None,
            event: None,
            content: Filled::default(),
            data: None,
            // one that cannot be read fails when it is to be sent
            request: serde_json::from_str(&asking.spec).ok().map(Arc::new),
            expires_at: row.expires_at,
            retry: asking.retry.as_deref().and_then(RetryPolicy::from_json),
            group: None,
            is_transactional: true,
            is_awaited: false,
        };
        Item::of_row((row, before), Arc::clone(open), Origin::Single(Box::new(single)), (None, None))
    });
    items.collect()
}
