//! What recipients wish, applied to their messages: when these come into a lane, so that what is not wanted takes no
//! turn of the channel's rate from others, and again just before the attempt.

use std::sync::Arc;

use super::model::{CLIENT_DELETED, Item, OpenPage, Outcome, RunState};
use super::shared::Shared;
use crate::db::types::Timestamp;
use crate::kinds::{ChannelKind, OutcomeKind, Priority};
use crate::preferences::model::Fate;

/// Recorded with a message that waits for the end of its recipient's quiet hours.
pub const QUIET: &str = "the client is left alone at this hour";
/// Recorded with a message that could only wait past its time.
pub const QUIET_TOO_LONG: &str = "the client is left alone until it is too late";

/// A message whose recipient was heard.
pub enum Heeded {
    /// Nothing is against it.
    Wanted(Item),
    /// It is not sent, or not now.
    Unwanted(Outcome),
}

impl Shared {
    /// What the wishes of its recipient make of a message at `now`.
    pub fn heed(&self, item: Item, now: Timestamp) -> Heeded {
        if item.is_erased() {
            return Heeded::Unwanted(item.close(OutcomeKind::Cancelled, now, CLIENT_DELETED));
        }
        let (channel, zone) = (item.origin.channel(), self.settings.quiet_zone);
        let fate = match &item.wishes {
            Some(wishes) => {
                let kind = (item.origin.group(), item.origin.is_transactional());
                wishes.fate(channel, kind, (now, zone))
            }
            None => Fate::Wanted,
        };
        let (counter, outcome) = match fate {
            Fate::Wanted => return Heeded::Wanted(item),
            Fate::OptedOut(why) => (&self.metrics.opted_out, item.close(OutcomeKind::Cancelled, now, why)),
            Fate::Quiet(until) if item.origin.ends_at().is_some_and(|end| until >= end) => {
                return Heeded::Unwanted(item.close(OutcomeKind::Expired, now, QUIET_TOO_LONG));
            }
            Fate::Quiet(until) => (&self.metrics.deferred, item.defer(now, until, QUIET)),
        };
        counter.with_label_values(&[channel.as_str()]).inc();
        Heeded::Unwanted(outcome)
    }

    /// Puts the messages of a stored page into their lane, and records what becomes of those that are not wanted now.
    pub async fn admit(&self, page: &Arc<OpenPage>, lane: (ChannelKind, Priority), items: Vec<Item>) {
        let (now, mut unwanted) = (self.now(), Vec::new());
        let heard = items.into_iter().filter_map(|item| {
            // of a mailing that is paused or over something else becomes
            if item.wishes.is_none() || item.origin.state(now) != RunState::Running {
                return Some(item);
            }
            match self.heed(item, now) {
                Heeded::Wanted(item) => Some(item),
                Heeded::Unwanted(outcome) => {
                    unwanted.push(outcome);
                    None
                }
            }
        });
        let items = heard.collect();
        // first, since the page goes from what is in hand with its last outcome
        self.push(page, lane, items);
        for outcome in unwanted {
            self.record(outcome).await;
        }
    }
}
