//! The feeder: keeps the lanes filled with the mailings' next recipients, closes mailings that are cancelled or past
//! their window, and takes over leases without an owner. It feeds only as fast as the lanes have room, so memory stays
//! flat.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::active_mailings::ActiveMailings;
use super::adopter::Adopter;
use super::feeder_signal::FeederSignal;
use super::leases::HeldLeases;
use super::pause_switch::PauseSwitch;
use super::planner::Planner;
use super::queues::Queues;
use super::releaser::Releaser;
use super::repo::node;
use super::repo::take_over::{self, OrphanedLeases};
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::lifecycle::Shutdown;
use crate::mailings::repo::{OpenMailing, audience};
use crate::sending;

/// The number of mailings planned concurrently: their commits share an fsync.
const AT_ONCE: usize = 8;
/// The number of rows about moved clients deleted in one transaction.
const MOVES_AT_ONCE: i64 = 1000;

/// Feeds the lanes.
pub struct Feeder {
    pub(super) db: Db,
    pub(super) queues: Arc<Queues>,
    pub(super) pause_switch: Arc<PauseSwitch>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) signal: Arc<FeederSignal>,
    /// Wakes the claimer.
    pub(super) claim: Arc<Notify>,
    pub(super) planner: Planner,
    pub(super) adopter: Adopter,
    pub(super) releaser: Releaser,
    pub(super) poll: Duration,
    /// The time of the last poll.
    pub(super) looked_at: Option<Instant>,
}

impl Feeder {
    /// Runs until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let worked = self.run_once().await.unwrap_or_else(|error| {
                tracing::error!(%error, "feeding the lanes failed; trying again");
                self.looked_at = None;
                false
            });
            if worked {
                continue;
            }
            shutdown.rest(self.signal.waker(), self.queues.until_poll()).await;
        }
    }

    /// Does one bounded step for every mailing. Returns true if there is more to do at once.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&mut self) -> Result<bool> {
        let tick = self.looked_at.is_none_or(|at| at.elapsed() >= self.poll);
        if self.signal.take_mailing_changed() || tick {
            self.look().await?;
        }
        self.hold_singles();
        if self.releaser.release_idle().await? {
            self.adopter.note_all();
        }
        // lane by lane, so that a full lane does not block the others
        let mut worked = self.adopter.take_over().await?;
        let may_finalize = self.signal.take_lease_done() || tick;
        let runs = self.mailings.all();
        let mut sharers: BTreeMap<_, usize> = BTreeMap::new();
        for run in runs.iter().filter(|run| !run.is_audience_exhausted()) {
            *sharers.entry((run.channel, run.priority)).or_default() += 1;
        }
        for some in runs.chunks(AT_ONCE) {
            let steps = some.iter().map(|run| {
                let lane = (run.channel, run.priority);
                let sharers = sharers.get(&lane).copied().unwrap_or(1);
                // leases without an owner go before new ones; pausing and closing never wait
                let may_plan = !self.adopter.is_left_over(lane);
                self.planner.step(run, if may_plan { sharers } else { 0 }, may_finalize)
            });
            for result in join_all(steps).await {
                worked |= result?;
            }
        }
        Ok(worked)
    }

    /// Reads all open mailings: adds new ones, and updates known ones.
    async fn look(&mut self) -> Result<()> {
        let (this, held) = (self.leases.node(), self.leases.held().into_iter().collect());
        let turns = self.pause_switch.turns();
        let read = move |c: &mut AnyConnection| {
            let open = crate::mailings::repo::open(c)?;
            let paused = sending::repo::paused_at(c)?.is_some();
            Ok(((open, paused), node::count(c)?, take_over::orphaned_leases(c, this, &held)?))
        };
        let ((open, paused), nodes, left): ((Vec<OpenMailing>, bool), i64, OrphanedLeases) =
            self.db.read(read).await?;
        if self.pause_switch.follow(paused, turns) {
            // a pause empties the lanes, and a resume fills them
            self.signal.wake();
            self.claim.notify_one();
        }
        self.mailings.set_nodes(u32::try_from(nodes).unwrap_or(u32::MAX));
        let by_id: HashMap<_, _> = open.iter().map(|open| (open.id, *open)).collect();
        self.mailings.retain(|id| by_id.contains_key(&id));
        for open in &open {
            let run = self.mailings.load(open.id).await?;
            let rate = self.mailings.part_of(open.rate_per_second);
            if run.refresh(open.status, open.ends_at, open.walked, rate)
                && let Some(lanes) = self.queues.lanes(run.channel)
            {
                lanes.reschedule();
            }
        }
        self.planner.show_running();
        self.looked_at = Some(Instant::now());
        self.adopter.note(left.lanes);
        if left.single {
            self.releaser.requeue().await?;
        }
        if open.is_empty() { self.tidy().await } else { Ok(()) }
    }

    /// Returns the standalone messages of channels with an open circuit breaker: they wait on disk, where they can be
    /// cancelled.
    fn hold_singles(&self) {
        for (channel, lanes) in self.queues.all() {
            if !self.queues.rest(channel).is_zero() {
                lanes.drain(None).iter().for_each(|item| self.leases.give_back(&item.lease));
            }
        }
    }

    /// Deletes rows that only active mailings need, while there are no active mailings.
    async fn tidy(&self) -> Result<()> {
        let db = &self.db;
        // read before writing: usually the table is empty
        if db.read(audience::any_moves).await? {
            db.write(|c| audience::delete_moves(c, MOVES_AT_ONCE)).await?;
        }
        Ok(())
    }
}
