//! The engine's state in memory: active mailings, leases, the messages in them, and outcomes.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::origin::Origin;
use super::rate_limiter::Slots;
use super::sync::{Mutex, MutexGuard};
use crate::channels::request::StoredResponse;
use crate::clock::Clock;
use crate::db::types::{ClientId, LeaseId, MailingId, MessageId, NodeId, Timestamp};
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind, Priority};
use crate::mailings::filter::{Range, RequiredAddresses};
use crate::mailings::model::{Mailing, MailingStatus};
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::ClientFields;
use crate::messages::repo::MessageRow;
use crate::preferences::model::RecipientPreferences;
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

    /// Returns the fields of a client that its messages need.
    pub fn needs(&self) -> ClientFields {
        let profile = self.content.as_ref().is_ok_and(Variants::needs_reader);
        ClientFields { channel: self.channel, profile, reachable: self.reachable }
    }
}

/// The reason stored with a message whose client was deleted.
pub const CLIENT_DELETED: &str = "the client was deleted before its message was sent";

/// A lease that this node holds.
#[derive(Debug)]
pub struct HeldLease {
    /// The lease's id.
    pub id: LeaseId,
    /// The node id under which it is held: the fence.
    pub node: NodeId,
    /// The mailing of its messages.
    pub mailing: Option<MailingId>,
    tally: Mutex<LeaseCounts>,
    lost: AtomicBool,
}

#[derive(Debug)]
struct LeaseCounts {
    /// Members without a recorded outcome.
    open: usize,
    /// The open members that were returned without an attempt.
    returned: usize,
}

impl HeldLease {
    /// Creates a lease with this number of members without an outcome.
    pub fn new(id: LeaseId, node: NodeId, mailing: Option<MailingId>, open: usize) -> Self {
        Self {
            id,
            node,
            mailing,
            tally: Mutex::new(LeaseCounts { open, returned: 0 }),
            lost: AtomicBool::new(false),
        }
    }

    /// Marks the lease as lost: another node may hold it, so none of its messages may be sent any more.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Returns true if another node may hold the lease.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Counts `count` recorded outcomes, and returns the state of the lease.
    pub fn recorded(&self, count: usize) -> LeaseState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.open = tally.open.saturating_sub(count);
        tally.state()
    }

    /// Counts `count` returned members, and returns the state of the lease.
    pub fn returned(&self, count: usize) -> LeaseState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.returned += count;
        tally.state()
    }
}

/// The state of a lease on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Some members are in a lane or in flight.
    Busy,
    /// All members without an outcome were returned, so the lease can be released.
    Idle,
    /// Every member has its outcome.
    Done,
}

impl LeaseCounts {
    fn state(&self) -> LeaseState {
        match (self.open, self.returned) {
            (0, _) => LeaseState::Done,
            (open, returned) if open == returned => LeaseState::Idle,
            _ => LeaseState::Busy,
        }
    }
}

/// A message in a lane.
#[derive(Debug)]
pub struct QueuedMessage {
    /// The message's id.
    pub id: MessageId,
    /// The lease of the message.
    pub lease: Arc<HeldLease>,
    /// The mailing, or the standalone content.
    pub origin: Origin,
    /// The client's id.
    pub client: Option<ClientId>,
    /// The client as it was read; `None` if it was deleted meanwhile.
    pub recipient: Option<Recipient>,
    /// The recipient's preferences, if there are any.
    pub preferences: Option<Arc<RecipientPreferences>>,
    /// The stored address of a message that has a row.
    pub address: Option<String>,
    /// The number of previous attempts.
    pub attempts: i16,
    /// The number of attempts before the last replay, after which the retry schedule started again.
    pub attempts_before: i16,
    /// The number of recorded outcomes: 0 for a message that has no row yet.
    pub revision: i16,
    /// The time at which it was due.
    pub due_at: Timestamp,
}

