//! The lanes: what waits in memory, by channel and priority, fair between mailings.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::model::{Item, Run};
use super::sync::{Mutex, MutexGuard};
use crate::db::types::{MailingId, MessageId};
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::Metrics;

/// The lanes as they stand in memory: what [`lane_of`] tells the place of.
const HIGHEST_FIRST: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
/// Messages taken before the turns of the lower lanes begin again, see [`guaranteed`].
const ROUND: u32 = 20;
/// Messages that a mailing may always have waiting.
const FEW: usize = 8;
/// What a mailing with a rate of its own sends in this time is enough to have waiting.
const SOON: Duration = Duration::from_secs(2);

/// What belongs to one mailing, or to none.
#[derive(Default)]
struct Source {
    key: Option<MailingId>,
    items: VecDeque<Item>,
}

impl Source {
    /// When its mailing's own rate lets the next one go, if that is after `now`.
    fn later_than(&self, now: Instant) -> Option<Instant> {
        self.items.front().and_then(|item| item.origin.later_than(now))
    }
}

#[derive(Default)]
struct Lane {
    /// The one at the front is next; a taken source goes to the back, so mailings take turns.
    ready: VecDeque<Source>,
    /// Those whose own rate lets nothing go before `wake`: they hold up no other.
    resting: Vec<Source>,
    wake: Option<Instant>,
    depth: usize,
}

impl Lane {
    fn take(&mut self, now: Instant) -> Option<Item> {
        self.rouse(now);
        let mut source = self.ready.pop_front()?;
        let item = source.items.pop_front();
        if let Some(item) = &item {
            item.origin.advance(now);
            self.depth -= 1;
        }
        self.add(source, now);
        item
    }

    /// Puts a source where it belongs; one without messages goes.
    fn add(&mut self, source: Source, now: Instant) {
        if source.items.is_empty() {
            return;
        }
        match source.later_than(now) {
            Some(later) => {
                self.wake = Some(self.wake.map_or(later, |wake| wake.min(later)));
                self.resting.push(source);
            }
            None => self.ready.push_back(source),
        }
    }

    /// Moves those whose time has come to the ready ones.
    fn rouse(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            for source in std::mem::take(&mut self.resting) {
                self.add(source, now);
            }
        }
    }

    fn has_ready(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.wake.is_some_and(|wake| wake <= now)
    }

    fn find(&mut self, key: Option<MailingId>) -> Option<&mut Source> {
        self.ready.iter_mut().chain(&mut self.resting).find(|source| source.key == key)
    }

    fn remove(&mut self, key: Option<MailingId>) -> Option<Source> {
        let place = |source: &Source| source.key == key;
        if let Some(at) = self.ready.iter().position(place) {
            return self.ready.remove(at);
        }
        self.resting.iter().position(place).map(|at| self.resting.swap_remove(at))
    }

    /// Takes out those of these messages that are of no mailing.
    fn withdraw(&mut self, cancelled: &HashMap<MessageId, bool>) -> Vec<Item> {
        let Some(mut source) = self.remove(None) else { return Vec::new() };
        let waiting = std::mem::take(&mut source.items);
        let (taken, left): (Vec<Item>, Vec<Item>) =
            waiting.into_iter().partition(|item| cancelled.contains_key(&item.id));
        source.items = left.into();
        self.depth -= taken.len();
        // at the back: as if it had had its turn
        self.add(source, Instant::now());
        taken
    }

    fn depth_of(&self, key: Option<MailingId>) -> usize {
        let mut sources = self.ready.iter().chain(&self.resting);
        sources.find(|source| source.key == key).map_or(0, |source| source.items.len())
    }

    fn resting_depth(&self) -> usize {
        self.resting.iter().map(|source| source.items.len()).sum()
    }
}

/// A message that was taken.
struct InFlight {
    /// Tells it from the same one taken again, after its outcome.
    revision: i16,
    /// It does not come back into its lane.
    is_withdrawn: bool,
}

#[derive(Default)]
struct Inner {
    lanes: [Lane; 3],
    turn: u32,
    /// The messages of no mailing that were taken and whose outcome is not on disk yet.
    in_flight: HashMap<MessageId, InFlight>,
}

impl Inner {
    fn forget(&mut self, item: &Item) {
        if self.in_flight.get(&item.id).is_some_and(|taken| taken.revision == item.revision) {
            self.in_flight.remove(&item.id);
        }
    }
}

/// The three lanes of one channel.
pub struct Lanes {
    capacity: usize,
    /// How many messages of no mailing are enough to have waiting.
    soon: usize,
    inner: Mutex<Inner>,
    filled: Notify,
    drained: std::sync::Arc<Notify>,
    /// `fanfare_lane_depth`, found once: it is set with every message.
    depths: [IntGauge; 3],
}

