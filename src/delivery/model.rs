//! What the engine holds in memory: mailings at work, pages, the messages in them, and outcomes.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::origin::Origin;
use super::pacer::Schedule;
use super::sync::{Mutex, MutexGuard};
use crate::channels::request::Response;
use crate::clock::Clock;
use crate::db::types::{ClientId, MailingId, MessageId, NodeId, PageId, Timestamp};
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind, Priority};
use crate::mailings::filter::{Range, Reachable};
use crate::mailings::model::{Mailing, MailingStatus};
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::Needs;
use crate::messages::repo::MessageRow;
use crate::preferences::model::Wishes;
use crate::templates::Variants;

/// What may be done with a mailing's messages right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Send them.
    Running,
    /// Hold them.
    Paused,
    /// Its window has closed: expire them.
    Closed,
    /// Cancel them.
    Cancelled,
}

/// Why an attempt was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The provider took too long.
    TimedOut,
    /// The window closed.
    WindowClosed,
}

/// A mailing at work on this node.
#[derive(Debug)]
pub struct Run {
    /// Which mailing.
    pub id: MailingId,
    /// By what number its messages name it.
    pub number: i32,
    /// How its messages go out.
    pub channel: ChannelKind,
    /// Which lane they wait in.
    pub priority: Priority,
    /// When its messages were due: the start that was asked for, or when it was created after that.
    pub due_at: Timestamp,
    /// Its audience's parts.
    pub ranges: Arc<[Range]>,
    /// The addresses that its audience has.
    pub reachable: Reachable,
    /// What it says; why that cannot be read, if it cannot.
    pub content: Result<Variants, String>,
    /// What its recipients may opt out of.
    pub group: Option<String>,
    /// Nobody may opt out of it.
    pub is_transactional: bool,
    ends_at: AtomicI64,
    /// Tells who waits for the end that it is another one.
    moved: Notify,
    status: AtomicU8,
    walked: AtomicBool,
    schedule: Mutex<Schedule>,
}

impl Run {
    /// From the stored mailing and its number.
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
            schedule: Mutex::new(Schedule::new(mailing.rate_per_second)),
        };
        run.refresh(mailing.status, mailing.ends_at, false, mailing.rate_per_second);
        run
    }

    /// Takes over what may change while it runs; answers whether its rate did.
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

    /// It is in this state now.
    pub fn set_status(&self, status: MailingStatus) {
        self.status.store(u8::try_from(status.code()).unwrap_or_default(), Ordering::Release);
    }

    /// When its next message may go, by its own rate.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of its window.
    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_micros(self.ends_at.load(Ordering::Acquire))
    }

    /// Returns when an attempt that begins now is to be given up: after `timeout`, or at the end of the window, also when
    /// that is moved meanwhile.
    pub async fn end_of_attempt(&self, clock: &Clock, timeout: Duration) -> AttemptEnd {
        let times_out_at = Instant::now() + timeout;
        loop {
            // registered before looking: an end that is moved in between is not missed
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

    /// Whether its whole audience has been planned.
    pub fn is_walked(&self) -> bool {
        self.walked.load(Ordering::Acquire)
    }

    /// Notes that its whole audience has been planned.
    pub fn set_walked(&self) {
        self.walked.store(true, Ordering::Release);
    }

    /// What may be done with its messages at `now`.
    pub fn state(&self, now: Timestamp) -> RunState {
        let status = self.status.load(Ordering::Acquire);
        if i16::from(status) == MailingStatus::Cancelled.code() {
            RunState::Cancelled
        } else if now >= self.ends_at() {
            RunState::Closed
        } else if i16::from(status) == MailingStatus::Paused.code() {
            RunState::Paused
        } else {
            RunState::Running
        }
    }

    /// Returns whether its texts go out as they are written, to everyone.
    pub fn is_plain(&self) -> bool {
        self.content.as_ref().is_ok_and(|variants| variants.all().all(|variant| variant.content.is_plain()))
    }

    /// What it needs to know of a client.
    pub fn needs(&self) -> Needs {
        let profile = self.content.as_ref().is_ok_and(Variants::needs_reader);
        Needs { channel: self.channel, profile, reachable: self.reachable }
    }
}

/// Recorded with a message whose client is gone.
pub const CLIENT_DELETED: &str = "the client was deleted before its message was sent";

/// A page that this node holds.
#[derive(Debug)]
pub struct OpenPage {
    /// Which page.
    pub id: PageId,
    /// As which node it is held: the fence.
    pub node: NodeId,
    /// The mailing it belongs to.
    pub mailing: Option<MailingId>,
    tally: Mutex<Tally>,
    lost: AtomicBool,
}

#[derive(Debug)]
struct Tally {
    /// Members without a recorded outcome.
    open: usize,
    /// Of these, members that were taken from the lanes without an attempt.
    returned: usize,
}

impl OpenPage {
    /// A page with this many members that have no outcome.
    pub fn new(id: PageId, node: NodeId, mailing: Option<MailingId>, open: usize) -> Self {
        Self {
            id,
            node,
            mailing,
            tally: Mutex::new(Tally { open, returned: 0 }),
            lost: AtomicBool::new(false),
        }
    }

    /// Notes that another node may hold it by now: nothing of it may be sent any more.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether another node may hold it by now.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Notes `count` recorded outcomes; answers what is to be done with the page.
    pub fn recorded(&self, count: usize) -> PageState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.open = tally.open.saturating_sub(count);
        tally.state()
    }

    /// Notes `count` members given back; answers what is to be done with the page.
    pub fn returned(&self, count: usize) -> PageState {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.returned += count;
        tally.state()
    }
}

