//! An intake that keeps in memory the rows that a database would store on disk.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use fanfare::broker::{EventResult, Incoming, Intake, Step};
use fanfare::error::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// Decides the verdict of an event.
pub type Judge = Box<dyn Fn(&Incoming) -> Verdict + Send + Sync>;

/// The verdict of an event.
pub enum Verdict {
    Store,
    Refuse(&'static str),
    /// Fails the whole batch of the event.
    Break,
}

/// An intake that accepts all events until it is told otherwise.
pub struct Fake {
    judge: Judge,
    /// A permit for each call of `take`.
    gate: Semaphore,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    is_away: bool,
    failures: usize,
    /// Bodies, in the order of their commits.
    rows: Vec<String>,
    keys: HashSet<String>,
    /// The delivery counts of each event that was handed over and could be judged, by body.
    tries: HashMap<String, Vec<u64>>,
    buried: Vec<(Incoming, String)>,
}

impl Fake {
    pub fn new(judge: impl Fn(&Incoming) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Arc::new(Self { judge: Box::new(judge), gate, kept: Mutex::default() })
    }

    /// Creates an intake that stores every event.
    pub fn that_takes_all() -> Arc<Self> {
        Self::new(|_| Verdict::Store)
    }

    /// Creates an intake that refuses the body `poison`.
    pub fn that_refuses_poison() -> Arc<Self> {
        Self::new(|event| match &event.body[..] {
            b"poison" => Verdict::Refuse("nobody knows such an event"),
            _ => Verdict::Store,
        })
    }

    /// Creates an intake that completes only this number of calls.
    pub fn that_takes(calls: usize) -> Arc<Self> {
        let kept = Mutex::default();
        Arc::new(Self { judge: Box::new(|_| Verdict::Store), gate: Semaphore::new(calls), kept })
    }

    /// Lets this number of further calls complete.
    pub fn let_go_on(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    /// Makes the database unavailable, or available again.
    pub fn set_away(&self, is_away: bool) {
        self.kept.lock().unwrap().is_away = is_away;
    }

    /// The number of calls that failed because the database was unavailable.
    pub fn failures(&self) -> usize {
        self.kept.lock().unwrap().failures
    }

    /// The number of stored events.
    pub fn stored(&self) -> usize {
        self.kept.lock().unwrap().rows.len()
    }

    /// The stored bodies, sorted.
    pub fn rows(&self) -> Vec<String> {
        let mut rows = self.kept.lock().unwrap().rows.clone();
        rows.sort_unstable();
        rows
    }

    /// The delivery counts of an event that it has seen.
    pub fn tries(&self, body: &str) -> Vec<u64> {
        self.kept.lock().unwrap().tries.get(body).cloned().unwrap_or_default()
    }

    /// The dead letters, with the reasons.
    pub fn buried(&self) -> Vec<(Incoming, String)> {
        self.kept.lock().unwrap().buried.clone()
    }

    fn commit(&self, events: &[Incoming]) -> Result<Vec<EventResult>> {
        let mut kept = self.kept.lock().unwrap();
        if kept.is_away {
            kept.failures += 1;
            return Err(Error::Unavailable("it is away".into()));
        }
        let verdicts: Vec<_> = events.iter().map(|event| (self.judge)(event)).collect();
        if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Break)) {
            return Err(Error::internal("one of them cannot be stored"));
        }
        let mut judge = |(event, verdict): (&Incoming, Verdict)| {
            let body = String::from_utf8_lossy(&event.body).into_owned();
            kept.tries.entry(body.clone()).or_default().push(event.tries);
            match verdict {
                Verdict::Refuse(reason) => return EventResult::Refused(reason.to_owned()),
                _ if kept.keys.insert(event.key.clone()) => kept.rows.push(body),
                _ => {}
            }
            EventResult::Stored
        };
        Ok(events.iter().zip(verdicts).map(&mut judge).collect())
    }
}

impl Intake for Fake {
    fn take(
        &self,
        events: Vec<Incoming>,
        _: Option<Step>,
    ) -> BoxFuture<'_, Result<Option<Vec<EventResult>>>> {
        async move {
            self.gate.acquire().await.unwrap().forget();
            self.commit(&events).map(Some)
        }
        .boxed()
    }

    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut kept = self.kept.lock().unwrap();
            if kept.is_away {
                kept.failures += 1;
                return Err(Error::Unavailable("it is away".into()));
            }
            if kept.keys.insert(event.key.clone()) {
                kept.buried.push((event, reason));
            }
            Ok(())
        }
        .boxed()
    }
}
