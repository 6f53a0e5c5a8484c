//! The feeder: keeps the lanes filled with the mailings' next recipients, closes what is cancelled or past its window,
//! and takes over what nobody holds. It goes only as fast as the lanes have room, so memory stays flat.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::lanes::Lanes;
use super::model::{Item, OpenPage, Run, RunState};
use super::origin::Origin;
use super::repo::claim::Lot;
use super::repo::close::{self, Closing};
use super::repo::plan::{self, Plan};
use super::repo::take_over::{self, LeftOver, TakenOver};
use super::repo::{NewPage, node, requeue};
use super::shared::Shared;
use super::worker::{CANCELLED, WINDOW_CLOSED};
use crate::db::AnyConnection;
use crate::db::types::{ClientId, MailingId, PageId};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};
use crate::lifecycle::Shutdown;
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::Needs;
use crate::mailings::repo::{Open, audience};
use crate::sending;

/// Mailings that are planned at once: their commits share an fsync.
const AT_ONCE: usize = 8;
/// Pages of one lane taken over at once.
const TAKE_OVER: usize = 4;
/// Pages of no mailing dissolved in one transaction.
const REQUEUE: i64 = 64;

/// Rows about clients that moved which are cleared at once.
const MOVES_AT_ONCE: i64 = 1000;

/// Feeds the lanes.
pub struct Feeder {
    shared: Arc<Shared>,
    looked_at: Option<Instant>,
    /// Lanes for which there may be pages that nobody holds; they go before new ones.
    left_over: BTreeSet<(ChannelKind, Priority)>,
}