/// What is to be done with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// Some of it is still in this node's hands.
    Busy,
    /// All that is left of it was given back: it is to be released.
    Idle,
    /// Every member has its outcome.
    Done,
}

impl Tally {
    fn state(&self) -> PageState {
        match (self.open, self.returned) {
            (0, _) => PageState::Done,
            (open, returned) if open == returned => PageState::Idle,
            _ => PageState::Busy,
        }
    }
}

/// A message in a lane.
#[derive(Debug)]
pub struct Item {
    /// Which message.
    pub id: MessageId,
    /// The page it stands in.
    pub page: Arc<OpenPage>,
    /// What it comes from.
    pub origin: Origin,
    /// For which client.
    pub client: Option<ClientId>,
    /// The client as it was read; none when it was deleted meanwhile.
    pub recipient: Option<Recipient>,
    /// What the recipient does not want, if it ever said so.
    pub wishes: Option<Arc<Wishes>>,
    /// The address on record, for a message that has a row.
    pub address: Option<String>,
    /// Attempts made before.
    pub attempts: i16,
    /// Of these, those made before it was replayed: its schedule began anew behind them.
    pub attempts_before: i16,
    /// Outcomes recorded before: 0 for a message that has no row yet.
    pub revision: i16,
    /// When it was due.
    pub due_at: Timestamp,
}

/// What became of an item, to be recorded.
#[derive(Debug)]
pub struct Outcome {
    /// What it was.
    pub item: Item,
    /// What it came to.
    pub kind: OutcomeKind,
    /// Attempts made by now.
    pub attempts: i16,
    /// When.
    pub at: Timestamp,
    /// When it is tried again, for [`OutcomeKind::Retry`].
    pub due_at: Option<Timestamp>,
    /// The attempt, if there was one.
    pub tried: Option<Tried>,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// Of what kind that is, for [`OutcomeKind::Failed`].
    pub class: Option<ErrorClass>,
    /// Its place among the attempts that are under way or wait for their record, where these are bounded; free when it is recorded.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Outcome {
    /// Whether it waits without having been tried.
    pub fn is_deferral(&self) -> bool {
        self.kind == OutcomeKind::Retry && self.tried.is_none()
    }
}

