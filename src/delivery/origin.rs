//! What a message comes from: a mailing, whose messages share one text and one window, or a notification, which is alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::model::{AttemptEnd, Run, RunState};
use super::retry::RetryPolicy;
use crate::channels::request::Spec;
use crate::clock::Clock;
use crate::db::types::{BatchId, EventId, MailingId, Timestamp};
use crate::kinds::{ChannelKind, Priority};
use crate::templates::Filled;

/// A notification in a lane: what its row and its content say.
#[derive(Debug)]
pub struct Single {
    /// How it goes out.
    pub channel: ChannelKind,
    /// Which lane it waits in.
    pub priority: Priority,
    /// The batch that it came in.
    pub batch: Option<BatchId>,
    /// The event that caused it.
    pub event: Option<EventId>,
    /// What it says.
    pub content: Filled,
    /// A JSON object for the recipient's program.
    pub data: Option<Arc<str>>,
    /// What is sent in place of a text.
    pub request: Option<Arc<Spec>>,
    /// It is not sent at or after this time.
    pub expires_at: Option<Timestamp>,
    /// Its own schedule of further attempts.
    pub retry: Option<RetryPolicy>,
    /// What its recipient may opt out of.
    pub group: Option<String>,
    /// Nobody may opt out of it.
    pub is_transactional: bool,
    /// Whether somebody waits for its end, perhaps at another node.
    pub is_awaited: bool,
}

/// What a message comes from.
#[derive(Debug)]
pub enum Origin {
    /// One of a mailing's.
    Mailing(Arc<Run>),
    /// One by itself.
    Single(Box<Single>),
}

impl Origin {
    /// How it goes out.
    pub fn channel(&self) -> ChannelKind {
        match self {
            Self::Mailing(run) => run.channel,
            Self::Single(single) => single.channel,
        }
    }

    /// Returns whether its text needs no filling: it is a mailing's without tags, or was filled when it was accepted.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Mailing(run) => run.is_plain(),
            Self::Single(_) => true,
        }
    }

    /// Which lane it waits in.
    pub fn priority(&self) -> Priority {
        match self {
            Self::Mailing(run) => run.priority,
            Self::Single(single) => single.priority,
        }
    }

    /// Which mailing, if it is of one.
    pub fn mailing(&self) -> Option<MailingId> {
        match self {
            Self::Mailing(run) => Some(run.id),
            Self::Single(_) => None,
        }
    }

    /// What its recipient may opt out of.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Mailing(run) => run.group.as_deref(),
            Self::Single(single) => single.group.as_deref(),
        }
    }

    /// Whether nobody may opt out of it.
    pub fn is_transactional(&self) -> bool {
        match self {
            Self::Mailing(run) => run.is_transactional,
            Self::Single(single) => single.is_transactional,
        }
    }

    /// Which event, if one caused it.
    pub fn event(&self) -> Option<EventId> {
        match self {
            Self::Mailing(_) => None,
            Self::Single(single) => single.event,
        }
    }

    /// What may be done with it at `now`.
    pub fn state(&self, now: Timestamp) -> RunState {
        match self {
            Self::Mailing(run) => run.state(now),
            Self::Single(single) if single.expires_at.is_some_and(|end| now >= end) => RunState::Closed,
            Self::Single(_) => RunState::Running,
        }
    }

    /// When it may not be sent any more.
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::Mailing(run) => Some(run.ends_at()),
            Self::Single(single) => single.expires_at,
        }
    }

    /// When its mailing's own rate lets the next one go, if that is after `now`.
    pub fn later_than(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Mailing(run) => run.schedule().later_than(now),
            Self::Single(_) => None,
        }
    }

    /// Notes that one goes at `now`.
    pub fn advance(&self, now: Instant) {
        if let Self::Mailing(run) = self {
            run.schedule().advance(now);
        }
    }

    /// Returns when an attempt that begins now is to be given up: after `timeout`, or when it may not be sent any more.
    pub async fn end_of_attempt(&self, clock: &Clock, timeout: Duration) -> AttemptEnd {
        match self {
            Self::Mailing(run) => run.end_of_attempt(clock, timeout).await,
            Self::Single(single) => {
                let left = single.expires_at.map(|end| end.since(clock.now()));
                match left.filter(|left| *left <= timeout) {
                    Some(left) => {
                        tokio::time::sleep(left).await;
                        AttemptEnd::WindowClosed
                    }
                    None => {
                        tokio::time::sleep(timeout).await;
                        AttemptEnd::TimedOut
                    }
                }
            }
        }
    }
}
