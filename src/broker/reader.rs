//! Reads a broker: poll, store, release.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Batch, Broker, Fate, Incoming, Intake, LARGEST_EVENT, Step, Taken, count};
use crate::error::{Error, Result, Source};
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// Between tries that failed: it doubles from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Reads the events of one broker into an [`Intake`].
pub struct Reader<B> {
    broker: B,
    taker: Taker,
}

/// Stores what was polled.
struct Taker {
    intake: Arc<dyn Intake>,
    metrics: Metrics,
    broker: &'static str,
    longest_rest: Duration,
}

/// What has been logged since the last success: an outage is told of once, and not at each try.
#[derive(Default)]
struct Problems(HashSet<String>);

impl Problems {
    /// Notes a problem; returns whether it is another one. Clients write times and numbers of tries into their messages.
    fn is_new(&mut self, reason: &str) -> bool {
        const MOST: usize = 100;
        let is_text = |c: &char| !c.is_ascii_digit() && *c != '.';
        self.0.len() < MOST && self.0.insert(reason.chars().filter(is_text).collect())
    }
}

/// Why a batch is not stored.
enum Failed {
    /// The service ends.
    Ended,
    /// One of the events cannot be stored.
    Broken,
}

impl<B: Broker> Reader<B> {
    /// One that does nothing before [`Reader::run`].
    pub fn new(broker: B, intake: Arc<dyn Intake>, metrics: Metrics) -> Self {
        let longest_rest = LONGEST_REST.min(broker.patience());
        Self { broker, taker: Taker { intake, metrics, broker: B::NAME, longest_rest } }
    }

    /// Reads until the shutdown, whether the broker is there or not. What was polled by then is finished.
    pub async fn run(mut self, shutdown: Shutdown) {
        let (mut rest, mut problems) = (FIRST_REST, Problems::default());
        while !shutdown.is_fired() {
            let Err(error) = self.round(&shutdown).await else {
                (rest, problems) = (FIRST_REST, Problems::default());
                continue;
            };
            let reason = error.to_string();
            if problems.is_new(&reason) {
                tracing::warn!(
                    broker = B::NAME,
                    reason,
                    "events cannot be read from the broker; trying again"
                );
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
            }
        }
        self.broker.close().await;
    }

    /// Polls once, and takes what came.
    async fn round(&mut self, shutdown: &Shutdown) -> Result<(), Source> {
        let mut batches = self.broker.poll(shutdown).await?;
        batches.iter_mut().flat_map(|batch| &mut batch.events).for_each(find_fault);
        if batches.is_empty() {
            return Ok(());
        }
        let fates = {
            let Self { broker, taker } = self;
            // together, so that they share a commit
            let mut stored = pin!(join_all(batches.iter().map(|batch| taker.take(batch, shutdown))));
            loop {
                tokio::select! {
                    biased;
                    fates = &mut stored => break fates,
                    () = tokio::time::sleep(broker.patience()) => broker.hold(&batches).await,
                }
            }
        };
        for (batch, fate) in batches.into_iter().zip(fates) {
            let fate = self.bury(&batch, fate).await;
            self.broker.release(batch, fate).await;
        }
        Ok(())
    }

    /// Puts what was refused at its last try among the dead letters.
    async fn bury(&self, batch: &Batch<B::Handle>, mut fate: Fate) -> Fate {
        let Fate::Taken(taken) = &mut fate else { return fate };
        for (event, became) in batch.events.iter().zip(taken) {
            let Taken::Refused(reason) = became else { continue };
            self.taker.count("refused", 1);
            if event.fault.is_none() && event.tries < self.broker.tries() {
                continue;
            }
            match self.taker.intake.bury(event.clone(), reason.clone()).await {
                Ok(()) => {
                    self.taker.count("buried", 1);
                    tracing::warn!(
                        broker = B::NAME,
                        tries = event.tries,
                        "an event of the broker was refused; it is among the dead letters"
                    );
                    *became = Taken::Buried;
                }
                Err(error) => {
                    tracing::warn!(broker = B::NAME, %error, "a refused event of the broker could not be put among the dead letters");
                }
            }
        }
        fate
    }
}

impl Taker {
    fn count(&self, outcome: &str, events: usize) {
        count(&self.metrics, self.broker, outcome, events);
    }

    /// Stores a batch. When its events cannot be stored together they are stored one by one, so that what cannot be stored
    /// keeps nothing else out.
    async fn take<T>(&self, batch: &Batch<T>, shutdown: &Shutdown) -> Fate {
        let fate = match self.store(&batch.events, batch.step.clone(), shutdown).await {
            Ok(Some(taken)) => Fate::Taken(taken),
            Ok(None) => Fate::Moved,
            Err(Failed::Ended) => Fate::Unknown,
            Err(Failed::Broken) => self.one_by_one(batch, shutdown).await,
        };
        if let Fate::Taken(taken) = &fate {
            let of = |which: &[Taken]| taken.iter().filter(|one| which.contains(one)).count();
            self.count("taken", of(&[Taken::Stored]));
            self.count("refused", of(&[Taken::Kept, Taken::Buried]));
            self.count("buried", of(&[Taken::Buried]));
        }
        fate
    }

