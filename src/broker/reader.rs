//! The read loop that all brokers share: poll, store, release.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Batch, BatchResult, Broker, EventResult, Incoming, Intake, LARGEST_EVENT, Step, count};
use crate::error::{Error, Result, Source};
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// The pause after a failure: it doubles from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The reason of an event that the database rejects on its own.
const CANNOT_BE_STORED: &str = "it cannot be stored";

/// Reads the events of one broker into an [`Intake`].
pub struct Reader<B> {
    broker: B,
    storer: Storer,
}

/// Stores polled batches, for as long as the database is away.
struct Storer {
    intake: Arc<dyn Intake>,
    metrics: Metrics,
    broker: &'static str,
    longest_rest: Duration,
}

/// The problems logged since the last success: an outage is logged once, not at each attempt.
#[derive(Default)]
struct Problems(HashSet<String>);

impl Problems {
    /// Notes a problem; returns `true` if it was not logged before. Digits are ignored, since clients put times and
    /// counters into their messages.
    fn is_new(&mut self, reason: &str) -> bool {
        const MOST: usize = 100;
        let is_text = |c: &char| !c.is_ascii_digit() && *c != '.';
        self.0.len() < MOST && self.0.insert(reason.chars().filter(is_text).collect())
    }
}

/// The reason why a batch is not stored.
enum Failure {
    /// The service stops.
    Stopping,
    /// The database rejects one of the events.
    Rejected,
}

impl<B: Broker> Reader<B> {
    /// Creates a reader; [`Reader::run`] connects it.
    pub fn new(broker: B, intake: Arc<dyn Intake>, metrics: Metrics) -> Self {
        let longest_rest = LONGEST_REST.min(broker.patience());
        Self { broker, storer: Storer { intake, metrics, broker: B::NAME, longest_rest } }
    }

    /// Reads until the shutdown, and reconnects for ever. Batches that were polled before the shutdown are finished.
    pub async fn run(mut self, shutdown: Shutdown) {
        let (mut rest, mut problems) = (FIRST_REST, Problems::default());
        while !shutdown.is_fired() {
            let Err(error) = self.run_once(&shutdown).await else {
                (rest, problems) = (FIRST_REST, Problems::default());
                continue;
            };
            let reason = error.to_string();
            if problems.is_new(&reason) {
                tracing::warn!(broker = B::NAME, reason, "broker cannot be read; retrying");
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
            }
        }
        self.broker.close().await;
    }

    /// Polls once and stores the batches.
    async fn run_once(&mut self, shutdown: &Shutdown) -> Result<(), Source> {
        let mut batches = self.broker.poll(shutdown).await?;
        batches.iter_mut().flat_map(|batch| &mut batch.events).for_each(find_fault);
        if batches.is_empty() {
            return Ok(());
        }
        let results = {
            let Self { broker, storer } = self;
            // at the same time, so that they share a commit
            let mut stored = pin!(join_all(batches.iter().map(|batch| storer.store(batch, shutdown))));
            loop {
                tokio::select! {
                    biased;
                    results = &mut stored => break results,
                    () = tokio::time::sleep(broker.patience()) => broker.hold(&batches).await,
                }
            }
        };
        for (batch, result) in batches.into_iter().zip(results) {
            let result = self.bury(&batch, result).await;
            self.broker.release(batch, result).await;
        }
        Ok(())
    }

    /// Stores events that were refused for the last time as dead letters.
    async fn bury(&self, batch: &Batch<B::Handle>, mut result: BatchResult) -> BatchResult {
        let BatchResult::Completed(results) = &mut result else { return result };
        for (event, result) in batch.events.iter().zip(results) {
            let EventResult::Refused(reason) = result else { continue };
            self.storer.count("refused", 1);
            if event.fault.is_none() && event.tries < self.broker.tries() {
                continue;
            }
            let (offset, tries) = (event.offset, event.tries);
            match self.storer.intake.bury(event.clone(), reason.clone()).await {
                Ok(()) => {
                    self.storer.count("buried", 1);
                    tracing::warn!(broker = B::NAME, offset, tries, "refused event stored as a dead letter");
                    *result = EventResult::DeadLettered;
                }
                Err(error) => {
                    tracing::warn!(broker = B::NAME, %error, offset, "refused event not stored as a dead letter");
                }
            }
        }
        result
    }
}

impl Storer {
    fn count(&self, outcome: &str, events: usize) {
        count(&self.metrics, self.broker, outcome, events);
    }

