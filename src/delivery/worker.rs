//! The dispatcher of a channel, and the life of one attempt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::ChannelSetup;
use super::gate::{Gate, Pass, Report};
use super::heed::Heeded;
use super::lanes::Lanes;
use super::model::{AttemptEnd, CLIENT_DELETED, Item, Outcome, Run, RunState, Tried};
use super::origin::Origin;
use super::pacer::{Blocks, Pacer, Reserve, Schedule};
use super::repo::expire::EXPIRED;
use super::repo::rate;
use super::retry::{Next, Retries, RetryPolicy};
use super::shared::Shared;
use crate::channels::{Answer, Channel, Delivery, MOST_UNRECORDED, Verdict};
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::mailings::recipient::Recipient;
use crate::metrics::ChannelMetrics;
use crate::preferences::link::Links;
use crate::templates::{Filled, WithLink};

/// Recorded with a message whose window closed before an attempt.
pub const WINDOW_CLOSED: &str = "the window closed before it could be sent";
/// Recorded with a message that was cancelled.
pub const CANCELLED: &str = "the mailing was cancelled";
/// Recorded with an attempt that ended in a panic, whose message is in the log.
const PANICKED: &str = "a defect of the service: sending it panicked; see the log";
/// How long a dispatcher without a lease waits before it looks again.
const LEASE_POLL: Duration = Duration::from_millis(100);

/// Takes messages from the lanes of one channel, one at a time, at its rate, and sends up to `concurrency` at once.
///
/// One task waits for the rate instead of every worker, and takes a message only when it can go: what is urgent
/// overtakes everything that is not yet in flight.
pub struct Dispatcher {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    sender: Arc<Sender>,
    gate: Arc<Gate>,
    slots: Arc<Semaphore>,
    /// For each attempt from its begin until its outcome is recorded, where the peer drops no repeats: as many as a crash
    /// may repeat.
    places: Option<Arc<Semaphore>>,
    concurrency: u32,
    pacer: Pacer,
}

impl Dispatcher {
    /// For this channel.
    pub fn new(shared: Arc<Shared>, (lanes, gate): (Arc<Lanes>, Arc<Gate>), setup: ChannelSetup) -> Self {
        let ChannelSetup { channel, timeout, concurrency, rate, retries, .. } = setup;
        let pacer = match rate {
            Some(rate) if !shared.db.is_single_node() => {
                Pacer::Together(Blocks::new(rate, reserve(&shared.db, channel.kind())))
            }
            rate => Pacer::Alone(Schedule::new(rate)),
        };
        let places =
            (!channel.drops_repeats()).then(|| Arc::new(Semaphore::new(concurrency + MOST_UNRECORDED)));
        let sender = Arc::new(Sender {
            metrics: shared.metrics.of_channel(channel.kind()),
            shared: Arc::clone(&shared),
            lanes: Arc::clone(&lanes),
            channel,
            timeout,
            retries,
        });
        Self {
            shared,
            lanes,
            sender,
            gate,
            slots: Arc::new(Semaphore::new(concurrency)),
            places,
            concurrency: u32::try_from(concurrency).unwrap_or(u32::MAX),
            pacer,
        }
    }

    /// Runs until the shutdown, then waits for what is in flight, for as long as the settings allow.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                () = self.next() => {}
            }
        }
        let all = self.slots.acquire_many(self.concurrency);
        if tokio::time::timeout(self.shared.settings.shutdown, all).await.is_err() {
            let late = self.concurrency as usize - self.slots.available_permits();
            tracing::warn!(
                in_flight = late,
                "requests did not end in time; their messages go out again later"
            );
        }
    }

    /// Sends one message, once there is one and it may go. Dropped at any await it leaves every message in its place.
    async fn next(&mut self) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return;
        };
        let place = match &self.places {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        self.lanes.wait().await;
        self.shared.valve.opened().await;
        self.gate.wait().await;
        let ready = Instant::now();
        self.pacer.wait().await;
        self.sender.metrics.paced(ready.elapsed());
        // asked last: at a low rate the turn may come long after the lease ran out
        while !self.shared.lease.is_held(self.shared.now()) {
            tokio::time::sleep(LEASE_POLL).await;
        }
        if self.shared.valve.is_shut() {
            return;
        }
        let Some(pass) = self.gate.enter() else { return };
        let Some(item) = self.lanes.take() else { return };
        let sender = Arc::clone(&self.sender);
        tokio::spawn(async move {
            sender.process(item, pass, place).await;
            // given back only when the recorder has the outcome: a slow database slows the sending
            drop(slot);
        });
    }
}

/// This node's shares of a channel's rate.
fn reserve(db: &Db, channel: ChannelKind) -> Reserve {
    let db = db.clone();
    Arc::new(move |span| {
        let db = db.clone();
        let take = move |c: &mut AnyConnection| {
            let delay = rate::reserve(c, channel.as_str(), span)?;
            Ok(tokio::time::Instant::now() + delay)
        };
        Box::pin(async move { db.write(take).await })
    })
}

