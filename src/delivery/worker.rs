//! The dispatcher of a channel, and the execution of one attempt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::active_mailing::{ActiveMailing, AttemptEnd, MailingState};
use super::circuit_breaker::{CircuitBreaker, Permit, ProviderReport};
use super::lanes::Lanes;
use super::model::{AttemptDetails, Outcome, QueuedMessage};
use super::origin::Origin;
use super::rate_limiter::{RateLimiter, Reserve, SharedSlots, Slots};
use super::reasons::{CANCELLED, CLIENT_DELETED, EXPIRED, WINDOW_CLOSED};
use super::repo::rate;
use super::retry::{NextAttempt, Retries, RetryPolicy};
use super::settings::ChannelSetup;
use super::shared::Shared;
use super::suppress::Admission;
use crate::channels::{AttemptReport, Channel, Delivery, DeliveryResult, MAX_UNRECORDED};
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::kinds::{ChannelKind, ErrorClass, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::mailings::recipient::Recipient;
use crate::metrics::ChannelMetrics;
use crate::preferences::link::UnsubscribeLinks;
use crate::templates::{Filled, WithLink};

/// The error stored with an attempt that panicked. The panic's message is in the log.
const PANICKED: &str = "internal error: the attempt panicked; see the log";
/// The time between two checks of a dispatcher without a node lease.
const LEASE_POLL: Duration = Duration::from_millis(100);

/// Takes messages from the lanes of one channel, one at a time, at its rate, and sends up to `concurrency` at once.
///
/// One task waits for the rate instead of every worker, and takes a message only when it can be sent, so that an urgent
/// message overtakes all messages that are not in flight yet.
pub struct Dispatcher {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    sender: Arc<Sender>,
    gate: Arc<CircuitBreaker>,
    slots: Arc<Semaphore>,
    /// Permits that an attempt holds until its outcome is recorded, for a peer that does not drop repeats: they bound
    /// the messages that a crash may repeat.
    places: Option<Arc<Semaphore>>,
    concurrency: u32,
    pacer: RateLimiter,
}

impl Dispatcher {
    /// Creates the dispatcher of this channel.
    pub fn new(
        shared: Arc<Shared>,
        (lanes, gate): (Arc<Lanes>, Arc<CircuitBreaker>),
        setup: ChannelSetup,
    ) -> Self {
        let ChannelSetup { channel, timeout, concurrency, rate, retries, .. } = setup;
        let pacer = match rate {
            Some(rate) if !shared.db.is_single_node() => {
                RateLimiter::Together(SharedSlots::new(rate, reserve(&shared.db, channel.kind())))
            }
            rate => RateLimiter::Alone(Slots::new(rate)),
        };
        let places =
            (!channel.drops_repeats()).then(|| Arc::new(Semaphore::new(concurrency + MAX_UNRECORDED)));
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

    /// Runs until the shutdown, then waits for the attempts in flight, for as long as the settings allow.
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
                "attempts did not end in time; their messages are sent again later"
            );
        }
    }

    /// Waits until a message can be sent, and sends it. If it is dropped at an await, every message stays in its lane.
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
        // checked last: at a low rate the slot may come long after the node lease ended
        while !self.shared.node_lease.is_held(self.shared.now()) {
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
            // released only when the recorder has the outcome, so that a slow database slows the sending down
            drop(slot);
        });
    }
}

/// Returns the function that reserves this node's slots of a channel's rate.
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

/// Converts the result of an attempt to a report on the provider for the circuit breaker.
fn report(verdict: &DeliveryResult) -> ProviderReport {
    match verdict {
        DeliveryResult::Delivered
        | DeliveryResult::Permanent { .. }
        | DeliveryResult::Gone { .. }
        // only one recipient's server is affected
        | DeliveryResult::Deferred { .. } => ProviderReport::Alive,
        DeliveryResult::Transient { .. } => ProviderReport::Sick,
        DeliveryResult::Throttled { retry_after } => ProviderReport::Throttled(*retry_after),
        DeliveryResult::LocalFault => ProviderReport::LocalFault,
    }
}

/// Converts a panic to a failure of the message: without an outcome its lease would be held until the next start.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, PreparationFailure>) -> Result<T, PreparationFailure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err((ErrorClass::Template, PANICKED.to_owned())))
}

/// The reason why a message cannot be delivered.
type PreparationFailure = (ErrorClass, String);