/// The outcome of a message, to be recorded.
#[derive(Debug)]
pub struct Outcome {
    /// The message.
    pub item: QueuedMessage,
    /// The kind of outcome.
    pub kind: OutcomeKind,
    /// The number of attempts, including this one.
    pub attempts: i16,
    /// The time of the outcome.
    pub at: Timestamp,
    /// The time of the next attempt, for [`OutcomeKind::Retry`].
    pub due_at: Option<Timestamp>,
    /// The attempt, if there was one.
    pub tried: Option<AttemptDetails>,
    /// The reason why it was not delivered.
    pub error: Option<String>,
    /// The class of the error, for [`OutcomeKind::Failed`].
    pub class: Option<ErrorClass>,
    /// A permit for an attempt that is in flight or not recorded yet, where their number is bounded; released when the
    /// outcome is recorded.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Outcome {
    /// Returns true if the message waits again without an attempt.
    pub fn is_deferral(&self) -> bool {
        self.kind == OutcomeKind::Retry && self.tried.is_none()
    }
}

/// The stored details of an attempt.
#[derive(Debug, Clone, Default)]
pub struct AttemptDetails {
    /// The provider's HTTP status.
    pub status_code: Option<i32>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// The time from request to response, in milliseconds.
    pub duration_ms: i32,
    /// The time at which the attempt began.
    pub began: Option<Timestamp>,
    /// The whole response, where it is stored.
    pub response: Option<Arc<StoredResponse>>,
}

impl QueuedMessage {
    /// Creates the item of a message that has a row.
    pub fn from_row(
        (row, attempts_before): (MessageRow, i16),
        lease: Arc<HeldLease>,
        origin: Origin,
        (recipient, preferences): (Option<Recipient>, Option<Arc<RecipientPreferences>>),
    ) -> Self {
        Self {
            id: row.id,
            lease,
            origin,
            client: row.client_id,
            recipient,
            preferences,
            address: Some(row.recipient),
            attempts: row.attempts,
            attempts_before,
            revision: row.revision,
            due_at: row.due_at.unwrap_or_else(|| row.id.created_at()),
        }
    }

    /// Returns its address: the stored address, else the client's present one.
    ///
    /// # Errors
    /// The reason why there is no address.
    pub fn address(&self) -> Result<String, String> {
        match (&self.address, &self.recipient) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(recipient)) => recipient.address(self.origin.channel()),
            (None, None) => Err(CLIENT_DELETED.to_owned()),
        }
    }

    /// Returns true if its address was erased with its client while it waited.
    pub fn is_erased(&self) -> bool {
        self.address.as_deref() == Some("")
    }

    /// Defers it until `due_at` without an attempt.
    pub fn defer(self, at: Timestamp, due_at: Timestamp, why: impl Into<String>) -> Outcome {
        Outcome { due_at: Some(due_at), ..self.close(OutcomeKind::Retry, at, why) }
    }

    /// Ends it without an attempt.
    pub fn close(self, kind: OutcomeKind, at: Timestamp, error: impl Into<String>) -> Outcome {
        Outcome {
            attempts: self.attempts,
            item: self,
            kind,
            at,
            due_at: None,
            tried: None,
            error: Some(error.into()),
            class: None,
            place: None,
        }
    }

    /// Cancels it. The error of an earlier attempt stays with that attempt.
    pub fn cancel(self, at: Timestamp) -> Outcome {
        Outcome { error: None, ..self.close(OutcomeKind::Cancelled, at, String::new()) }
    }

    /// Fails it without an attempt.
    pub fn fail(self, class: ErrorClass, at: Timestamp, error: String) -> Outcome {
        Outcome { class: Some(class), ..self.close(OutcomeKind::Failed, at, error) }
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
                    _ => MailingState::Running,
                };
                prop_assert_eq!(run.state(Timestamp::from_micros(now)), expected);
            }
        }

        /// For any order of outcomes and returns: the lease is done exactly when all outcomes are recorded, and idle
        /// exactly when no member is in a lane or in flight.
        #[test]
        fn a_lease_is_idle_only_when_no_member_is_in_hand(steps in proptest::collection::vec(any::<bool>(), 1..40)) {
            let lease = HeldLease::new(LeaseId::new(), NodeId::new(), None, steps.len());
            let (mut recorded, mut returned) = (0, 0);
            for is_outcome in &steps {
                let state = if *is_outcome {
                    recorded += 1;
                    lease.recorded(1)
                } else {
                    returned += 1;
                    lease.returned(1)
                };
                let in_hand = steps.len() - recorded - returned;
                let expected = match (recorded == steps.len(), in_hand) {
                    (true, _) => LeaseState::Done,
                    (_, 0) => LeaseState::Idle,
                    _ => LeaseState::Busy,
                };
                prop_assert_eq!(state, expected);
            }
        }
    }
}
