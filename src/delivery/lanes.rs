//! The lanes: what waits in memory, by channel and priority, fair between mailings.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::model::Item;
use crate::db::types::MailingId;
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::Metrics;

/// Of so many messages taken, one comes from the lowest lane that has any: low keeps its 5 %.
const LOW_TURN: u32 = 20;

/// What belongs to one mailing, or to none.
#[derive(Default)]
struct Source {
    key: Option<MailingId>,
    items: VecDeque<Item>,
}

#[derive(Default)]
struct Lane {
    /// The one at the front is next; a taken source goes to the back, so mailings take turns.
    sources: VecDeque<Source>,
    depth: usize,
}

impl Lane {
    fn take(&mut self) -> Option<Item> {
        let mut source = self.sources.pop_front()?;
        let item = source.items.pop_front();
        if !source.items.is_empty() {
            self.sources.push_back(source);
        }
        self.depth -= usize::from(item.is_some());
        item
    }

    fn depth_of(&self, key: Option<MailingId>) -> usize {
        self.sources.iter().find(|source| source.key == key).map_or(0, |source| source.items.len())
    }
}

#[derive(Default)]
struct Inner {
    lanes: [Lane; 3],
    turn: u32,
}

/// The three lanes of one channel.
pub struct Lanes {
    channel: ChannelKind,
    capacity: usize,
    inner: Mutex<Inner>,
    filled: Notify,
    drained: std::sync::Arc<Notify>,
    metrics: Metrics,
}

impl Lanes {
    /// Lanes that hold about `capacity` messages each, and tell `drained` when there is room again.
    pub fn new(
        channel: ChannelKind,
        capacity: usize,
        drained: std::sync::Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        Self { channel, capacity, inner: Mutex::default(), filled: Notify::new(), drained, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, priority: Priority, depth: usize) {
        let labels = [self.channel.as_str(), priority.as_str()];
        self.metrics.lane_depth.with_label_values(&labels).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Puts messages of one mailing at the end of its queue.
    pub fn push(&self, priority: Priority, key: Option<MailingId>, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(lane_of(priority)) else {
            return;
        };
        lane.depth += items.len();
        let depth = lane.depth;
        match lane.sources.iter_mut().find(|source| source.key == key) {
            Some(source) => source.items.extend(items),
            None => lane.sources.push_back(Source { key, items: items.into() }),
        }
        drop(inner);
        self.show(priority, depth);
        self.filled.notify_one();
    }

    /// Puts a message back to where it was taken from: it goes first when its mailing's turn comes.
    pub fn put_back(&self, priority: Priority, key: Option<MailingId>, item: Item) {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(lane_of(priority)) else {
            return;
        };
        lane.depth += 1;
        let depth = lane.depth;
        match lane.sources.iter_mut().find(|source| source.key == key) {
            Some(source) => source.items.push_front(item),
            None => lane.sources.push_front(Source { key, items: VecDeque::from([item]) }),
        }
        drop(inner);
        self.show(priority, depth);
        self.filled.notify_one();
    }

    /// The next message: high before normal before low, but for low's share.
    pub fn take(&self) -> Option<Item> {
        let mut inner = self.lock();
        inner.turn = (inner.turn + 1) % LOW_TURN;
        let lowest_first = inner.turn == 0;
        let mut order = [Priority::High, Priority::Normal, Priority::Low];
        if lowest_first {
            order.reverse();
        }
        let taken = order.iter().find_map(|priority| {
            let lane = inner.lanes.get_mut(lane_of(*priority))?;
            let item = lane.take()?;
            Some((*priority, lane.depth, item))
        });
        drop(inner);
        let (priority, depth, item) = taken?;
        self.show(priority, depth);
        if depth % 64 == 0 || depth == self.capacity / 2 {
            self.drained.notify_one();
        }
        Some(item)
    }

    /// Returns when a message waits.
    pub async fn wait(&self) {
        loop {
            // register before looking: a message that comes in between is not missed
            let filled = self.filled.notified();
            if self.depth() > 0 {
                return;
            }
            filled.await;
        }
    }

    /// How many messages wait on this channel.
    pub fn depth(&self) -> usize {
        self.lock().lanes.iter().map(|lane| lane.depth).sum()
    }

    /// How many more messages of a mailing are wanted now: none while it has half a share waiting.
    ///
    /// `sharers` is how many mailings feed this lane. Each gets at least a few, so that none starves behind the others.
    pub fn wanted(&self, priority: Priority, key: Option<MailingId>, sharers: usize) -> usize {
        let share = (self.capacity / sharers.max(1)).max(8);
        let inner = self.lock();
        let waiting = inner.lanes.get(lane_of(priority)).map_or(0, |lane| lane.depth_of(key));
        if waiting > share / 2 { 0 } else { share - waiting }
    }

    /// Whether the lane takes more, whoever it is from.
    pub fn has_room(&self, priority: Priority) -> bool {
        self.lock().lanes.get(lane_of(priority)).is_some_and(|lane| lane.depth < self.capacity)
    }

    /// Takes out all that waits for one mailing.
    pub fn drain(&self, key: Option<MailingId>) -> Vec<Item> {
        let mut inner = self.lock();
        let mut drained = Vec::new();
        for lane in &mut inner.lanes {
            if let Some(at) = lane.sources.iter().position(|source| source.key == key)
                && let Some(source) = lane.sources.remove(at)
            {
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
        lanes.into_iter().flat_map(|lane| lane.sources).flat_map(|source| source.items).collect()
    }

    fn show_all(&self, inner: &Inner) {
        for priority in Priority::ALL {
            self.show(*priority, inner.lanes.get(lane_of(*priority)).map_or(0, |lane| lane.depth));
        }
    }
}

fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}
