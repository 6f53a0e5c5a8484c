//! The last events, and how far each watcher has read them.
//!
//! A watcher has no queue of its own: its place in the common ring is one. So what is read again and what is new cannot
//! differ where they meet, telling costs the same however many watch, and who is slow takes up no memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::{Event, Interests};

/// Events handed to a watcher at once, and events that it looks at for that: both bound how long the hub is held.
const AT_ONCE: usize = 256;
const LOOKED_AT: usize = 1000;

/// An event as the wire has it, written once for all who watch it.
pub type Text = Arc<OnceLock<Box<str>>>;

/// The ring and the places in it. Events are numbered from 1. `T` is what a watcher is there for.
pub struct Hub<E, T> {
    ring: VecDeque<(E, Text)>,
    kept: usize,
    /// The number of the newest event.
    head: u64,
    seats: BTreeMap<Seat, Place<T>>,
    most: usize,
    given: u64,
    /// No watcher has read less far. Looked for anew only when the ring comes so far.
    slowest: u64,
}

/// Names a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

struct Place<T> {
    /// The number of the last event that it has seen or passed over.
    position: u64,
    topic: T,
    overtaken: oneshot::Sender<()>,
}

/// What a watcher finds.
pub struct Read<E> {
    /// Events with their numbers.
    pub events: Vec<(u64, E, Text)>,
    /// Whether there is more to look at.
    pub more: bool,
}

impl<E: Copy, T> Hub<E, T> {
    /// A ring of this many events for this many watchers.
    pub fn new(kept: usize, most: usize) -> Self {
        let (ring, seats) = (VecDeque::new(), BTreeMap::new());
        Self { ring, kept, head: 0, seats, most, given: 0, slowest: u64::MAX }
    }

    /// The number before that of the oldest event: a watcher who has read less far has missed something.
    fn tail(&self) -> u64 {
        self.head - self.ring.len() as u64
    }

    /// Events that may wait for a watcher before it is behind.
    fn quarter(&self) -> u64 {
        (self.kept as u64 / 4).max(1)
    }

    /// Returns whether so much waits for this watcher that it had better look now.
    pub fn is_behind(&self, seat: Seat) -> bool {
        self.position(seat).is_none_or(|position| self.head - position >= self.quarter())
    }

    /// Adds an event. Returns whether somebody may be behind now who was not before.
    pub fn push(&mut self, event: E) -> bool {
        if self.ring.len() >= self.kept {
            self.ring.pop_front();
        }
        self.ring.push_back((event, Text::default()));
        self.head += 1;
        if self.slowest < self.tail() {
            self.drop_overtaken();
        }
        self.head.is_multiple_of(self.quarter())
    }

    fn drop_overtaken(&mut self) {
        let tail = self.tail();
        let overtaken: Vec<Seat> =
            self.seats.iter().filter(|(_, place)| place.position < tail).map(|(seat, _)| *seat).collect();
        for place in overtaken.into_iter().filter_map(|seat| self.seats.remove(&seat)) {
            // an error: it leaves just now
            let _ = place.overtaken.send(());
        }
        self.slowest = self.seats.values().map(|place| place.position).min().unwrap_or(u64::MAX);
    }

    /// Gives somebody a place after the event `last`, if that is known, else after the newest; tells whether it was.
    /// None when all are taken.
    pub fn sit_down(&mut self, topic: T, last: Option<u64>) -> Option<(Seat, bool, oneshot::Receiver<()>)> {
        if self.seats.len() >= self.most {
            return None;
        }
        let known = last.filter(|last| (self.tail()..=self.head).contains(last));
        let position = known.unwrap_or(self.head);
        self.given += 1;
        let (seat, (overtaken, receiver)) = (Seat(self.given), oneshot::channel());
        self.seats.insert(seat, Place { position, topic, overtaken });
        self.slowest = self.slowest.min(position);
        Some((seat, known.is_some(), receiver))
    }

    /// Takes a watcher's place away.
    pub fn leave(&mut self, seat: Seat) {
        self.seats.remove(&seat);
    }

    /// How far a watcher has read; none when it was overtaken.
    pub fn position(&self, seat: Seat) -> Option<u64> {
        self.seats.get(&seat).map(|place| place.position)
    }

    /// The next events for a watcher; none when it was overtaken.
    pub fn read(&mut self, seat: Seat, lets_through: impl Fn(&E) -> bool) -> Option<Read<E>> {
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
        Some(Read { events, more: place.position < self.head })
    }

    /// What those who watch are there for.
    pub fn topics(&self) -> impl Iterator<Item = &T> {
        self.seats.values().map(|place| &place.topic)
    }

    /// The number of watchers.
    pub fn taken(&self) -> usize {
        self.seats.len()
    }
}

impl Hub<Event, Interests> {
    /// Whether anybody watches mailings.
    pub fn mailings_are_watched(&self) -> bool {
        self.topics().any(|(mailings, _)| *mailings)
    }

    /// Whether anybody watches notifications.
    pub fn notifications_are_watched(&self) -> bool {
        self.topics().any(|(_, notifications)| *notifications)
    }
}