/// What a verdict on a message says of the provider.
fn report(verdict: &Verdict) -> Report {
    match verdict {
        Verdict::Delivered
        | Verdict::Permanent { .. }
        | Verdict::Gone { .. }
        // one recipient's server: the others are no worse for it
        | Verdict::Deferred { .. } => Report::Alive,
        Verdict::Transient { .. } => Report::Sick,
        Verdict::Throttled { retry_after } => Report::Throttled(*retry_after),
        Verdict::LocalFault => Report::LocalFault,
    }
}

/// A panic is this message's failure: without an outcome its page would stay in hand until the next start.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err((ErrorClass::Template, PANICKED.to_owned())))
}

/// Why nothing can be delivered.
type Failure = (ErrorClass, String);

/// What the provider is asked to deliver, or why nothing can be.
fn delivery(item: &Item, links: Option<&Links>) -> Result<Delivery, Failure> {
    let recipient = item.address().map_err(|why| (ErrorClass::Unreachable, why))?;
    let (filled, data, request) = match &item.origin {
        Origin::Mailing(run) => {
            let link = || links?.url(item.origin.channel(), &recipient, item.origin.group()).ok();
            (filled(run, item.recipient.as_ref(), &link)?, None, None)
        }
        Origin::Single(single) => (single.content.clone(), single.data.clone(), single.request.clone()),
    };
    let Filled { subject, text, html } = filled;
    let is_bulk = matches!(item.origin, Origin::Mailing(_));
    let links = links.filter(|_| may_unsubscribe(item));
    let (channel, group) = (item.origin.channel(), item.origin.group());
    let unsubscribe = links.map(|links| links.url(channel, &recipient, group)).transpose();
    let unsubscribe = unsubscribe.map_err(|error| (ErrorClass::Template, error.to_string()))?;
    Ok(Delivery { id: item.id, recipient, subject, text, html, data, request, is_bulk, unsubscribe })
}

/// Whether its recipient is shown how to get no more of its kind.
fn may_unsubscribe(item: &Item) -> bool {
    let origin = &item.origin;
    let is_of_a_kind = origin.group().is_some() || origin.mailing().is_some();
    origin.channel() == ChannelKind::Email && is_of_a_kind && !origin.is_transactional()
}

/// What the mailing says to this client.
fn filled(
    run: &Run,
    recipient: Option<&Recipient>,
    link: &dyn Fn() -> Option<String>,
) -> Result<Filled, Failure> {
    let of_text = |why: String| (ErrorClass::Template, why);
    let variants = run.content.as_ref().map_err(|why| of_text(why.clone()))?;
    let content = &variants.of(recipient.and_then(Recipient::locale)).content;
    match recipient {
        Some(recipient) => content.fill(&WithLink::before(&recipient.data(), link)).map_err(of_text),
        None if !content.needs_values() => content.fill(&()).map_err(of_text),
        None => Err((ErrorClass::Unreachable, CLIENT_DELETED.to_owned())),
    }
}

/// What an attempt that is the last came to.
fn failed(
    class: ErrorClass,
    error: String,
) -> (OutcomeKind, Option<Timestamp>, Option<ErrorClass>, Option<String>) {
    (OutcomeKind::Failed, None, Some(class), Some(error))
}

/// What became of an attempt.
enum Came {
    /// An outcome, to be recorded.
    To(Outcome),
    /// Nothing: no message can go for now; the item returns to its lane and no attempt is counted.
    Back(Item),
}

/// Makes attempts on one channel.
struct Sender {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    channel: Arc<dyn Channel>,
    metrics: ChannelMetrics,
    timeout: Duration,
    retries: Retries,
}

impl Sender {
    /// Handles a message that was taken from its lane. What was not attempted gives its place back.
    async fn process(&self, item: Item, pass: Pass, place: Option<OwnedSemaphorePermit>) {
        // filled first: it may take a while, and what is decided after it is true when the attempt begins
        let Some((item, prepared)) = self.prepare(item).await else { return };
        if item.page.is_lost() {
            return self.lanes.done(&item);
        }
        if self.shared.valve.is_shut() {
            return self.shared.put_back(item).await;
        }
        let now = self.shared.now();
        let outcome = match item.origin.state(now) {
            RunState::Paused => {
                self.lanes.done(&item);
                return self.shared.give_back(vec![item]);
            }
            RunState::Running if self.lanes.is_withdrawn(item.id) => item.cancel(now),
            RunState::Cancelled => item.close(OutcomeKind::Cancelled, now, CANCELLED),
            RunState::Closed => {
                let reason = if item.page.mailing.is_some() { WINDOW_CLOSED } else { EXPIRED };
                item.close(OutcomeKind::Expired, now, reason)
            }
            RunState::Running => match self.shared.heed(item, now) {
                Heeded::Wanted(item) => match self.send((item, prepared), now, pass).await {
                    Came::To(outcome) if outcome.tried.is_some() => Outcome { place, ..outcome },
                    Came::To(outcome) => outcome,
                    Came::Back(item) => return self.shared.put_back(item).await,
                },
                Heeded::Unwanted(outcome) => outcome,
            },
        };
        self.shared.record(outcome).await;
    }