impl Feeder {
    /// For this engine.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, looked_at: None, left_over: BTreeSet::new() }
    }

    /// Runs until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            let worked = self.run_once().await.unwrap_or_else(|error| {
                tracing::error!(%error, "mailings could not be fed; trying again");
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

    /// Until the next look: the poll, or the end of a channel's rest.
    fn pause(&self) -> Duration {
        let rests = self.shared.gates.values().map(|gate| gate.rest()).filter(|rest| !rest.is_zero());
        rests.min().map_or(self.shared.settings.poll, |rest| rest.min(self.shared.settings.poll))
    }

    /// One bounded step for every mailing; answers whether there is more to do at once.
    ///
    /// # Errors
    /// Those of the database.
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
        // lane by lane: a full one holds up no other
        let mut worked = self.take_over().await?;
        let may_settle = self.shared.page_done.swap(false, Ordering::AcqRel) || tick;
        let runs = self.shared.runs.all();
        let mut sharers: BTreeMap<_, usize> = BTreeMap::new();
        for run in runs.iter().filter(|run| !run.is_walked()) {
            *sharers.entry((run.channel, run.priority)).or_default() += 1;
        }
        for some in runs.chunks(AT_ONCE) {
            let steps = some.iter().map(|run| {
                let lane = (run.channel, run.priority);
                let sharers = sharers.get(&lane).copied().unwrap_or(1);
                // pages that are left over go before new ones; pausing and closing wait for nothing
                let may_plan = !self.left_over.contains(&lane);
                self.step(run, if may_plan { sharers } else { 0 }, may_settle)
            });
            for result in join_all(steps).await {
                worked |= result?;
            }
        }
        Ok(worked)
    }

    /// Looks at all mailings that are open: new ones, and what changed on those known.
    async fn look(&mut self) -> Result<()> {
        let (this, held) = (self.shared.pages.node(), self.shared.pages.held().into_iter().collect());
        let turns = self.shared.valve.turns();
        let read = move |c: &mut AnyConnection| {
            let open = crate::mailings::repo::open(c)?;
            let paused = sending::repo::paused_at(c)?.is_some();
            Ok(((open, paused), node::count(c)?, take_over::left_over(c, this, &held)?))
        };
        let ((open, paused), nodes, left): ((Vec<Open>, bool), i64, LeftOver) =
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

    /// Lets messages of no mailing wait again whose pages nobody holds.
    async fn requeue(&self) -> Result<()> {
        let shared = &self.shared;
        let _adopting = shared.adopting.lock().await;
        loop {
            let (node, held, now) = (shared.pages.node(), shared.pages.held(), shared.now());
            if !shared.lease.is_held(now) {
                return Ok(());
            }
            let again = move |c: &mut AnyConnection| requeue::requeue(c, node, &held, REQUEUE, now);
            let pages = shared.db.write(again).await?;
            if pages > 0 {
                failpoint::reach("requeue-after-commit");
                tracing::info!(pages, "messages of pages that nobody held wait again");
                shared.claim.notify_one();
            }
            if i64::try_from(pages).unwrap_or(i64::MAX) < REQUEUE {
                return Ok(());
            }
        }
    }

    /// Takes back the messages of no mailing on channels that rest: they wait on disk, where they can be cancelled.
    fn hold_singles(&self) {
        for (channel, lanes) in &self.shared.lanes {
            if !self.shared.rest(*channel).is_zero() {
                self.shared.give_back(lanes.drain(None));
            }
        }
    }

    /// Clears what only mailings at work need, while there is none.
    async fn tidy(&self) -> Result<()> {
        let db = &self.shared.db;
        // looked at before writing: usually there is nothing
        if db.read(audience::any_moves).await? {
            db.write(|c| audience::forget_moves(c, MOVES_AT_ONCE)).await?;
        }
        Ok(())
    }

    fn show_running(&self) {
        let now = self.shared.now();
        let running = self.shared.runs.all().iter().filter(|run| run.state(now) == RunState::Running).count();
        self.shared.metrics.mailings_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    fn all_lanes(&self) -> BTreeSet<(ChannelKind, Priority)> {
        let lanes = self.shared.lanes.keys();
        lanes.flat_map(|channel| Priority::ALL.iter().map(|priority| (*channel, *priority))).collect()
    }

    /// Gives back the pages of which nothing is in hand any more; answers whether there were any.
    async fn release_idle(&self) -> Result<bool> {
        let ids: Vec<PageId> = self.shared.pages.take_idle();
        if ids.is_empty() {
            return Ok(false);
        }
        let (node, list, now) = (self.shared.pages.node(), ids.clone(), self.shared.now());
        let released = self.shared.db.write(move |c| requeue::release(c, &list, node, now)).await;
        if released.is_ok() {
            failpoint::reach("release-after-commit");
            self.shared.claim.notify_one();
        }
        for id in ids {
            match &released {
                Ok(()) => self.shared.pages.forget(id),
                Err(_) => self.shared.pages.set_idle(id),
            }
        }
        released.map(|()| true)
    }

    /// Takes over pages that nobody holds, for every lane that has room; answers whether there may be more at once.
    async fn take_over(&mut self) -> Result<bool> {
        let mut more = false;
        for lane in self.left_over.clone() {
            let has_room = self.shared.lanes.get(&lane.0).is_some_and(|lanes| lanes.has_room(lane.1));
            // of a channel that rests only what is to be closed
            let only = (!self.shared.rest(lane.0).is_zero()).then(|| self.ending(lane));
            let is_wanted = only.as_ref().is_none_or(|mailings| !mailings.is_empty());
            if has_room && is_wanted && self.shared.lease.is_held(self.shared.now()) {
                if self.take_over_into(lane, only).await? {
                    more = true;
                } else {
                    self.left_over.remove(&lane);
                }
            }
        }
        Ok(more)
    }

    /// The mailings of a lane that are cancelled or past their window.
    fn ending(&self, lane: (ChannelKind, Priority)) -> Vec<MailingId> {
        let now = self.shared.now();
        let is_ending = |run: &Arc<Run>| {
            (run.channel, run.priority) == lane
                && matches!(run.state(now), RunState::Closed | RunState::Cancelled)
        };
        self.shared.runs.all().iter().filter(|run| is_ending(run)).map(|run| run.id).collect()
    }

    /// Takes over some pages of one lane, or `only` those of some mailings; answers whether there were any.
    async fn take_over_into(
        &self,
        lane: (ChannelKind, Priority),
        only: Option<Vec<MailingId>>,
    ) -> Result<bool> {
        let shared = &self.shared;
        let _adopting = shared.adopting.lock().await;
        let (held, now) = (shared.pages.held(), shared.now());
        let lot = Lot { node: shared.pages.node(), channel: lane.0, priority: lane.1, limit: TAKE_OVER };
        let taken =
            shared.db.write(move |c| take_over::take_over(c, lot, (&held, only.as_deref()), now)).await?;
        let any = !taken.is_empty();
        for page in taken {
            failpoint::reach("take-over-after-commit");
            tracing::info!(page = %page.page.id, messages = page.open.len(), "took a page over");
            self.admit(page).await?;
        }
        Ok(any)
    }

    async fn admit(&self, taken: TakenOver) -> Result<()> {
        let Some(mailing) = taken.page.mailing else {
            return Ok(());
        };
        let run = self.shared.run(mailing).await?;
        let page =
            Arc::new(OpenPage::new(taken.page.id, taken.page.node, taken.page.mailing, taken.open.len()));
        let mut recipients: HashMap<ClientId, Recipient> =
            taken.recipients.into_iter().map(|r| (r.client_id, r)).collect();
        let before = taken.attempts_before;
        let items = taken.open.into_iter().map(|(member, row)| {
            let recipient = member.client.and_then(|id| recipients.remove(&id));
            let wishes = member.client.and_then(|id| taken.wishes.get(&id).cloned());
            let (page, origin) = (Arc::clone(&page), Origin::Mailing(Arc::clone(&run)));
            match row {
                Some(row) => {
                    let before = before.get(&row.id).copied().unwrap_or_default();
                    Item::of_row((row, before), page, origin, (recipient, wishes))
                }
                None => Item {
                    id: member.message,
                    page,
                    origin,
                    client: member.client,
                    recipient,
                    wishes,
                    address: None,
                    attempts: 0,
                    attempts_before: 0,
                    revision: 0,
                    due_at: run.due_at,
                },
            }
        });
        let items = items.collect();
        self.shared.admit(&page, (run.channel, run.priority), items).await;
        Ok(())
    }

    /// One step for one mailing; answers whether there is more to do at once. Without sharers nothing new is planned.
    async fn step(&self, run: &Arc<Run>, sharers: usize, may_settle: bool) -> Result<bool> {
        let shared = &self.shared;
        let Some(lanes) = shared.lanes.get(&run.channel) else {
            return Ok(false);
        };
        match run.state(shared.now()) {
            RunState::Paused => self.hold(run, lanes, may_settle).await,
            RunState::Running if !shared.rest(run.channel).is_zero() => {
                self.hold(run, lanes, may_settle).await
            }
            RunState::Running if !run.is_walked() && sharers == 0 => Ok(false),
            RunState::Running if !run.is_walked() => self.plan(run, lanes, sharers).await,
            RunState::Running => self.settle(run, may_settle).await,
            RunState::Closed => self.close(run, lanes, MessageStatus::Expired).await,
            RunState::Cancelled => self.close(run, lanes, MessageStatus::Cancelled).await,
        }
    }

    /// Gives back what waits in memory: it is paused, or its channel rests.
    async fn hold(&self, run: &Arc<Run>, lanes: &Lanes, may_settle: bool) -> Result<bool> {
        self.shared.give_back(lanes.drain(Some(run.id)));
        self.release_idle().await?;
        self.settle(run, may_settle).await
    }

    async fn plan(&self, run: &Arc<Run>, lanes: &Lanes, sharers: usize) -> Result<bool> {
        let shared = &self.shared;
        let limit = lanes.wanted(run, sharers).min(shared.settings.page_size);
        let now = shared.now();
        if limit == 0 || !shared.lease.is_held(now) {
            return Ok(false);
        }
        let new = NewPage {
            id: PageId::new(),
            node: shared.pages.node(),
            mailing: Some(run.id),
            channel: run.channel,
            priority: run.priority,
        };
        let what = Plan { mailing: run.id, ranges: Arc::clone(&run.ranges), limit, needs: run.needs() };
        let stored = new.clone();
        let stretch = shared.db.write(move |c| plan::plan(c, &what, &stored, now)).await?;
        let Some(stretch) = stretch else {
            // paused, cancelled, walked by another node, or its window closed: look again
            shared.mailing_changed();
            return Ok(false);
        };
        if stretch.walked {
            run.set_walked();
            shared.settle_soon();
        }
        let count = stretch.planned.len();
        shared.metrics.entered(run.channel, count);
        if count > 0 {
            failpoint::reach("plan-after-commit");
            let page = Arc::new(OpenPage::new(new.id, new.node, new.mailing, count));
            let (due_at, wishes) = (run.due_at, stretch.wishes);
            let items = stretch.planned.into_iter().map(|(id, recipient)| Item {
                id,
                page: Arc::clone(&page),
                origin: Origin::Mailing(Arc::clone(run)),
                client: Some(recipient.client_id),
                wishes: wishes.get(&recipient.client_id).cloned(),
                recipient: Some(recipient),
                address: None,
                attempts: 0,
                attempts_before: 0,
                revision: 0,
                due_at,
            });
            let items = items.collect();
            shared.admit(&page, (run.channel, run.priority), items).await;
        }
        Ok(true)
    }

    /// Brings what is left of a mailing to its final state.
    async fn close(&self, run: &Arc<Run>, lanes: &Lanes, status: MessageStatus) -> Result<bool> {
        let shared = &self.shared;
        let (kind, reason) = match status {
            MessageStatus::Cancelled => (OutcomeKind::Cancelled, CANCELLED),
            _ => (OutcomeKind::Expired, WINDOW_CLOSED),
        };
        for item in lanes.drain(Some(run.id)) {
            shared.record(item.close(kind, shared.now(), reason)).await;
        }
        let plan = Plan {
            mailing: run.id,
            ranges: Arc::clone(&run.ranges),
            limit: shared.settings.page_size,
            needs: Needs { profile: false, ..run.needs() },
        };
        let closing = Closing { plan, channel: run.channel, priority: run.priority, status, reason };
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
        run.set_walked();
        self.settle(run, true).await
    }

    /// Closes the books of a mailing of which nothing is left.
    async fn settle(&self, run: &Arc<Run>, may_settle: bool) -> Result<bool> {
        let shared = &self.shared;
        if !may_settle || !run.is_walked() || shared.pages.holds(run.id) {
            return Ok(false);
        }
        // a claim of what is replayed right after that finds a run of its own, which is known to whoever pauses it
        let _adopting = shared.adopting.lock().await;
        let (id, now) = (run.id, shared.now());
        if shared.db.write(move |c| crate::mailings::repo::settle(c, id, now)).await? {
            shared.runs.remove(id);
            self.show_running();
            tracing::info!(mailing = %id, "a mailing is finished");
        }
        Ok(false)
    }
}