    /// Stores a batch. If the database rejects it as a whole, the events are stored one by one, so that a single bad event
    /// blocks no other.
    async fn store<T>(&self, batch: &Batch<T>, shutdown: &Shutdown) -> BatchResult {
        let result = match self.store_together(&batch.events, batch.step.clone(), shutdown).await {
            Ok(Some(results)) => BatchResult::Completed(results),
            Ok(None) => BatchResult::Fenced,
            Err(Failure::Stopping) => BatchResult::Unknown,
            Err(Failure::Rejected) => self.store_one_by_one(batch, shutdown).await,
        };
        if let BatchResult::Completed(results) = &result {
            let of = |which: &[EventResult]| results.iter().filter(|one| which.contains(one)).count();
            self.count("taken", of(&[EventResult::Stored]));
            self.count("refused", of(&[EventResult::RetryScheduled, EventResult::DeadLettered]));
            self.count("buried", of(&[EventResult::DeadLettered]));
        }
        result
    }

    async fn store_one_by_one<T>(&self, batch: &Batch<T>, shutdown: &Shutdown) -> BatchResult {
        let mut results = Vec::with_capacity(batch.events.len());
        let mut rest = batch.step.clone();
        for (index, event) in batch.events.iter().enumerate() {
            let is_last = index + 1 == batch.events.len();
            let step =
                rest.as_mut().map(|rest| if is_last { rest.clone() } else { rest.split(event.offset + 1) });
            let mut event = event.clone();
            let result = loop {
                match self.store_together(std::slice::from_ref(&event), step.clone(), shutdown).await {
                    Ok(None) => return BatchResult::Fenced,
                    Err(Failure::Stopping) => return BatchResult::Unknown,
                    Ok(Some(mut one)) => break one.pop(),
                    Err(Failure::Rejected) if step.is_none() => break None,
                    Err(Failure::Rejected) => {
                        // with a fault the intake stores the raw record as a dead letter, and no event
                        event.fault = Some(CANNOT_BE_STORED.to_owned());
                        tokio::select! {
                            () = shutdown.wait() => return BatchResult::Unknown,
                            () = tokio::time::sleep(FIRST_REST) => {}
                        }
                    }
                }
            };
            results.push(result.unwrap_or_else(|| EventResult::Refused(CANNOT_BE_STORED.to_owned())));
        }
        BatchResult::Completed(results)
    }

    /// Hands events to the intake until the database is reachable. Returns `None` if another node has moved the position.
    async fn store_together(
        &self,
        events: &[Incoming],
        step: Option<Step>,
        shutdown: &Shutdown,
    ) -> Result<Option<Vec<EventResult>>, Failure> {
        let (mut rest, broker, count) = (FIRST_REST, self.broker, events.len());
        // without a step, faulty events are refused here: the intake would not keep them
        let (shown, faulty): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| step.is_some() || event.fault.is_none());
        if shown.is_empty() && !faulty.is_empty() {
            return Ok(Some(with_faults(events, Vec::new())));
        }
        loop {
            let handed = shown.iter().map(|event| (*event).clone()).collect();
            match self.intake.take(handed, step.clone()).await {
                Ok(Some(results)) if results.len() == shown.len() => {
                    let results = if faulty.is_empty() { results } else { with_faults(events, results) };
                    return Ok(Some(results));
                }
                Ok(None) => return Ok(None),
                Ok(Some(results)) => {
                    let returned = results.len();
                    tracing::error!(
                        broker,
                        events = count,
                        returned,
                        "intake returned a wrong number of results"
                    );
                    return Err(Failure::Rejected);
                }
                // if the commit went through, the key or the position shows it at the next attempt
                Err(Error::Unavailable(error) | Error::OutcomeUnknown(error)) => {
                    tracing::warn!(broker, %error, events = count, "broker events wait for the database");
                }
                Err(error) => {
                    let first = events.first().map(|event| event.offset);
                    tracing::error!(broker, %error, events = count, first, "broker events rejected by the database");
                    return Err(Failure::Rejected);
                }
            }
            tokio::select! {
                () = shutdown.wait() => return Err(Failure::Stopping),
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(self.longest_rest),
            }
        }
    }
}

/// Notes on an event why it can never be taken.
fn find_fault(event: &mut Incoming) {
    let fault = match event.body.len() {
        0 => "it has no body".to_owned(),
        size if size > LARGEST_EVENT => {
            format!("its body has {size} bytes; at most {LARGEST_EVENT} are accepted")
        }
        _ => return,
    };
    event.fault.get_or_insert(fault);
}

/// Merges the results of the events without a fault with those that have one.
fn with_faults(events: &[Incoming], results: Vec<EventResult>) -> Vec<EventResult> {
    let mut results = results.into_iter();
    let result = |event: &Incoming| match &event.fault {
        Some(fault) => Some(EventResult::Refused(fault.clone())),
        None => results.next(),
    };
    events.iter().filter_map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::Problems;

    #[test]
    fn a_problem_is_logged_once_however_its_times_differ() {
        let mut problems = Problems::default();
        assert!(problems.is_new("refused; retrying in 1.5 s"));
        assert!(!problems.is_new("refused; retrying in 20.25 s"));
        assert!(problems.is_new("no such user"));
        assert!(!problems.is_new("refused; retrying in 3 s"));
    }
}
