//! The origin of a message: a mailing, whose messages share a text and a window, or a standalone notification or
//! request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::active_mailing::{ActiveMailing, AttemptEnd, MailingState};
use super::retry::RetryPolicy;
use crate::channels::RequestSpec;
use crate::clock::Clock;
use crate::db::types::{BatchId, EventId, MailingId, Timestamp};
use crate::kinds::{ChannelKind, Priority};
use crate::templates::Filled;

/// A standalone message in a lane: a notification or a request, with its content.
#[derive(Debug)]
pub struct Standalone {
    /// The channel.
    pub channel: ChannelKind,
    /// The priority, which selects the lane.
    pub priority: Priority,
    /// The batch of the notification.
    pub batch: Option<BatchId>,
    /// The event that caused it.
    pub event: Option<EventId>,
    /// The rendered content.
    pub content: Filled,
    /// A JSON object for the recipient's program.
    pub data: Option<Arc<str>>,
    /// The HTTP request that is sent instead of a text.
    pub request: Option<Arc<RequestSpec>>,
    /// The time from which it is not sent any more.
    pub expires_at: Option<Timestamp>,
    /// Its own retry schedule.
    pub retry: Option<RetryPolicy>,
    /// The group that its recipient may opt out of.
    pub group: Option<String>,
    /// True if recipients cannot opt out of it.
    pub is_transactional: bool,
    /// True if a caller waits for its final state, perhaps at another node.
    pub is_awaited: bool,
}

/// The origin of a message.
#[derive(Debug)]
pub enum Origin {
    /// A mailing.
    Mailing(Arc<ActiveMailing>),
    /// A standalone message.
    Standalone(Box<Standalone>),
}

impl Origin {
    /// Returns the channel.
    pub fn channel(&self) -> ChannelKind {
        match self {
            Self::Mailing(run) => run.channel,
            Self::Standalone(single) => single.channel,
        }
    }

    /// Returns true if its text needs no rendering: the mailing's text has no tags, or the text was rendered when the
    /// message was accepted.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Mailing(run) => run.is_plain(),
            Self::Standalone(_) => true,
        }
    }

    /// Returns the priority, which selects the lane.
    pub fn priority(&self) -> Priority {
        match self {
            Self::Mailing(run) => run.priority,
            Self::Standalone(single) => single.priority,
        }
    }

    /// Returns the mailing, if there is one.
    pub fn mailing(&self) -> Option<MailingId> {
        match self {
            Self::Mailing(run) => Some(run.id),
            Self::Standalone(_) => None,
        }
    }

    /// Returns the group that its recipient may opt out of.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Mailing(run) => run.group.as_deref(),
            Self::Standalone(single) => single.group.as_deref(),
        }
    }

    /// Returns true if recipients cannot opt out of it.
    pub fn is_transactional(&self) -> bool {
        match self {
            Self::Mailing(run) => run.is_transactional,
            Self::Standalone(single) => single.is_transactional,
        }
    }

    /// Returns the event that caused it, if there is one.
    pub fn event(&self) -> Option<EventId> {
        match self {
            Self::Mailing(_) => None,
            Self::Standalone(single) => single.event,
        }
    }

    /// Returns the state at `now`, which decides how its messages are handled.
    pub fn state(&self, now: Timestamp) -> MailingState {
        match self {
            Self::Mailing(run) => run.state(now),
            Self::Standalone(single) if single.expires_at.is_some_and(|end| now >= end) => {
                MailingState::Closed
            }
            Self::Standalone(_) => MailingState::Running,
        }
    }

    /// Returns the time from which it may not be sent any more.
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::Mailing(run) => Some(run.ends_at()),
            Self::Standalone(single) => single.expires_at,
        }
    }

    /// Returns the time at which its mailing's own rate allows the next message, if that is after `now`.
    pub fn later_than(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Mailing(run) => run.schedule().later_than(now),
            Self::Standalone(_) => None,
        }
    }

    /// Uses a slot of the mailing's own rate at `now`.
    pub fn advance(&self, now: Instant) {
        if let Self::Mailing(run) = self {
            run.schedule().advance(now);
        }
    }

    /// Waits until an attempt that begins now has to be aborted: after `timeout`, or at [`Origin::ends_at`].
    pub async fn end_of_attempt(&self, clock: &Clock, timeout: Duration) -> AttemptEnd {
        match self {
            Self::Mailing(run) => run.end_of_attempt(clock, timeout).await,
            Self::Standalone(single) => {
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