impl Lanes {
    /// Lanes that hold about `capacity` messages each, and tell `drained` when there is room again.
    pub fn new(
        channel: ChannelKind,
        capacity: usize,
        drained: std::sync::Arc<Notify>,
        metrics: &Metrics,
    ) -> Self {
        let depths = HIGHEST_FIRST
            .map(|priority| metrics.lane_depth.with_label_values(&[channel.as_str(), priority.as_str()]));
        Self { capacity, soon: capacity, inner: Mutex::default(), filled: Notify::new(), drained, depths }
    }

    /// For a channel of this rate: of the messages of no mailing no more are held than it sends soon, since what is held
    /// cannot be cancelled any more.
    pub fn with_rate(mut self, rate: Option<f64>) -> Self {
        if let Some(rate) = rate {
            self.soon = self.capacity.min((rate * SOON.as_secs_f64()) as usize).max(FEW);
        }
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, priority: Priority, depth: usize) {
        if let Some(gauge) = self.depths.get(lane_of(priority)) {
            gauge.set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }

    /// Puts messages of one mailing at the end of its queue.
    pub fn push(&self, priority: Priority, key: Option<MailingId>, items: Vec<Item>) {
        if !items.is_empty() {
            self.fill(self.lock(), priority, key, items, |waiting, items| waiting.extend(items));
        }
    }

    /// Puts a message back: it goes first when its mailing's turn comes. Answers it when it was withdrawn meanwhile.
    pub fn put_back(&self, priority: Priority, key: Option<MailingId>, item: Item) -> Option<Item> {
        let mut inner = self.lock();
        if inner.in_flight.get(&item.id).is_some_and(|taken| taken.is_withdrawn) {
            return Some(item);
        }
        inner.forget(&item);
        self.fill(inner, priority, key, vec![item], |waiting, items| {
            items.into_iter().for_each(|item| waiting.push_front(item));
        });
        None
    }

    /// Adds messages to the source of a mailing, a new one if it has none; `join` puts them to those that wait.
    fn fill(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        priority: Priority,
        key: Option<MailingId>,
        items: Vec<Item>,
        join: impl FnOnce(&mut VecDeque<Item>, Vec<Item>),
    ) {
        let Some(lane) = inner.lanes.get_mut(lane_of(priority)) else {
            return;
        };
        lane.depth += items.len();
        let depth = lane.depth;
        match lane.find(key) {
            Some(source) => join(&mut source.items, items),
            None => lane.add(Source { key, items: items.into() }, Instant::now()),
        }
        drop(inner);
        self.show(priority, depth);
        self.filled.notify_one();
    }

    /// Takes out those of these messages of no mailing that wait here; also answers which of them are in flight. With true
    /// one that is in flight is withdrawn: it does not come back into its lane.
    pub fn withdraw(&self, cancelled: &HashMap<MessageId, bool>) -> (Vec<Item>, Vec<MessageId>) {
        let mut inner = self.lock();
        let Inner { lanes, in_flight, .. } = &mut *inner;
        let mut found = Vec::new();
        for (id, holds) in cancelled {
            if let Some(taken) = in_flight.get_mut(id) {
                taken.is_withdrawn |= *holds;
                found.push(*id);
            }
        }
        let taken: Vec<Item> = lanes.iter_mut().flat_map(|lane| lane.withdraw(cancelled)).collect();
        self.show_all(&inner);
        (taken, found)
    }

    /// Returns whether a message that was taken is withdrawn.
    pub fn is_withdrawn(&self, id: MessageId) -> bool {
        self.lock().in_flight.get(&id).is_some_and(|taken| taken.is_withdrawn)
    }

    /// The outcome of a message that was taken is on disk, or nothing becomes of it here.
    pub fn done(&self, item: &Item) {
        if item.origin.mailing().is_none() {
            self.lock().forget(item);
        }
    }

    /// The next message that may go: high before normal before low, but for the [`guaranteed`] turns of the lower two.
    pub fn take(&self) -> Option<Item> {
        let now = Instant::now();
        let mut inner = self.lock();
        let turn = inner.turn;
        let taken = guaranteed(turn).iter().chain(&HIGHEST_FIRST).find_map(|priority| {
            let lane = inner.lanes.get_mut(lane_of(*priority))?;
            let item = lane.take(now)?;
            Some((*priority, lane.depth, item))
        });
        if let Some((_, _, item)) = taken.as_ref().filter(|(_, _, item)| item.origin.mailing().is_none()) {
            inner.in_flight.insert(item.id, InFlight { revision: item.revision, is_withdrawn: false });
        }
        if taken.is_some() {
            inner.turn = (turn + 1) % ROUND;
        }
        drop(inner);
        let (priority, depth, item) = taken?;
        self.show(priority, depth);
        if depth % 64 == 0 || depth == self.capacity / 2 {
            self.drained.notify_one();
        }
        Some(item)
    }

    /// Returns when a message may go, as far as its mailing's own rate is concerned.
    pub async fn wait(&self) {
        // mostly there is one: registering costs more than looking
        if self.has_ready() {
            return;
        }
        loop {
            // registered before looking: a message that comes in between is not missed
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            let now = Instant::now();
            let wake = {
                let inner = self.lock();
                if inner.lanes.iter().any(|lane| lane.has_ready(now)) {
                    return;
                }
                inner.lanes.iter().filter_map(|lane| lane.wake).min()
            };
            match wake {
                None => filled.await,
                Some(wake) => tokio::select! {
                    () = filled => {}
                    () = sleep_until(wake) => {}
                },
            }
        }
    }

    fn has_ready(&self) -> bool {
        let now = Instant::now();
        self.lock().lanes.iter().any(|lane| lane.has_ready(now))
    }

    /// Looks anew at what rests: the rate of some mailing has changed.
    pub fn reschedule(&self) {
        let now = Instant::now();
        for lane in self.lock().lanes.iter_mut().filter(|lane| lane.wake.is_some()) {
            lane.wake = Some(now);
        }
        self.filled.notify_one();
    }

    /// How many more messages of a mailing are wanted now: none while it has half a share waiting.
    ///
    /// `sharers` is how many mailings feed this lane. Each gets at least a few, so that none starves behind the others,
    /// and one with a rate of its own no more than it needs soon.
    pub fn wanted(&self, run: &Run, sharers: usize) -> usize {
        let share = (self.capacity / sharers.max(1)).max(FEW);
        let share = run.schedule().within(SOON).map_or(share, |needed| share.min(needed.max(FEW)));
        let inner = self.lock();
        let waiting = inner.lanes.get(lane_of(run.priority)).map_or(0, |lane| lane.depth_of(Some(run.id)));
        if waiting > share / 2 { 0 } else { share - waiting }
    }

    /// Whether the lane takes more, whoever it is from. What rests does not count: it would hold up the others.
    pub fn has_room(&self, priority: Priority) -> bool {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).is_some_and(|lane| {
            lane.depth - lane.resting_depth() < self.capacity && lane.depth < 4 * self.capacity
        })
    }

