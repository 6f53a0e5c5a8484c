//! The lanes: the messages that wait in memory, by channel and priority, with fairness between mailings.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::active_mailing::ActiveMailing;
use super::model::QueuedMessage;
use super::sync::{Mutex, MutexGuard};
use crate::db::types::{MailingId, MessageId};
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::Metrics;

/// The lanes in the order of the array in memory; [`lane_of`] returns the index.
const HIGHEST_FIRST: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
/// The number of turns in a round, see [`guaranteed`].
const ROUND: u32 = 20;
/// The number of messages that a mailing may always have waiting.
const FEW: usize = 8;
/// The time for which a mailing with its own rate has messages waiting.
const SOON: Duration = Duration::from_secs(2);

/// The waiting messages of one mailing, or all standalone messages.
#[derive(Default)]
struct Source {
    key: Option<MailingId>,
    items: VecDeque<QueuedMessage>,
}

impl Source {
    /// Returns the time at which its mailing's own rate allows the next message, if that is after `now`.
    fn later_than(&self, now: Instant) -> Option<Instant> {
        self.items.front().and_then(|item| item.origin.later_than(now))
    }
}

#[derive(Default)]
struct Lane {
    /// The sources with a message that may be sent. The front one is next, and then goes to the back, so that mailings
    /// take turns.
    ready: VecDeque<Source>,
    /// The sources whose own rate allows no message before `wake`. They do not block the others.
    resting: Vec<Source>,
    wake: Option<Instant>,
    depth: usize,
}