/// What is kept of an attempt.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// The provider's HTTP status.
    pub status_code: Option<i32>,
    /// The provider's name for the message.
    pub provider_id: Option<String>,
    /// From request to answer.
    pub duration_ms: i32,
    /// When it began.
    pub began: Option<Timestamp>,
    /// All that was answered, where that is kept.
    pub response: Option<Arc<Response>>,
}

impl Item {
    /// A message that has a row.
    pub fn of_row(
        (row, attempts_before): (MessageRow, i16),
        page: Arc<OpenPage>,
        origin: Origin,
        (recipient, wishes): (Option<Recipient>, Option<Arc<Wishes>>),
    ) -> Self {
        Self {
            id: row.id,
            page,
            origin,
            client: row.client_id,
            recipient,
            wishes,
            address: Some(row.recipient),
            attempts: row.attempts,
            attempts_before,
            revision: row.revision,
            due_at: row.due_at.unwrap_or_else(|| row.id.created_at()),
        }
    }

    /// Where it goes: the address on record before the client's present one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn address(&self) -> Result<String, String> {
        match (&self.address, &self.recipient) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(recipient)) => recipient.address(self.origin.channel()),
            (None, None) => Err(CLIENT_DELETED.to_owned()),
        }
    }

    /// Returns whether its address was erased with its client while it waited.
    pub fn is_erased(&self) -> bool {
        self.address.as_deref() == Some("")
    }

    /// It waits until `due_at` without an attempt.
    pub fn defer(self, at: Timestamp, due_at: Timestamp, why: impl Into<String>) -> Outcome {
        Outcome { due_at: Some(due_at), ..self.close(OutcomeKind::Retry, at, why) }
    }

    /// It ends without an attempt.
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

    /// It is cancelled; why an earlier attempt failed stands with that attempt.
    pub fn cancel(self, at: Timestamp) -> Outcome {
        Outcome { error: None, ..self.close(OutcomeKind::Cancelled, at, String::new()) }
    }

    /// It fails without an attempt.
    pub fn fail(self, class: ErrorClass, at: Timestamp, error: String) -> Outcome {
        Outcome { class: Some(class), ..self.close(OutcomeKind::Failed, at, error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::lanes::tests::mailing;
    use proptest::prelude::*;

    fn run(ends_at: i64) -> Run {
        Run::new(Mailing { ends_at: Timestamp::from_micros(ends_at), ..mailing(Priority::Normal, None) }, 1)
    }

    proptest! {
        /// However status and end move: nothing is sent at or past the end that holds then, nor while it is paused; and
        /// what is cancelled stays so, whatever the time.
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
                    Cancelled => RunState::Cancelled,
                    _ if now >= ends_at => RunState::Closed,
                    Paused => RunState::Paused,
                    _ => RunState::Running,
                };
                prop_assert_eq!(run.state(Timestamp::from_micros(now)), expected);
            }
        }

        /// Whatever order outcomes and returns come in, the page is done exactly when all are recorded, and idle
        /// exactly when nothing of it is in this node's hands.
        #[test]
        fn a_page_is_idle_only_when_nothing_of_it_is_in_hand(steps in proptest::collection::vec(any::<bool>(), 1..40)) {
            let page = OpenPage::new(PageId::new(), NodeId::new(), None, steps.len());
            let (mut recorded, mut returned) = (0, 0);
            for is_outcome in &steps {
                let state = if *is_outcome {
                    recorded += 1;
                    page.recorded(1)
                } else {
                    returned += 1;
                    page.returned(1)
                };
                let in_hand = steps.len() - recorded - returned;
                let expected = match (recorded == steps.len(), in_hand) {
                    (true, _) => PageState::Done,
                    (_, 0) => PageState::Idle,
                    _ => PageState::Busy,
                };
                prop_assert_eq!(state, expected);
            }
        }
    }
}
