//! The feeder: keeps the lanes filled with the mailings' next recipients, closes mailings that are cancelled or past
//! their window, and takes over leases without an owner. It feeds only as fast as the lanes have room, so memory stays
//! flat.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::active_mailing::{ActiveMailing, MailingState};
use super::lanes::Lanes;
use super::leases::HeldLease;
use super::model::QueuedMessage;
use super::origin::Origin;
use super::reasons::{CANCELLED, WINDOW_CLOSED};
use super::repo::claim::LaneBatch;
use super::repo::close::{self, Closing, Ending};
use super::repo::plan::{self, Plan};
use super::repo::take_over::{self, OrphanedLeases, TakenOver};
use super::repo::{NewLease, node, requeue};
use super::shared::Shared;
use crate::db::AnyConnection;
use crate::db::types::{ClientId, LeaseId, MailingId};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, OutcomeKind, Priority};
use crate::lifecycle::Shutdown;
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::ClientFields;
use crate::mailings::repo::{OpenMailing, audience};
use crate::sending;
use crate::templates::Variants;

/// The number of mailings planned concurrently: their commits share an fsync.
const AT_ONCE: usize = 8;
/// The number of leases of one lane taken over in one transaction.
const TAKE_OVER: usize = 4;
/// The number of standalone leases requeued in one transaction.
const REQUEUE: i64 = 64;

/// The number of rows about moved clients deleted in one transaction.
const MOVES_AT_ONCE: i64 = 1000;

/// Feeds the lanes.
pub struct Feeder {
    shared: Arc<Shared>,
    looked_at: Option<Instant>,
    /// The lanes that may have leases without an owner, which are taken over before new ones are planned.
    left_over: BTreeSet<(ChannelKind, Priority)>,
}

