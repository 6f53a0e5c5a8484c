//! The replayer: brings the replays of many to their end, each at its rate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::model::DeadLetter;
use super::repo::many::{self, Step, Turn};
use super::repo::{self, one};
use super::usecase::{TakeEvent, Told};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::{NodeId, ReplayId};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::lifecycle::Shutdown;

/// Letters replayed in one transaction at most.
const AT_ONCE: f64 = 500.0;
/// How often a step is made, as far as a whole number of letters allows.
const STEP: Duration = Duration::from_millis(500);
/// For how long after a step the replay is this node's, beyond the time of the next one.
const TURN: Duration = Duration::from_secs(5);
/// Behind its schedule by more than this a replay begins it anew: a burst helps nobody.
const LAG: Duration = Duration::from_secs(1);

/// Replays what was asked for, one step after another.
pub struct Replayer {
    db: Db,
    clock: Clock,
    told: Told,
    events: Arc<dyn TakeEvent>,
    wake: Arc<Notify>,
    poll: Duration,
    /// Who this is, to the other nodes.
    node: NodeId,
    /// When the next step of each replay is.
    schedule: HashMap<ReplayId, Instant>,
}

impl Replayer {
    /// Over this database; it looks for replays when it is woken, and each `poll`.
    pub fn new(
        (db, clock): (Db, Clock),
        told: Told,
        events: Arc<dyn TakeEvent>,
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

    /// One step of each replay whose turn it is; answers how long there is nothing to do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&mut self) -> Result<Duration> {
        let running = self.db.read(many::running).await?;
        self.schedule.retain(|id, _| running.iter().any(|(known, _)| known == id));
        let mut pause = self.poll;
        for (id, rate) in running {
            let now = Instant::now();
            let planned = self.schedule.get(&id).copied().unwrap_or(now);
            // on an absolute schedule, so that what a step takes is not added to it
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

    /// One step; answers how many letters it took, or nothing when the replay is over or another node's.
    async fn step(&self, id: ReplayId, limit: f64, rate: f64) -> Result<Option<usize>> {
        let now = self.clock.now();
        let until = now.plus(TURN + Duration::from_secs_f64(limit / rate));
        let turn = Turn { id, node: self.node, until };
        // 1 to 500
        let limit = limit as i64;
        match self.db.write(move |c| many::step(c, turn, limit, now)).await? {
            Step::NotOurs => Ok(None),
            Step::Did(done) => Ok(Some(self.tell(&done))),
            Step::Finished(done) => {
                self.tell(&done);
                tracing::info!(replay = %id, "a replay of dead letters is finished");
                Ok(None)
            }
            Step::Event(letter) => self.take(turn, letter).await,
        }
    }

    fn tell(&self, done: &one::Done) -> usize {
        failpoint::reach("replay-after-commit");
        self.told.of(done);
        done.replayed.len()
    }

    async fn take(&self, turn: Turn, letter: DeadLetter) -> Result<Option<usize>> {
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
