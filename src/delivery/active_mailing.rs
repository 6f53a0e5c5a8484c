//! An active mailing on this node.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::rate_limiter::Slots;
use super::sync::{Mutex, MutexGuard};
use crate::clock::Clock;
use crate::db::types::{MailingId, Timestamp};
use crate::kinds::{ChannelKind, Priority};
use crate::mailings::filter::{Range, RequiredAddresses};
use crate::mailings::model::{Mailing, MailingStatus};
use crate::templates::Variants;

/// The state of a mailing, which decides how its messages are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailingState {
    /// Messages are sent.
    Running,
    /// Messages are held back.
    Paused,
    /// The window has closed: messages expire.
    Closed,
    /// Messages are cancelled.
    Cancelled,
}

/// The reason why an attempt was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The provider did not respond in time.
    TimedOut,
    /// The window closed.
    WindowClosed,
}

/// An active mailing on this node.
#[derive(Debug)]
pub struct ActiveMailing {
    /// The mailing's id.
    pub id: MailingId,
    /// The number by which its messages refer to it.
    pub number: i32,
    /// The channel.
    pub channel: ChannelKind,
    /// The priority, which selects the lane.
    pub priority: Priority,
    /// The time at which its messages were due: the requested start, or the time of its creation if that is later.
    pub due_at: Timestamp,
    /// The parts of its audience.
    pub ranges: Arc<[Range]>,
    /// The addresses that its audience must have.
    pub reachable: RequiredAddresses,
    /// The content, or the reason why it cannot be parsed.
    pub content: Result<Variants, String>,
    /// The group that its recipients may opt out of.
    pub group: Option<String>,
    /// True if recipients cannot opt out of it.
    pub is_transactional: bool,
    ends_at: AtomicI64,
    /// Notified when the end of the window moves.
    moved: Notify,
    status: AtomicU8,
    walked: AtomicBool,
    schedule: Mutex<Slots>,
}

impl ActiveMailing {
    /// Creates it from the stored mailing and its number.
    pub fn new(mailing: Mailing, number: i32) -> Self {
        let content = mailing.content().map_err(|why| why.to_string());
        let run = Self {
            id: mailing.id,
            number,
            channel: mailing.channel,
            priority: mailing.priority,
            due_at: mailing.starts_at.max(mailing.created_at),
            ranges: mailing.filter.ranges().into(),
            reachable: mailing.filter.reachable(),
            content,
            group: mailing.group,
            is_transactional: mailing.transactional,
            ends_at: AtomicI64::new(0),
            moved: Notify::new(),
            status: AtomicU8::new(0),
            walked: AtomicBool::new(false),
            schedule: Mutex::new(Slots::new(mailing.rate_per_second)),
        };
        run.refresh(mailing.status, mailing.ends_at, false, mailing.rate_per_second);
        run
    }

    /// Updates the properties that may change while it runs. Returns true if its rate changed.
    pub fn refresh(
        &self,
        status: MailingStatus,
        ends_at: Timestamp,
        walked: bool,
        rate: Option<f64>,
    ) -> bool {
        if self.ends_at.swap(ends_at.micros(), Ordering::AcqRel) != ends_at.micros() {
            self.moved.notify_waiters();
        }
        self.set_status(status);
        self.walked.store(walked, Ordering::Release);
        self.schedule().set(rate)
    }

    /// Sets the status.
    pub fn set_status(&self, status: MailingStatus) {
        self.status.store(u8::try_from(status.code()).unwrap_or_default(), Ordering::Release);
    }

    /// Returns the schedule of its own rate.
    pub fn schedule(&self) -> MutexGuard<'_, Slots> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the end of its window.
    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_micros(self.ends_at.load(Ordering::Acquire))
    }

    /// Waits until an attempt that begins now has to be aborted: after `timeout`, or at the end of the window, which
    /// may move meanwhile.
    pub async fn end_of_attempt(&self, clock: &Clock, timeout: Duration) -> AttemptEnd {
        let times_out_at = Instant::now() + timeout;
        loop {
            // registered before reading the end, so that a change in between is not missed
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            let left = self.ends_at().since(clock.now());
            if left.is_zero() {
                return AttemptEnd::WindowClosed;
            }
            let closes_at = Instant::now() + left;
            tokio::select! {
                () = sleep_until(times_out_at.min(closes_at)) => if times_out_at < closes_at {
                    return AttemptEnd::TimedOut;
                },
                () = moved => {}
            }
        }
    }

    /// Returns true if its audience is exhausted: all its clients are planned.
    pub fn is_audience_exhausted(&self) -> bool {
        self.walked.load(Ordering::Acquire)
    }

    /// Marks its audience as exhausted.
    pub fn set_audience_exhausted(&self) {
        self.walked.store(true, Ordering::Release);
    }

    /// Returns its state at `now`.
    pub fn state(&self, now: Timestamp) -> MailingState {
        let status = MailingStatus::from_code(i16::from(self.status.load(Ordering::Acquire)));
        match status {
            Ok(MailingStatus::Cancelled) => MailingState::Cancelled,
            Ok(_) | Err(_) if now >= self.ends_at() => MailingState::Closed,
            Ok(MailingStatus::Running) => MailingState::Running,
            // a status that a later version wrote also holds the messages back
            Ok(MailingStatus::Pending | MailingStatus::Paused | MailingStatus::Finished) | Err(_) => {
                MailingState::Paused
            }
        }
    }

    /// Returns true if its texts are sent unchanged to all recipients.
    pub fn is_plain(&self) -> bool {
        self.content.as_ref().is_ok_and(|variants| variants.all().all(|variant| variant.content.is_plain()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::lanes::tests::mailing;
    use proptest::prelude::*;

    fn run(ends_at: i64) -> ActiveMailing {
        ActiveMailing::new(
            Mailing { ends_at: Timestamp::from_micros(ends_at), ..mailing(Priority::Normal, None) },
            1,
        )
    }

    proptest! {
        /// For any changes of status and end: no message is sent at or after the present end, nor during a pause, and a
        /// cancelled mailing stays cancelled at any time.
        #[test]
        fn nothing_is_sent_outside_the_window_or_in_another_state(
            first in 0i64..100, steps in proptest::collection::vec((0u8..4, 0i64..100, 0i64..100), 1..40),
        ) {
            use MailingStatus::{Cancelled, Paused, Running};
            let run = run(first);
            let (mut status, mut ends_at) = (Running, first);
            for (step, end, now) in steps {
                (status, ends_at) = match step {
                    0 => (Running, end),
                    1 => (Paused, end),
                    2 => (Cancelled, end),
                    _ => (status, ends_at),
                };
                run.refresh(status, Timestamp::from_micros(ends_at), false, None);
                let expected = match status {
                    Cancelled => MailingState::Cancelled,
                    _ if now >= ends_at => MailingState::Closed,
                    Paused => MailingState::Paused,
                    Running => MailingState::Running,
                    MailingStatus::Pending | MailingStatus::Finished => unreachable!("no step sets it"),
                };
                prop_assert_eq!(run.state(Timestamp::from_micros(now)), expected);
            }
        }
    }
}
