//! The execution of one attempt.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::active_mailing::AttemptEnd;
use super::circuit_breaker::{Permit, ProviderReport};
use super::mean_duration::MeanDuration;
use super::model::{AttemptDetails, Outcome, QueuedMessage};
use super::origin::Origin;
use super::reasons::PANICKED;
use super::retry::{NextAttempt, Retries, RetryPolicy};
use crate::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::kinds::{ErrorClass, OutcomeKind};
use crate::metrics::ChannelMetrics;

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

/// Returns the parts of an outcome that is a final failure.
fn failed(
    class: ErrorClass,
    error: String,
) -> (OutcomeKind, Option<Timestamp>, Option<ErrorClass>, Option<String>) {
    (OutcomeKind::Failed, None, Some(class), Some(error))
}

/// The result of an attempt.
pub enum AttemptResult {
    /// An outcome, to be recorded.
    To(Outcome),
    /// The provider is throttling, or this machine cannot connect: the message returns to its lane and no attempt is
    /// counted.
    Back(QueuedMessage),
}

/// Makes attempts on one channel.
pub struct Attempter {
    pub(super) channel: Arc<dyn Channel>,
    pub(super) clock: Clock,
    pub(super) metrics: ChannelMetrics,
    pub(super) mean: Arc<MeanDuration>,
    /// The timeout of one attempt.
    pub(super) timeout: Duration,
    /// The longest `Retry-After` that is honoured.
    pub(super) retry_after_max: Duration,
    pub(super) retries: Retries,
}

impl Attempter {
    /// Returns true if the peer drops repeated messages.
    pub fn drops_repeats(&self) -> bool {
        self.channel.drops_repeats()
    }

    /// Makes one attempt.
    pub async fn attempt(
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
                let verdict = answer.verdict.bounded(self.retry_after_max);
                let answer = AttemptReport { verdict, ..answer };
                pass.report(report(&answer.verdict));
                answer
            }
            end = item.origin.end_of_attempt(&self.clock, self.timeout) => match end {
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
            AttemptResult::Back(item) => return AttemptResult::Back(item),
        };
        self.metrics.attempted(outcome.kind, began + took, took);
        if outcome.kind == OutcomeKind::Delivered {
            self.mean.add(took);
        }
        AttemptResult::To(outcome)
    }

    fn policy<'i>(&'i self, item: &'i QueuedMessage) -> &'i RetryPolicy {
        match &item.origin {
            Origin::Mailing(_) => &self.retries.mailing,
            Origin::Standalone(single) => single.retry.as_ref().unwrap_or(&self.retries.single),
        }
    }

    /// Turns the result of an attempt into an outcome.
    fn judge(
        &self,
        item: QueuedMessage,
        answer: AttemptReport,
        (began, took): (Timestamp, Duration),
    ) -> AttemptResult {
        let at = self.clock.now();
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
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_affect_all_recipients_are_reported_of_the_provider() {
        let error = || "why".to_owned();
        let wait = Duration::from_secs(7);
        for (verdict, expected) in [
            (DeliveryResult::Delivered, ProviderReport::Alive),
            (DeliveryResult::Permanent { error: error() }, ProviderReport::Alive),
            (DeliveryResult::Gone { error: error() }, ProviderReport::Alive),
            (DeliveryResult::Deferred { error: error(), retry_after: Some(wait) }, ProviderReport::Alive),
            (DeliveryResult::Transient { error: error(), retry_after: Some(wait) }, ProviderReport::Sick),
            (DeliveryResult::Throttled { retry_after: wait }, ProviderReport::Throttled(wait)),
        ] {
            assert_eq!(report(&verdict), expected, "{verdict:?}");
        }
    }
}
