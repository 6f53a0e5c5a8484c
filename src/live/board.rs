//! Publishes one kind of events: keeps the last ones in a ring ([`EventRing`]), and wakes its subscribers.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::hub::{EventRing, ReadResult, SubscriberId};

/// The shortest time between two reads of a subscriber that has read everything: events in quick succession cost one
/// read, not one each.
const GAP: Duration = Duration::from_millis(100);
/// The time between two reads, per subscriber of the board. Each read that finds events is a write into a socket, so a
/// thousand subscribers together do not read more often than four hundred. A longer gap would make the writes, and
/// their buffers, larger.
const GAP_OF_EACH: Duration = Duration::from_micros(250);

/// A hub that wakes its subscribers; cloning it is cheap. `T` is the topic of a subscriber.
pub struct Broadcast<E, T>(Arc<Inner<E, T>>);

struct Inner<E, T> {
    /// A random prefix of the event ids, which distinguishes them from the ids of another process.
    boot: String,
    hub: Mutex<EventRing<E, T>>,
    published: Notify,
    /// Notified when subscribers that wait for the end of their gap may be behind.
    crowded: Notify,
}

impl<E, T> Clone for Broadcast<E, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Copy, T> Broadcast<E, T> {
    /// Creates a board with this hub.
    pub fn new(hub: EventRing<E, T>) -> Self {
        let boot = format!("{:016x}", fastrand::u64(..));
        Self(Arc::new(Inner { boot, hub: Mutex::new(hub), published: Notify::new(), crowded: Notify::new() }))
    }

    /// Locks the hub.
    pub fn hub(&self) -> MutexGuard<'_, EventRing<E, T>> {
        self.0.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes an event.
    pub fn tell(&self, event: E) {
        if self.hub().push(event) {
            self.0.crowded.notify_waiters();
        }
        self.0.published.notify_waiters();
    }

    /// Subscribes from now on, or after the event with the id `last` if `is_whole`, which means that no event since
    /// then is missing. Returns `None` if there are too many subscribers.
    pub fn watch(
        &self,
        topic: T,
        (last, is_whole): (Option<&str>, bool),
        lets_through: impl Fn(&E) -> bool + Send + 'static,
    ) -> Option<Watch<E, T>> {
        let asked = last.map(|id| self.position(id).filter(|_| is_whole));
        let (seat, found, overtaken) = self.hub().sit_down(topic, asked.flatten())?;
        Some(Watch {
            board: self.clone(),
            seat,
            lets_through: Box::new(lets_through),
            missed: asked.is_some() && !found,
            not_before: Instant::now(),
            overtaken: Some(Overtaken(overtaken)),
        })
    }

    /// Returns the number in an id of this process.
    fn position(&self, id: &str) -> Option<u64> {
        id.split_once('-').filter(|(boot, _)| *boot == self.0.boot)?.1.parse().ok()
    }
}

/// A subscription, until it is dropped.
pub struct Watch<E: Copy, T> {
    board: Broadcast<E, T>,
    seat: SubscriberId,
    lets_through: Box<dyn Fn(&E) -> bool + Send>,
    missed: bool,
    /// The earliest time of the next read.
    not_before: Instant,
    overtaken: Option<Overtaken>,
}

/// Signals that a subscriber has read too slowly; see [`Watch::overtaken`].
pub struct Overtaken(oneshot::Receiver<()>);

impl Overtaken {
    /// Waits until the subscriber loses its place. Returns true if it was too slow, and false if it left.
    pub async fn wait(self) -> bool {
        self.0.await.is_ok()
    }
}

impl<E: Copy, T> Watch<E, T> {
    /// Returns true if it asked for the events after one that the ring does not contain.
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// Takes the signal that it is too slow, which also works while the next events are not read. There is one per
    /// subscription.
    pub fn overtaken(&mut self) -> Option<Overtaken> {
        self.overtaken.take()
    }

    /// Returns the id of the last event that it has read or skipped, or `None` if it was too slow.
    pub fn last_id(&self) -> Option<String> {
        self.board.hub().position(self.seat).map(|position| self.id(position))
    }

    fn id(&self, position: u64) -> String {
        format!("{}-{position}", self.board.0.boot)
    }