impl Lane {
    fn take(&mut self, now: Instant) -> Option<QueuedMessage> {
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

    /// Adds a source to the ready or the resting ones, or drops it if it is empty.
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

    /// Moves the resting sources whose time has come to the ready ones.
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

    /// Removes the standalone ones among these messages.
    fn withdraw(&mut self, cancelled: &HashMap<MessageId, bool>) -> Vec<QueuedMessage> {
        let Some(mut source) = self.remove(None) else { return Vec::new() };
        let waiting = std::mem::take(&mut source.items);
        let (taken, left): (Vec<QueuedMessage>, Vec<QueuedMessage>) =
            waiting.into_iter().partition(|item| cancelled.contains_key(&item.id));
        source.items = left.into();
        self.depth -= taken.len();
        // at the back, as after its turn
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

/// A message that was taken from its lane.
struct InFlight {
    /// Distinguishes it from the same message taken again after its outcome.
    revision: i16,
    /// True if it does not return to its lane.
    is_withdrawn: bool,
}

#[derive(Default)]
struct Inner {
    lanes: [Lane; 3],
    turn: u32,
    /// The standalone messages that were taken and whose outcome is not on disk yet.
    in_flight: HashMap<MessageId, InFlight>,
}

impl Inner {
    fn forget(&mut self, item: &QueuedMessage) {
        if self.in_flight.get(&item.id).is_some_and(|taken| taken.revision == item.revision) {
            self.in_flight.remove(&item.id);
        }
    }
}

/// The three lanes of one channel.
pub struct Lanes {
    capacity: usize,
    /// The number of standalone messages to have waiting.
    soon: usize,
    inner: Mutex<Inner>,
    filled: Notify,
    drained: std::sync::Arc<Notify>,
    /// The gauges of `fanfare_lane_depth`, looked up once, because they are set for every message.
    depths: [IntGauge; 3],
}

impl Lanes {
    /// Creates lanes that hold about `capacity` messages each, and notify `drained` when there is room again.
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

    /// Limits the waiting standalone messages to the number that a channel of this rate sends soon, because a message
    /// in a lane can be cancelled only through its node.
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

    /// Appends messages to the queue of one mailing.
    pub fn push(&self, priority: Priority, key: Option<MailingId>, items: Vec<QueuedMessage>) {
        if !items.is_empty() {
            self.fill(self.lock(), priority, key, items, |waiting, items| waiting.extend(items));
        }
    }

    /// Puts a message back at the front of its mailing's queue. Returns the message if it was withdrawn meanwhile.
    pub fn put_back(
        &self,
        priority: Priority,
        key: Option<MailingId>,
        item: QueuedMessage,
    ) -> Option<QueuedMessage> {
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

    /// Adds messages to the source of a mailing, or to a new one. `join` adds them to the waiting messages.
    fn fill(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        priority: Priority,
        key: Option<MailingId>,
        items: Vec<QueuedMessage>,
        join: impl FnOnce(&mut VecDeque<QueuedMessage>, Vec<QueuedMessage>),
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

    /// Removes the standalone messages among these that wait here, and also returns those that are in flight. A message
    /// in flight whose value is true is withdrawn: it does not return to its lane.
    pub fn withdraw(&self, cancelled: &HashMap<MessageId, bool>) -> (Vec<QueuedMessage>, Vec<MessageId>) {
        let mut inner = self.lock();
        let Inner { lanes, in_flight, .. } = &mut *inner;
        let mut found = Vec::new();
        for (id, holds) in cancelled {
            if let Some(taken) = in_flight.get_mut(id) {
                taken.is_withdrawn |= *holds;
                found.push(*id);
            }
        }
        let taken: Vec<QueuedMessage> = lanes.iter_mut().flat_map(|lane| lane.withdraw(cancelled)).collect();
        self.show_all(&inner);
        (taken, found)
    }

    /// Returns true if a message that was taken is withdrawn.
    pub fn is_withdrawn(&self, id: MessageId) -> bool {
        self.lock().in_flight.get(&id).is_some_and(|taken| taken.is_withdrawn)
    }

    /// Removes a message that was taken, after its outcome is on disk, or if it will have no outcome here.
    pub fn done(&self, item: &QueuedMessage) {
        if item.origin.mailing().is_none() {
            self.lock().forget(item);
        }
    }

    /// Takes the next message that may be sent: high before normal before low, except in the [`guaranteed`] turns of
    /// the lower two.
    pub fn take(&self) -> Option<QueuedMessage> {
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

    /// Waits until there is a message that its mailing's own rate allows to be sent.
    pub async fn wait(&self) {
        // usually there is one: registering costs more than this check
        if self.has_ready() {
            return;
        }
        loop {
            // registered before the check, so that a message that comes in between is not missed
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

    /// Checks the resting sources again, because the rate of a mailing has changed.
    pub fn reschedule(&self) {
        let now = Instant::now();
        for lane in self.lock().lanes.iter_mut().filter(|lane| lane.wake.is_some()) {
            lane.wake = Some(now);
        }
        self.filled.notify_one();
    }

    /// Returns the number of messages that a mailing may add now: 0 while half of its share is waiting.
    ///
    /// `sharers` is the number of mailings that feed this lane. Each gets at least `FEW`, so that no mailing starves,
    /// and a mailing with its own rate gets at most the messages that it sends soon.
    pub fn wanted(&self, run: &ActiveMailing, sharers: usize) -> usize {
        let share = (self.capacity / sharers.max(1)).max(FEW);
        let share = run.schedule().within(SOON).map_or(share, |needed| share.min(needed.max(FEW)));
        let inner = self.lock();
        let waiting = inner.lanes.get(lane_of(run.priority)).map_or(0, |lane| lane.depth_of(Some(run.id)));
        if waiting > share / 2 { 0 } else { share - waiting }
    }

    /// Returns true if the lane has room for messages of any mailing. Resting messages do not count, because they would
    /// block the others.
    pub fn has_room(&self, priority: Priority) -> bool {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).is_some_and(|lane| {
            lane.depth - lane.resting_depth() < self.capacity && lane.depth < 4 * self.capacity
        })
    }

    /// Returns the number of due messages, of any mailing, for which the lane has room.
    pub fn room(&self, priority: Priority) -> usize {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).map_or(0, |lane| {
            let left = (4 * self.capacity).saturating_sub(lane.depth);
            self.soon.saturating_sub(lane.depth_of(None)).min(left)
        })
    }

    /// Removes all waiting messages of one mailing, or all standalone ones.
    pub fn drain(&self, key: Option<MailingId>) -> Vec<QueuedMessage> {
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

    /// Removes all messages.
    pub fn drain_all(&self) -> Vec<QueuedMessage> {
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

/// Returns the lane that goes first at this turn of a round, if it is not the highest. Two turns in twenty belong to
/// normal and one to low. So under permanent load of the higher lanes normal keeps 10 % and low 5 %. A high message
/// waits for at most one other message, because these turns are never adjacent. If the lane of a turn is empty, the
/// highest lane uses the turn, and it is not saved.
///
/// The turns are fixed, instead of weights that are balanced over time, so that a lane that was empty for long gets no
/// burst.
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
