//! An intake that keeps in memory what a database would keep on disk.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use fanfare::broker::{EventResult, Incoming, Intake, Step};
use fanfare::error::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// What it says to one event.
pub type Judge = Box<dyn Fn(&Incoming) -> Verdict + Send + Sync>;

/// What becomes of one event.
pub enum Verdict {
    Store,
    Refuse(&'static str),
    /// With all that it came with.
    Break,
}

/// It takes all, until it is told otherwise.
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
    /// The tries of each delivery that was handed over and could be judged, by body.
    tries: HashMap<String, Vec<u64>>,
    buried: Vec<(Incoming, String)>,
}

impl Fake {
    pub fn new(judge: impl Fn(&Incoming) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Arc::new(Self { judge: Box::new(judge), gate, kept: Mutex::default() })
    }

    /// One that stores all.
    pub fn that_takes_all() -> Arc<Self> {
        Self::new(|_| Verdict::Store)
    }

    /// One that refuses the body `poison`.
    pub fn that_refuses_poison() -> Arc<Self> {
        Self::new(|event| match &event.body[..] {
            b"poison" => Verdict::Refuse("nobody knows such an event"),
            _ => Verdict::Store,
        })
    }

    /// One that answers only to so many calls.
    pub fn that_takes(calls: usize) -> Arc<Self> {
        let kept = Mutex::default();
        Arc::new(Self { judge: Box::new(|_| Verdict::Store), gate: Semaphore::new(calls), kept })
    }

    /// Lets so many more calls be answered.
    pub fn let_go_on(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    /// From now on the database is away, or there again.
    pub fn set_away(&self, is_away: bool) {
        self.kept.lock().unwrap().is_away = is_away;
    }

    /// How many calls failed because it was away.
    pub fn failures(&self) -> usize {
        self.kept.lock().unwrap().failures
    }

    /// How many are stored.
    pub fn stored(&self) -> usize {
        self.kept.lock().unwrap().rows.len()
    }

    /// The stored bodies, sorted.
    pub fn rows(&self) -> Vec<String> {
        let mut rows = self.kept.lock().unwrap().rows.clone();
        rows.sort_unstable();
        rows
    }

    /// Which tries of an event it has seen.
    pub fn tries(&self, body: &str) -> Vec<u64> {
        self.kept.lock().unwrap().tries.get(body).cloned().unwrap_or_default()
    }

    /// What was buried, with the reasons.
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