    /// Reads the next events with their ids, or `None` if it was too slow. It is cancel-safe: dropped before it
    /// returns, it has read no event.
    pub async fn next(&mut self) -> Option<Vec<(String, E)>> {
        let read = self.read().await?;
        Some(read.events.into_iter().map(|(at, event, _)| (self.id(at), event)).collect())
    }

    /// Reads the next events in the form of `write`, which runs once per event for all subscribers. Otherwise like
    /// [`Watch::next`].
    pub async fn next_text(&mut self, write: impl Fn(&str, &E) -> String) -> Option<String> {
        let read = self.read().await?;
        let mut whole = String::new();
        for (at, event, text) in &read.events {
            whole.push_str(text.get_or_init(|| write(&self.id(*at), event).into()));
        }
        Some(whole)
    }

    async fn read(&mut self) -> Option<ReadResult<E>> {
        loop {
            self.pause().await;
            // registered before the read, so that an event in between is not missed
            let mut published = pin!(self.board.0.published.notified());
            published.as_mut().enable();
            let (read, watchers) = {
                let mut hub = self.board.hub();
                (hub.read(self.seat, &self.lets_through)?, hub.taken())
            };
            if !read.more {
                self.not_before = Instant::now() + gap(watchers);
            }
            if !read.events.is_empty() {
                return Some(read);
            }
            if !read.more {
                published.await;
            }
        }
    }

    /// Waits for the end of the gap, or until it is behind and could be overtaken.
    async fn pause(&mut self) {
        let mut crowded = pin!(self.board.0.crowded.notified());
        crowded.as_mut().enable();
        if !self.board.hub().is_behind(self.seat) {
            tokio::select! {
                () = tokio::time::sleep_until(self.not_before) => {}
                () = crowded => {}
            }
        }
    }
}

/// Returns the time between two reads of one of `watchers` subscribers. It is random, so that they do not all read at
/// once.
fn gap(watchers: usize) -> Duration {
    let each = GAP_OF_EACH * u32::try_from(watchers).unwrap_or(u32::MAX);
    GAP.max(each).mul_f64(0.75 + fastrand::f64() / 2.0)
}

impl<E: Copy, T> Drop for Watch<E, T> {
    fn drop(&mut self) {
        self.board.hub().leave(self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_more_subscribers_the_less_often_each_reads() {
        let looks = |watchers: usize| watchers as f64 / gap(watchers).as_secs_f64();
        for watchers in [1, 50, 400] {
            assert!((75..=125).contains(&gap(watchers).as_millis()), "{watchers}");
        }
        for watchers in [500, 1000, 10_000] {
            assert!((3000.0..6000.0).contains(&looks(watchers)), "{watchers}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_in_its_gap_is_woken_before_it_is_overtaken() {
        let board: Broadcast<u32, u32> = Broadcast::new(EventRing::new(40, 1000));
        let mut watch = board.watch(0, (None, true), |_| true).unwrap();
        board.tell(0);
        assert_eq!(watch.next().await.unwrap().len(), 1);
        let began = Instant::now();
        let waiting = tokio::spawn(async move { (watch.next().await, watch) });
        tokio::task::yield_now().await;
        (1..=20).for_each(|event| board.tell(event));
        let (events, mut watch) = waiting.await.unwrap();
        assert_eq!((events.unwrap().len(), began.elapsed()), (20, Duration::ZERO));
        board.tell(21);
        assert_eq!(watch.next().await.unwrap().len(), 1);
        assert!(began.elapsed() >= Duration::from_millis(75), "one event can wait");
    }

    #[tokio::test]
    async fn an_event_is_written_once_for_all_subscribers() {
        let board: Broadcast<u32, u32> = Broadcast::new(EventRing::new(100, 1000));
        let mut watchers: Vec<_> =
            (0..50).map(|topic| board.watch(topic, (None, true), |_| true).unwrap()).collect();
        (0..20).for_each(|event| board.tell(event));
        let written = AtomicUsize::new(0);
        let write = |id: &str, event: &u32| {
            written.fetch_add(1, Ordering::Relaxed);
            format!("{id} {event}\n")
        };
        let mut texts = Vec::new();
        for watch in &mut watchers {
            texts.push(watch.next_text(write).await.unwrap());
        }
        assert!(texts.iter().all(|text| text.lines().count() == 20 && *text == texts[0]), "{texts:?}");
        assert_eq!(written.load(Ordering::Relaxed), 20);
    }
}