/// Builds the delivery for the provider.
fn delivery(item: &QueuedMessage, links: Option<&UnsubscribeLinks>) -> Result<Delivery, PreparationFailure> {
    let recipient = item.address().map_err(|why| (ErrorClass::Unreachable, why))?;
    let (filled, data, request) = match &item.origin {
        Origin::Mailing(run) => {
            let link = || links?.url(item.origin.channel(), &recipient, item.origin.group()).ok();
            (filled(run, item.recipient.as_ref(), &link)?, None, None)
        }
        Origin::Standalone(single) => (single.content.clone(), single.data.clone(), single.request.clone()),
    };
    let Filled { subject, text, html } = filled;
    let is_bulk = matches!(item.origin, Origin::Mailing(_));
    let links = links.filter(|_| may_unsubscribe(item));
    let (channel, group) = (item.origin.channel(), item.origin.group());
    let unsubscribe = links.map(|links| links.url(channel, &recipient, group)).transpose();
    let unsubscribe = unsubscribe.map_err(|error| (ErrorClass::Template, error.to_string()))?;
    Ok(Delivery { id: item.id, recipient, subject, text, html, data, request, is_bulk, unsubscribe })
}

/// Returns true if the message has a link to unsubscribe.
fn may_unsubscribe(item: &QueuedMessage) -> bool {
    let origin = &item.origin;
    let is_of_a_kind = origin.group().is_some() || origin.mailing().is_some();
    origin.channel() == ChannelKind::Email && is_of_a_kind && !origin.is_transactional()
}

/// Renders the mailing's content for this client.
fn filled(
    run: &ActiveMailing,
    recipient: Option<&Recipient>,
    link: &dyn Fn() -> Option<String>,
) -> Result<Filled, PreparationFailure> {
    let of_text = |why: String| (ErrorClass::Template, why);
    let variants = run.content.as_ref().map_err(|why| of_text(why.clone()))?;
    let content = &variants.of(recipient.and_then(Recipient::locale)).content;
    match recipient {
        Some(recipient) => content.fill(&WithLink::before(&recipient.data(), link)).map_err(of_text),
        None if !content.needs_values() => content.fill(&()).map_err(of_text),
        None => Err((ErrorClass::Unreachable, CLIENT_DELETED.to_owned())),
    }
}

/// Returns the parts of an outcome that is a final failure.
fn failed(
    class: ErrorClass,
    error: String,
) -> (OutcomeKind, Option<Timestamp>, Option<ErrorClass>, Option<String>) {
    (OutcomeKind::Failed, None, Some(class), Some(error))
}

/// The result of an attempt.
enum AttemptResult {
    /// An outcome, to be recorded.
    To(Outcome),
    /// The provider is throttling, or this machine cannot connect: the message returns to its lane and no attempt is
    /// counted.
    Back(QueuedMessage),
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
    /// Handles a message that was taken from its lane. Without an attempt, `place` is released at once.
    async fn process(&self, item: QueuedMessage, pass: Permit, place: Option<OwnedSemaphorePermit>) {
        // rendered first, because that may take a while, and the checks must hold when the attempt begins
        let Some((item, prepared)) = self.prepare(item).await else { return };
        if item.lease.is_lost() {
            return self.lanes.done(&item);
        }
        if self.shared.valve.is_shut() {
            return self.shared.put_back(item).await;
        }
        let now = self.shared.now();
        let outcome = match item.origin.state(now) {
            MailingState::Paused => {
                self.lanes.done(&item);
                return self.shared.give_back(vec![item]);
            }
            MailingState::Running if self.lanes.is_withdrawn(item.id) => item.cancel(now),
            MailingState::Cancelled => item.close(OutcomeKind::Cancelled, now, CANCELLED),
            MailingState::Closed => {
                let reason = if item.lease.mailing.is_some() { WINDOW_CLOSED } else { EXPIRED };
                item.close(OutcomeKind::Expired, now, reason)
            }
            MailingState::Running => match self.shared.apply_preferences(item, now) {
                Admission::Admitted(item) => match self.send((item, prepared), now, pass).await {
                    AttemptResult::To(outcome) if outcome.tried.is_some() => Outcome { place, ..outcome },
                    AttemptResult::To(outcome) => outcome,
                    AttemptResult::Back(item) => return self.shared.put_back(item).await,
                },
                Admission::Suppressed(outcome) => outcome,
            },
        };
        self.shared.record(outcome).await;
    }

    /// Builds the delivery; a mailing's text is rendered on a blocking thread. Returns `None` when the process ends.
    async fn prepare(
        &self,
        item: QueuedMessage,
    ) -> Option<(QueuedMessage, Result<Delivery, PreparationFailure>)> {
        let (links, is_plain) = (self.shared.settings.links.clone(), item.origin.is_plain());
        let prepare = move || {
            let prepared = unpanicked(|| delivery(&item, links.as_deref()));
            (item, prepared)
        };
        if is_plain { Some(prepare()) } else { self.shared.renderers.run(prepare).await.ok() }
    }

