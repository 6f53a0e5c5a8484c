//! The ring of the last events, with the read position of each subscriber.
//!
//! A subscriber has a position in the common ring instead of its own queue. So replayed and new events join without a
//! gap or a repeat, publishing costs the same for any number of subscribers, and a slow subscriber takes up no memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

/// The largest number of events returned by one read, and of events examined by it. Both bound the time for which the
/// hub is locked.
const AT_ONCE: usize = 256;
const LOOKED_AT: usize = 1000;

/// The serialized form of an event, written once for all its subscribers.
pub type EventText = Arc<OnceLock<Box<str>>>;

/// The ring and the positions in it. Events are numbered from 1. `T` is the topic of a subscriber.
pub struct EventRing<E, T> {
    ring: VecDeque<(E, EventText)>,
    kept: usize,
    /// The number of the newest event.
    head: u64,
    seats: BTreeMap<SubscriberId, Subscriber<T>>,
    most: usize,
    given: u64,
    /// A lower bound of all positions. It is computed again only when the ring's tail passes it.
    slowest: u64,
}

/// The id of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(u64);

struct Subscriber<T> {
    /// The number of the last event that it has read or skipped.
    position: u64,
    topic: T,
    overtaken: oneshot::Sender<()>,
}

/// The result of a read.
pub struct ReadResult<E> {
    /// The matching events with their numbers.
    pub events: Vec<(u64, E, EventText)>,
    /// True if there are more events to examine.
    pub more: bool,
}

impl<E: Copy, T> EventRing<E, T> {
    /// Creates a ring of `kept` events for up to `most` subscribers.
    pub fn new(kept: usize, most: usize) -> Self {
        let (ring, seats) = (VecDeque::new(), BTreeMap::new());
        Self { ring, kept, head: 0, seats, most, given: 0, slowest: u64::MAX }
    }

    /// Returns the number before the oldest event: a subscriber at a lower position has missed an event.
    fn tail(&self) -> u64 {
        self.head - self.ring.len() as u64
    }

    /// Returns the number of unread events from which a subscriber is behind.
    fn quarter(&self) -> u64 {
        (self.kept as u64 / 4).max(1)
    }

    /// Returns true if this subscriber is behind, and should read now.
    pub fn is_behind(&self, seat: SubscriberId) -> bool {
        self.position(seat).is_none_or(|position| self.head - position >= self.quarter())
    }

    /// Adds an event. Returns true if more subscribers may be behind now.
    pub fn push(&mut self, event: E) -> bool {
        if self.ring.len() >= self.kept {
            self.ring.pop_front();
        }
        self.ring.push_back((event, EventText::default()));
        self.head += 1;
        if self.slowest < self.tail() {
            self.drop_overtaken();
        }
        self.head.is_multiple_of(self.quarter())
    }

    fn drop_overtaken(&mut self) {
        let tail = self.tail();
        let overtaken: Vec<SubscriberId> =
            self.seats.iter().filter(|(_, place)| place.position < tail).map(|(seat, _)| *seat).collect();
        for place in overtaken.into_iter().filter_map(|seat| self.seats.remove(&seat)) {
            // an error means that the subscriber is leaving
            let _ = place.overtaken.send(());
        }
        self.slowest = self.seats.values().map(|place| place.position).min().unwrap_or(u64::MAX);
    }

    /// Adds a subscriber after the event `last` if the ring still contains that position, else after the newest event.
    /// The boolean is true in the first case. Returns `None` if there are too many subscribers.
    pub fn sit_down(
        &mut self,
        topic: T,
        last: Option<u64>,
    ) -> Option<(SubscriberId, bool, oneshot::Receiver<()>)> {
        if self.seats.len() >= self.most {
            return None;
        }
        let known = last.filter(|last| (self.tail()..=self.head).contains(last));
        let position = known.unwrap_or(self.head);
        self.given += 1;
        let (seat, (overtaken, receiver)) = (SubscriberId(self.given), oneshot::channel());
        self.seats.insert(seat, Subscriber { position, topic, overtaken });
        self.slowest = self.slowest.min(position);
        Some((seat, known.is_some(), receiver))
    }

    /// Removes a subscriber.
    pub fn leave(&mut self, seat: SubscriberId) {
        self.seats.remove(&seat);
    }

    /// Returns a subscriber's position, or `None` if it was overtaken.
    pub fn position(&self, seat: SubscriberId) -> Option<u64> {
        self.seats.get(&seat).map(|place| place.position)
    }

    /// Reads the next events of a subscriber. Returns `None` if it was overtaken.
    pub fn read(&mut self, seat: SubscriberId, lets_through: impl Fn(&E) -> bool) -> Option<ReadResult<E>> {
        let tail = self.tail();
        let place = self.seats.get_mut(&seat)?;
        let mut events = Vec::new();
        let passed = usize::try_from(place.position.checked_sub(tail)?).ok()?;
        for (event, text) in self.ring.range(passed..).take(LOOKED_AT) {
            place.position += 1;
            if lets_through(event) {
                events.push((place.position, *event, Arc::clone(text)));
                if events.len() == AT_ONCE {
                    break;
                }
            }
        }
        Some(ReadResult { events, more: place.position < self.head })
    }

    /// Returns the topics of the subscribers.
    pub fn topics(&self) -> impl Iterator<Item = &T> {
        self.seats.values().map(|place| &place.topic)
    }

    /// Returns the number of subscribers.
    pub fn taken(&self) -> usize {
        self.seats.len()
    }
}
