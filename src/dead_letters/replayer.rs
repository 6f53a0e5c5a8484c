//! The replayer runs replays by filter, each at its rate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::model::DeadLetter;
use super::repo::many::{self, ReplayStep, ReplayTurn};
use super::repo::{self, one};
use super::usecase::{AcceptEvent, ReplayNotifiers};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{NodeId, ReplayId};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::lifecycle::Shutdown;
use crate::runtime::Runtime;

/// The most dead letters per transaction.
const AT_ONCE: f64 = 500.0;
/// The interval of the steps, rounded to a whole number of dead letters.
const STEP: Duration = Duration::from_millis(500);
/// The time for which a node's claim on a replay lasts beyond its next step.
const TURN: Duration = Duration::from_secs(5);
/// A replay that is later than this restarts its schedule instead of catching up with a burst.
const LAG: Duration = Duration::from_secs(1);

/// Runs the replays step by step.
pub struct Replayer {
    db: Db,
    clock: Clock,
    told: ReplayNotifiers,
    events: Arc<dyn AcceptEvent>,
    wake: Arc<Notify>,
    poll: Duration,
    /// The id under which it claims replays.
    node: NodeId,
    /// The time of the next step of each replay.
    schedule: HashMap<ReplayId, Instant>,
}

impl Replayer {
    /// Creates a replayer. It looks for replays on `wake`, and at least every `poll`.
    pub fn new(
        Runtime { db, clock, .. }: Runtime,
        told: ReplayNotifiers,
        events: Arc<dyn AcceptEvent>,
        (wake, poll): (Arc<Notify>, Duration),
    ) -> Self {
        let (node, schedule) = (NodeId::new(), HashMap::new());
        Self { db, clock, told, events, wake, poll, node, schedule }
    }

    /// Runs until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let pause = self.run_once().await.unwrap_or_else(|error| {
                tracing::error!(%error, "dead letters could not be replayed; trying again");
                self.poll
            });
            shutdown.rest(&self.wake, pause).await;
        }
    }

    /// Executes one step of each replay that is due. Returns the time to wait before the next call.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&mut self) -> Result<Duration> {
        let running = self.db.read(many::running).await?;
        self.schedule.retain(|id, _| running.iter().any(|(known, _)| known == id));
        let mut pause = self.poll;
        for (id, rate) in running {
            let now = Instant::now();
            let planned = self.schedule.get(&id).copied().unwrap_or(now);
            // an absolute schedule, so that the duration of a step is not added to the interval
            let due = if now.duration_since(planned) > LAG { now } else { planned };
            if due > now {
                pause = pause.min(due - now);
                continue;
            }
            let limit = (rate * STEP.as_secs_f64()).ceil().clamp(1.0, AT_ONCE);
            match self.step(id, limit, rate).await? {
                Some(replayed) => {
                    let next = due + Duration::from_secs_f64(replayed as f64 / rate);
                    pause = pause.min(next.saturating_duration_since(Instant::now()));
                    self.schedule.insert(id, next);
                }
                None => {
                    self.schedule.insert(id, now + self.poll);
                }
            }
        }
        Ok(pause)
    }

    /// Executes one step. Returns the number of dead letters that count towards the rate, or `None` if the replay has
    /// ended or another node has claimed it.
    async fn step(&self, id: ReplayId, limit: f64, rate: f64) -> Result<Option<usize>> {
        let now = self.clock.now();
        let until = now.plus(TURN + Duration::from_secs_f64(limit / rate));
        let turn = ReplayTurn { id, node: self.node, until };
        // 1 to 500
        let limit = limit as i64;
        match self.db.write(move |c| many::step(c, turn, limit, now)).await? {
            ReplayStep::NotOurs => Ok(None),
            ReplayStep::Did(done) => Ok(Some(self.tell(&done))),
            ReplayStep::Finished(done) => {
                self.tell(&done);
                tracing::info!(replay = %id, "replay of dead letters finished");
                Ok(None)
            }
            ReplayStep::Event(letter) => self.take(turn, letter).await,
        }
    }

    fn tell(&self, done: &one::ReplayOutcome) -> usize {
        failpoint::reach("replay-after-commit");
        self.told.of(done);
        done.replayed.len()
    }

    async fn take(&self, turn: ReplayTurn, letter: DeadLetter) -> Result<Option<usize>> {
        let id = letter.id;
        let is_taken = match self.db.read(move |c| repo::find_event(c, id)).await? {
            Some(event) => match self.events.take(event).await {
                Ok(()) => true,
                Err(Error::Conflict(_) | Error::Invalid(_)) => false,
                Err(other) => return Err(other),
            },
            None => false,
        };
        let now = self.clock.now();
        let is_ours = self.db.write(move |c| many::step_event(c, turn, (&letter, is_taken), now)).await?;
        Ok(is_ours.then_some(1))
    }
}