    /// Makes one attempt, if the delivery could be built.
    async fn send(
        &self,
        (item, prepared): (QueuedMessage, Result<Delivery, PreparationFailure>),
        now: Timestamp,
        pass: Permit,
    ) -> AttemptResult {
        match prepared {
            Ok(delivery) => self.attempt(item, delivery, now, pass).await,
            Err((class, why)) => AttemptResult::To(item.fail(class, now, why)),
        }
    }

    /// Makes one attempt.
    async fn attempt(
        &self,
        item: QueuedMessage,
        delivery: Delivery,
        now: Timestamp,
        pass: Permit,
    ) -> AttemptResult {
        self.metrics.lateness.observe(now.since(item.due_at).as_secs_f64());
        self.metrics.in_flight.inc();
        let began = Instant::now();
        let exchange = self.channel.send(delivery);
        let answer = tokio::select! {
            biased;
            answer = AssertUnwindSafe(exchange).catch_unwind() => {
                let answer = answer.unwrap_or_else(|_| AttemptReport::none(PANICKED));
                let verdict = answer.verdict.bounded(self.shared.settings.retry_after_max);
                let answer = AttemptReport { verdict, ..answer };
                pass.report(report(&answer.verdict));
                answer
            }
            end = item.origin.end_of_attempt(&self.shared.clock, self.timeout) => match end {
                AttemptEnd::TimedOut => {
                    // one of many servers is slow: the permit is returned without a report
                    if !self.channel.has_many_servers() {
                        pass.report(ProviderReport::Sick);
                    }
                    AttemptReport::none(format!("no answer within {:.1} s", self.timeout.as_secs_f64()))
                }
                // not a failure of the provider: the permit is returned without a report
                AttemptEnd::WindowClosed => AttemptReport::none("the attempt was aborted at the end of the window"),
            }
        };
        let took = began.elapsed();
        self.metrics.in_flight.dec();
        let outcome = match self.judge(item, answer, (now, took)) {
            AttemptResult::To(outcome) => outcome,
            back => return back,
        };
        self.metrics.attempted(outcome.kind, began + took, took);
        AttemptResult::To(outcome)
    }

    fn policy<'i>(&'i self, item: &'i QueuedMessage) -> &'i RetryPolicy {
        match &item.origin {
            Origin::Mailing(_) => &self.retries.mailing,
            Origin::Standalone(single) => single.retry.as_ref().unwrap_or(&self.retries.single),
        }
    }

    fn judge(
        &self,
        item: QueuedMessage,
        answer: AttemptReport,
        (began, took): (Timestamp, Duration),
    ) -> AttemptResult {
        let at = self.shared.now();
        let attempts = item.attempts.saturating_add(1);
        let ends_at = item.origin.ends_at();
        let (kind, due_at, class, error) = match answer.verdict {
            DeliveryResult::Delivered => (OutcomeKind::Delivered, None, None, None),
            DeliveryResult::Permanent { error } => failed(ErrorClass::Rejected, error),
            DeliveryResult::Gone { error } => failed(ErrorClass::Gone, error),
            DeliveryResult::Throttled { .. } | DeliveryResult::LocalFault => {
                return AttemptResult::Back(item);
            }
            DeliveryResult::Transient { error, retry_after }
            | DeliveryResult::Deferred { error, retry_after } => {
                // a replayed message starts its retry schedule again
                let since = attempts.saturating_sub(item.attempts_before);
                match self.policy(&item).next(since, at, retry_after, ends_at) {
                    NextAttempt::At(due_at) => (OutcomeKind::Retry, Some(due_at), None, Some(error)),
                    NextAttempt::Exhausted => {
                        let noun = if since == 1 { "attempt" } else { "attempts" };
                        failed(ErrorClass::Exhausted, format!("{error}; gave up after {since} {noun}"))
                    }
                    NextAttempt::PastWindow => (
                        OutcomeKind::Expired,
                        None,
                        None,
                        Some(format!("{error}; the window closes before the next attempt")),
                    ),
                }
            }
        };
        let tried = AttemptDetails {
            status_code: answer.status_code.map(i32::from),
            provider_id: answer.provider_id,
            duration_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            began: Some(began),
            response: answer.response,
        };
        AttemptResult::To(Outcome {
            item,
            kind,
            attempts,
            at,
            due_at,
            tried: Some(tried),
            error,
            class,
            place: None,
        })
    }
}

#[cfg(test)]
mod tests;