    /// How many due messages the lane takes now, whoever they are from.
    pub fn room(&self, priority: Priority) -> usize {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).map_or(0, |lane| {
            let left = (4 * self.capacity).saturating_sub(lane.depth);
            self.soon.saturating_sub(lane.depth_of(None)).min(left)
        })
    }

    /// Takes out all that waits for one mailing.
    pub fn drain(&self, key: Option<MailingId>) -> Vec<Item> {
        let mut inner = self.lock();
        let mut drained = Vec::new();
        for lane in &mut inner.lanes {
            if let Some(source) = lane.remove(key) {
                lane.depth -= source.items.len();
                drained.extend(source.items);
            }
        }
        self.show_all(&inner);
        drained
    }

    /// Takes out everything.
    pub fn drain_all(&self) -> Vec<Item> {
        let mut inner = self.lock();
        let lanes = std::mem::take(&mut inner.lanes);
        self.show_all(&inner);
        let sources = lanes.into_iter().flat_map(|lane| lane.ready.into_iter().chain(lane.resting));
        sources.flat_map(|source| source.items).collect()
    }

    fn show_all(&self, inner: &Inner) {
        for priority in Priority::ALL {
            self.show(*priority, inner.lanes.get(lane_of(*priority)).map_or(0, |lane| lane.depth));
        }
    }
}

/// The lane that is asked first at this turn of a round, if it is not the highest: two turns in twenty are normal's and one
/// is low's. So under permanent load of the higher lanes normal keeps 10 % and low 5 %, and high waits for one of them at
/// most, since no two of these turns follow each other. A turn whose lane is empty is the highest's: it is not saved up.
///
/// Fixed turns, not weights that are balanced over time: a lane that was empty for long has no claim to a burst.
fn guaranteed(turn: u32) -> Option<Priority> {
    match turn {
        5 | 15 => Some(Priority::Normal),
        10 => Some(Priority::Low),
        _ => None,
    }
}

fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[cfg(test)]
pub(super) mod tests;