    async fn one_by_one<T>(&self, batch: &Batch<T>, shutdown: &Shutdown) -> Fate {
        let mut taken = Vec::with_capacity(batch.events.len());
        let mut rest = batch.step.clone();
        for (place, event) in batch.events.iter().enumerate() {
            let is_last = place + 1 == batch.events.len();
            let step =
                rest.as_mut().map(|rest| if is_last { rest.clone() } else { rest.split(event.offset + 1) });
            let mut event = event.clone();
            let became = loop {
                match self.store(std::slice::from_ref(&event), step.clone(), shutdown).await {
                    Ok(None) => return Fate::Moved,
                    Err(Failed::Ended) => return Fate::Unknown,
                    Ok(Some(mut one)) => break one.pop(),
                    Err(Failed::Broken) if step.is_none() => break None,
                    Err(Failed::Broken) => {
                        // kept as what it is, and the next time not tried
                        event.fault = Some(CANNOT_BE_STORED.to_owned());
                        tokio::select! {
                            () = shutdown.wait() => return Fate::Unknown,
                            () = tokio::time::sleep(FIRST_REST) => {}
                        }
                    }
                }
            };
            taken.push(became.unwrap_or_else(|| Taken::Refused(CANNOT_BE_STORED.to_owned())));
        }
        Fate::Taken(taken)
    }

    /// Hands events over until the database is there; the answer is none when their position was moved by another node.
    async fn store(
        &self,
        events: &[Incoming],
        step: Option<Step>,
        shutdown: &Shutdown,
    ) -> Result<Option<Vec<Taken>>, Failed> {
        let (mut rest, count) = (FIRST_REST, events.len());
        // those at fault are not shown to an intake that does not keep them
        let (shown, faults): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| step.is_some() || event.fault.is_none());
        if shown.is_empty() && !faults.is_empty() {
            return Ok(Some(with_faults(events, Vec::new())));
        }
        loop {
            let handed = shown.iter().map(|event| (*event).clone()).collect();
            match self.intake.take(handed, step.clone()).await {
                Ok(Some(taken)) if taken.len() == shown.len() => {
                    let taken = if faults.is_empty() { taken } else { with_faults(events, taken) };
                    return Ok(Some(taken));
                }
                Ok(None) => return Ok(None),
                Ok(Some(taken)) => {
                    let broker = self.broker;
                    tracing::error!(
                        broker,
                        events = count,
                        taken = taken.len(),
                        "events were not all judged"
                    );
                    return Err(Failed::Broken);
                }
                // one that is stored already is known by its id, or by its position
                Err(Error::Unavailable(error) | Error::OutcomeUnknown(error)) => {
                    let broker = self.broker;
                    tracing::warn!(broker, %error, events = count, "events of the broker wait for the database");
                }
                Err(error) => {
                    let (broker, first) = (self.broker, events.first().map(|event| event.subject.as_str()));
                    tracing::error!(broker, %error, events = count, first, "events of the broker cannot be stored");
                    return Err(Failed::Broken);
                }
            }
            tokio::select! {
                () = shutdown.wait() => return Err(Failed::Ended),
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(self.longest_rest),
            }
        }
    }
}

const CANNOT_BE_STORED: &str = "it cannot be stored";

/// Notes why an event need not be shown to the intake.
fn find_fault(event: &mut Incoming) {
    let fault = match event.body.len() {
        0 => "it has no body".to_owned(),
        size if size > LARGEST_EVENT => {
            format!("its body has {size} bytes; at most {LARGEST_EVENT} are taken")
        }
        _ => return,
    };
    event.fault.get_or_insert(fault);
}

/// What became of each event, from what became of those without a fault.
fn with_faults(events: &[Incoming], taken: Vec<Taken>) -> Vec<Taken> {
    let mut taken = taken.into_iter();
    let became = |event: &Incoming| match &event.fault {
        Some(fault) => Some(Taken::Refused(fault.clone())),
        None => taken.next(),
    };
    events.iter().filter_map(became).collect()
}

#[cfg(test)]
mod tests {
    use super::Problems;

    #[test]
    fn a_problem_is_told_of_once_whatever_times_it_names() {
        let mut problems = Problems::default();
        assert!(problems.is_new("refused; again in 1.5 s"));
        assert!(!problems.is_new("refused; again in 20.25 s"));
        assert!(problems.is_new("no such user"));
        assert!(!problems.is_new("refused; again in 3 s"));
    }
}