    /// Makes the request to the provider; a mailing's text is filled on a blocking thread. None when the process ends.
    async fn prepare(&self, item: Item) -> Option<(Item, Result<Delivery, Failure>)> {
        let (links, is_plain) = (self.shared.settings.links.clone(), item.origin.is_plain());
        let prepare = move || {
            let prepared = unpanicked(|| delivery(&item, links.as_deref()));
            (item, prepared)
        };
        if is_plain { Some(prepare()) } else { self.shared.renderers.run(prepare).await.ok() }
    }

    /// Makes one attempt, if there is anything to deliver.
    async fn send(
        &self,
        (item, prepared): (Item, Result<Delivery, Failure>),
        now: Timestamp,
        pass: Pass,
    ) -> Came {
        match prepared {
            Ok(delivery) => self.attempt(item, delivery, now, pass).await,
            Err((class, why)) => Came::To(item.fail(class, now, why)),
        }
    }

    /// One attempt.
    async fn attempt(&self, item: Item, delivery: Delivery, now: Timestamp, pass: Pass) -> Came {
        self.metrics.lateness.observe(now.since(item.due_at).as_secs_f64());
        self.metrics.in_flight.inc();
        let began = Instant::now();
        let exchange = self.channel.send(delivery);
        let answer = tokio::select! {
            biased;
            answer = AssertUnwindSafe(exchange).catch_unwind() => {
                let answer = answer.unwrap_or_else(|_| Answer::none(PANICKED));
                let verdict = answer.verdict.bounded(self.shared.settings.retry_after_max);
                let answer = Answer { verdict, ..answer };
                pass.report(report(&answer.verdict));
                answer
            }
            end = item.origin.end_of_attempt(&self.shared.clock, self.timeout) => match end {
                AttemptEnd::TimedOut => {
                    // of many servers one is slow: the pass goes back unused
                    if !self.channel.has_many_servers() {
                        pass.report(Report::Sick);
                    }
                    Answer::none(format!("no answer within {:.1} s", self.timeout.as_secs_f64()))
                }
                // says nothing of the provider: the pass goes back unused
                AttemptEnd::WindowClosed => Answer::none("it was cut off at the end of the window"),
            }
        };
        let took = began.elapsed();
        self.metrics.in_flight.dec();
        let outcome = match self.judge(item, answer, (now, took)) {
            Came::To(outcome) => outcome,
            back => return back,
        };
        self.metrics.attempted(outcome.kind, began + took, took);
        Came::To(outcome)
    }

    fn policy<'i>(&'i self, item: &'i Item) -> &'i RetryPolicy {
        match &item.origin {
            Origin::Mailing(_) => &self.retries.mailing,
            Origin::Single(single) => single.retry.as_ref().unwrap_or(&self.retries.single),
        }
    }

    fn judge(&self, item: Item, answer: Answer, (began, took): (Timestamp, Duration)) -> Came {
        let at = self.shared.now();
        let attempts = item.attempts.saturating_add(1);
        let ends_at = item.origin.ends_at();
        let (kind, due_at, class, error) = match answer.verdict {
            Verdict::Delivered => (OutcomeKind::Delivered, None, None, None),
            Verdict::Permanent { error } => failed(ErrorClass::Rejected, error),
            Verdict::Gone { error } => failed(ErrorClass::Gone, error),
            Verdict::Throttled { .. } | Verdict::LocalFault => return Came::Back(item),
            Verdict::Transient { error, retry_after } | Verdict::Deferred { error, retry_after } => {
                // a message that was replayed has its whole schedule again
                let since = attempts.saturating_sub(item.attempts_before);
                match self.policy(&item).next(since, at, retry_after, ends_at) {
                    Next::At(due_at) => (OutcomeKind::Retry, Some(due_at), None, Some(error)),
                    Next::Exhausted => {
                        failed(ErrorClass::Exhausted, format!("{error}; all {since} attempts were used"))
                    }
                    Next::PastWindow => (
                        OutcomeKind::Expired,
                        None,
                        None,
                        Some(format!("{error}; the window closes before the next attempt")),
                    ),
                }
            }
        };
        let tried = Tried {
            status_code: answer.status_code.map(i32::from),
            provider_id: answer.provider_id,
            duration_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            began: Some(began),
            response: answer.response,
        };
        Came::To(Outcome { item, kind, attempts, at, due_at, tried: Some(tried), error, class, place: None })
    }
}

#[cfg(test)]
mod tests;