impl Feeder {
    /// Creates the feeder of this engine.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, looked_at: None, left_over: BTreeSet::new() }
    }

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
            let pause = self.pause();
            shutdown.rest(&self.shared.feed, pause).await;
        }
    }

    /// Returns the time until the next poll, which is earlier if a circuit breaker closes before.
    fn pause(&self) -> Duration {
        let rests = self.shared.gates.values().map(|gate| gate.rest()).filter(|rest| !rest.is_zero());
        rests.min().map_or(self.shared.settings.poll, |rest| rest.min(self.shared.settings.poll))
    }

    /// Does one bounded step for every mailing. Returns true if there is more to do at once.
    ///
    /// # Errors
    /// Database errors.
    pub async fn run_once(&mut self) -> Result<bool> {
        let poll = self.shared.settings.poll;
        let tick = self.looked_at.is_none_or(|at| at.elapsed() >= poll);
        if self.shared.changed.swap(false, Ordering::AcqRel) || tick {
            self.look().await?;
        }
        self.hold_singles();
        if self.release_idle().await? {
            self.left_over = self.all_lanes();
        }
        // lane by lane, so that a full lane does not block the others
        let mut worked = self.take_over().await?;
        let may_finalize = self.shared.lease_done.swap(false, Ordering::AcqRel) || tick;
        let runs = self.shared.runs.all();
        let mut sharers: BTreeMap<_, usize> = BTreeMap::new();
        for run in runs.iter().filter(|run| !run.is_audience_exhausted()) {
            *sharers.entry((run.channel, run.priority)).or_default() += 1;
        }
        for some in runs.chunks(AT_ONCE) {
            let steps = some.iter().map(|run| {
                let lane = (run.channel, run.priority);
                let sharers = sharers.get(&lane).copied().unwrap_or(1);
                // leases without an owner go before new ones; pausing and closing never wait
                let may_plan = !self.left_over.contains(&lane);
                self.step(run, if may_plan { sharers } else { 0 }, may_finalize)
            });
            for result in join_all(steps).await {
                worked |= result?;
            }
        }
        Ok(worked)
    }

    /// Reads all open mailings: adds new ones, and updates known ones.
    async fn look(&mut self) -> Result<()> {
        let (this, held) = (self.shared.leases.node(), self.shared.leases.held().into_iter().collect());
        let turns = self.shared.valve.turns();
        let read = move |c: &mut AnyConnection| {
            let open = crate::mailings::repo::open(c)?;
            let paused = sending::repo::paused_at(c)?.is_some();
            Ok(((open, paused), node::count(c)?, take_over::orphaned_leases(c, this, &held)?))
        };
        let ((open, paused), nodes, left): ((Vec<OpenMailing>, bool), i64, OrphanedLeases) =
            self.shared.db.read(read).await?;
        if self.shared.valve.follow(paused, turns) {
            self.shared.valve_was_turned();
        }
        self.shared.nodes.store(u32::try_from(nodes).unwrap_or(u32::MAX), Ordering::Release);
        let by_id: HashMap<_, _> = open.iter().map(|open| (open.id, *open)).collect();
        self.shared.runs.retain(|id| by_id.contains_key(&id));
        for open in &open {
            let run = self.shared.run(open.id).await?;
            let rate = self.shared.part_of(open.rate_per_second);
            if run.refresh(open.status, open.ends_at, open.walked, rate)
                && let Some(lanes) = self.shared.lanes.get(&run.channel)
            {
                lanes.reschedule();
            }
        }
        self.show_running();
        self.looked_at = Some(Instant::now());
        self.left_over.extend(left.lanes);
        if left.single {
            self.requeue().await?;
        }
        if open.is_empty() { self.tidy().await } else { Ok(()) }
    }

    /// Requeues standalone messages whose leases have no owner.
    async fn requeue(&self) -> Result<()> {
        let shared = &self.shared;
        let _adopting = shared.adopting.lock().await;
        loop {
            let (node, held, now) = (shared.leases.node(), shared.leases.held(), shared.now());
            if !shared.node_lease.is_held(now) {
                return Ok(());
            }
            let again = move |c: &mut AnyConnection| requeue::requeue(c, node, &held, REQUEUE, now);
            let leases = shared.db.write(again).await?;
            if leases > 0 {
                failpoint::reach("requeue-after-commit");
                tracing::info!(leases = leases, "messages of leases without an owner requeued");
                shared.claim.notify_one();
            }
            if i64::try_from(leases).unwrap_or(i64::MAX) < REQUEUE {
                return Ok(());
            }
        }
    }

    /// Returns the standalone messages of channels with an open circuit breaker: they wait on disk, where they can be
    /// cancelled.
    fn hold_singles(&self) {
        for (channel, lanes) in &self.shared.lanes {
            if !self.shared.rest(*channel).is_zero() {
                self.shared.give_back(lanes.drain(None));
            }
        }
    }

    /// Deletes rows that only active mailings need, while there are no active mailings.
    async fn tidy(&self) -> Result<()> {
        let db = &self.shared.db;
        // read before writing: usually the table is empty
        if db.read(audience::any_moves).await? {
            db.write(|c| audience::delete_moves(c, MOVES_AT_ONCE)).await?;
        }
        Ok(())
    }

    fn show_running(&self) {
        let now = self.shared.now();
        let running =
            self.shared.runs.all().iter().filter(|run| run.state(now) == MailingState::Running).count();
        self.shared.metrics.mailings_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    fn all_lanes(&self) -> BTreeSet<(ChannelKind, Priority)> {
        let lanes = self.shared.lanes.keys();
        lanes.flat_map(|channel| Priority::ALL.iter().map(|priority| (*channel, *priority))).collect()
    }

    /// Releases the idle leases. Returns true if there were any.
    async fn release_idle(&self) -> Result<bool> {
        let ids: Vec<LeaseId> = self.shared.leases.take_idle();
        if ids.is_empty() {
            return Ok(false);
        }
        let (node, list, now) = (self.shared.leases.node(), ids.clone(), self.shared.now());
        let released = self.shared.db.write(move |c| requeue::release(c, &list, node, now)).await;
        if released.is_ok() {
            failpoint::reach("release-after-commit");
            self.shared.claim.notify_one();
        }
        for id in ids {
            match &released {
                Ok(()) => self.shared.leases.forget(id),
                Err(_) => self.shared.leases.set_idle(id),
            }
        }
        released.map(|()| true)
    }

    /// Takes over leases without an owner, for every lane that has room. Returns true if there may be more.
    async fn take_over(&mut self) -> Result<bool> {
        let mut more = false;
        for lane in self.left_over.clone() {
            let has_room = self.shared.lanes.get(&lane.0).is_some_and(|lanes| lanes.has_room(lane.1));
            // for a channel with an open circuit breaker, only the mailings that are to be closed
            let only = (!self.shared.rest(lane.0).is_zero()).then(|| self.ending(lane));
            let is_wanted = only.as_ref().is_none_or(|mailings| !mailings.is_empty());
            if has_room && is_wanted && self.shared.node_lease.is_held(self.shared.now()) {
                if self.take_over_into(lane, only).await? {
                    more = true;
                } else {
                    self.left_over.remove(&lane);
                }
            }
        }
        Ok(more)
    }

    /// Returns the mailings of a lane that are cancelled or past their window.
    fn ending(&self, lane: (ChannelKind, Priority)) -> Vec<MailingId> {
        let now = self.shared.now();
        let is_ending = |run: &Arc<ActiveMailing>| {
            (run.channel, run.priority) == lane
                && matches!(run.state(now), MailingState::Closed | MailingState::Cancelled)
        };
        self.shared.runs.all().iter().filter(|run| is_ending(run)).map(|run| run.id).collect()
    }

    /// Takes over leases of one lane, or `only` those of these mailings. Returns true if there were any.
    async fn take_over_into(
        &self,
        lane: (ChannelKind, Priority),
        only: Option<Vec<MailingId>>,
    ) -> Result<bool> {
        let shared = &self.shared;
        let _adopting = shared.adopting.lock().await;
        let (held, now) = (shared.leases.held(), shared.now());
        let lot =
            LaneBatch { node: shared.leases.node(), channel: lane.0, priority: lane.1, limit: TAKE_OVER };
        let taken =
            shared.db.write(move |c| take_over::take_over(c, lot, (&held, only.as_deref()), now)).await?;
        let any = !taken.is_empty();
        for lease in taken {
            failpoint::reach("take-over-after-commit");
            tracing::info!(lease = %lease.lease.id, messages = lease.open.len(), "lease taken over");
            self.admit(lease).await?;
        }
        Ok(any)
    }

    async fn admit(&self, taken: TakenOver) -> Result<()> {
        let Some(mailing) = taken.lease.mailing else {
            return Ok(());
        };
        let run = self.shared.run(mailing).await?;
        let lease =
            Arc::new(HeldLease::new(taken.lease.id, taken.lease.node, taken.lease.mailing, taken.open.len()));
        let mut recipients: HashMap<ClientId, Recipient> =
            taken.recipients.into_iter().map(|r| (r.client_id, r)).collect();
        let before = taken.attempts_before;
        let items = taken.open.into_iter().map(|(member, row)| {
            let recipient = member.client.and_then(|id| recipients.remove(&id));
            let preferences = member.client.and_then(|id| taken.preferences.get(&id).cloned());
            let (lease, origin) = (Arc::clone(&lease), Origin::Mailing(Arc::clone(&run)));
            match row {
                Some(row) => {
                    let before = before.get(&row.id).copied().unwrap_or_default();
                    QueuedMessage::from_row((row, before), lease, origin, (recipient, preferences))
                }
                None => QueuedMessage {
                    id: member.message,
                    lease,
                    origin,
                    client: member.client,
                    recipient,
                    preferences,
                    address: None,
                    attempts: 0,
                    attempts_before: 0,
                    revision: 0,
                    due_at: run.due_at,
                },
            }
        });
        let items = items.collect();
        self.shared.admit(&lease, (run.channel, run.priority), items).await;
        Ok(())
    }

    /// Does one step for one mailing. Returns true if there is more to do at once. With 0 `sharers` it plans no new
    /// lease.
    async fn step(&self, run: &Arc<ActiveMailing>, sharers: usize, may_finalize: bool) -> Result<bool> {
        let shared = &self.shared;
        let Some(lanes) = shared.lanes.get(&run.channel) else {
            return Ok(false);
        };
        match run.state(shared.now()) {
            MailingState::Paused => self.hold(run, lanes, may_finalize).await,
            MailingState::Running if !shared.rest(run.channel).is_zero() => {
                self.hold(run, lanes, may_finalize).await
            }
            MailingState::Running if !run.is_audience_exhausted() && sharers == 0 => Ok(false),
            MailingState::Running if !run.is_audience_exhausted() => self.plan(run, lanes, sharers).await,
            MailingState::Running => self.finalize(run, may_finalize).await,
            MailingState::Closed => self.close(run, lanes, Ending::Expired).await,
            MailingState::Cancelled => self.close(run, lanes, Ending::Cancelled).await,
        }
    }

    /// Returns the mailing's messages from memory, because it is paused, or its channel's circuit breaker is open.
    async fn hold(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, may_finalize: bool) -> Result<bool> {
        self.shared.give_back(lanes.drain(Some(run.id)));
        self.release_idle().await?;
        self.finalize(run, may_finalize).await
    }

    async fn plan(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, sharers: usize) -> Result<bool> {
        let shared = &self.shared;
        let limit = lanes.wanted(run, sharers).min(shared.settings.page_size);
        let now = shared.now();
        if limit == 0 || !shared.node_lease.is_held(now) {
            return Ok(false);
        }
        let new = NewLease {
            id: LeaseId::new(),
            node: shared.leases.node(),
            mailing: Some(run.id),
            channel: run.channel,
            priority: run.priority,
        };
        let what = Plan { mailing: run.id, ranges: Arc::clone(&run.ranges), limit, needs: needs(run) };
        let stored = new.clone();
        let stretch = shared.db.write(move |c| plan::plan(c, &what, &stored, now)).await?;
        let Some(stretch) = stretch else {
            // the mailing was paused, cancelled, exhausted by another node, or its window closed: read it again
            shared.mailing_changed();
            return Ok(false);
        };
        if stretch.walked {
            run.set_audience_exhausted();
            shared.finalize_soon();
        }
        let count = stretch.planned.len();
        shared.metrics.entered(run.channel, count);
        if count > 0 {
            failpoint::reach("plan-after-commit");
            let lease = Arc::new(HeldLease::new(new.id, new.node, new.mailing, count));
            let (due_at, preferences) = (run.due_at, stretch.preferences);
            let items = stretch.planned.into_iter().map(|(id, recipient)| QueuedMessage {
                id,
                lease: Arc::clone(&lease),
                origin: Origin::Mailing(Arc::clone(run)),
                client: Some(recipient.client_id),
                preferences: preferences.get(&recipient.client_id).cloned(),
                recipient: Some(recipient),
                address: None,
                attempts: 0,
                attempts_before: 0,
                revision: 0,
                due_at,
            });
            let items = items.collect();
            shared.admit(&lease, (run.channel, run.priority), items).await;
        }
        Ok(true)
    }

    /// Ends the remaining messages of a mailing.
    async fn close(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, ending: Ending) -> Result<bool> {
        let shared = &self.shared;
        let (kind, reason) = match ending {
            Ending::Cancelled => (OutcomeKind::Cancelled, CANCELLED),
            Ending::Expired => (OutcomeKind::Expired, WINDOW_CLOSED),
        };
        for item in lanes.drain(Some(run.id)) {
            shared.record(item.close(kind, shared.now(), reason)).await;
        }
        let plan = Plan {
            mailing: run.id,
            ranges: Arc::clone(&run.ranges),
            limit: shared.settings.page_size,
            needs: ClientFields { profile: false, ..needs(run) },
        };
        let closing = Closing { plan, channel: run.channel, priority: run.priority, ending, reason };
        let now = shared.now();
        let (planned, closed) = shared
            .db
            .write(move |c| {
                let rest = close::rest_of_audience(c, &closing, now)?;
                let waiting = close::waiting(c, &closing, now)?;
                Ok((
                    rest.messages,
                    close::Closed {
                        messages: rest.messages + waiting.messages,
                        more: rest.more || waiting.more,
                    },
                ))
            })
            .await?;
        failpoint::reach("close-after-commit");
        shared.metrics.entered(run.channel, planned);
        shared.count(run.channel, kind, closed.messages);
        if closed.more {
            return Ok(true);
        }
        run.set_audience_exhausted();
        self.finalize(run, true).await
    }

    /// Finalizes the counts of a mailing without remaining messages.
    async fn finalize(&self, run: &Arc<ActiveMailing>, may_finalize: bool) -> Result<bool> {
        let shared = &self.shared;
        if !may_finalize || !run.is_audience_exhausted() || shared.leases.holds(run.id) {
            return Ok(false);
        }
        // locked, so that a claim of messages replayed right after this creates a new active mailing, which a pause
        // finds
        let _adopting = shared.adopting.lock().await;
        let (id, now) = (run.id, shared.now());
        if shared.db.write(move |c| crate::mailings::repo::finalize(c, id, now)).await? {
            shared.runs.remove(id);
            self.show_running();
            tracing::info!(mailing = %id, "mailing finished");
        }
        Ok(false)
    }
}

/// Returns the fields of a client that the mailing's messages need.
fn needs(run: &ActiveMailing) -> ClientFields {
    let profile = run.content.as_ref().is_ok_and(Variants::needs_reader);
    ClientFields { channel: run.channel, profile, reachable: run.reachable }
}
