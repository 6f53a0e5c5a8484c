//! Where one kind of events is told: the ring of the last ones ([`Hub`]), and how its watchers are woken.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::hub::{Hub, Read, Seat};

/// A watcher that has seen everything waits at least so long before it looks for more: what comes in quick succession costs
/// it one look, not one for each event.
const GAP: Duration = Duration::from_millis(100);
/// The gap for each watcher that there is. Each look that finds something is a write into a socket: so a thousand watchers
/// together look no oftener than four hundred. A longer gap would make what is written at once, and its buffers, larger.
const GAP_OF_EACH: Duration = Duration::from_micros(250);

/// A hub that wakes who watches it; cloning it is cheap. `T` is what a watcher is there for.
pub struct Board<E, T>(Arc<Inner<E, T>>);

struct Inner<E, T> {
    /// Another one for each: an id that another process gave is told apart.
    boot: String,
    hub: Mutex<Hub<E, T>>,
    published: Notify,
    /// Watchers that still wait for the end of their gap may be behind.
    crowded: Notify,
}

impl<E, T> Clone for Board<E, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Copy, T> Board<E, T> {
    /// Over this hub.
    pub fn new(hub: Hub<E, T>) -> Self {
        let boot = format!("{:016x}", fastrand::u64(..));
        Self(Arc::new(Inner { boot, hub: Mutex::new(hub), published: Notify::new(), crowded: Notify::new() }))
    }

    /// The hub.
    pub fn hub(&self) -> MutexGuard<'_, Hub<E, T>> {
        self.0.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch.
    pub fn tell(&self, event: E) {
        if self.hub().push(event) {
            self.0.crowded.notify_waiters();
        }
        self.0.published.notify_waiters();
    }

    /// Registers somebody who watches from now on, or from what has the id `last` on, if what came since `is_whole`.
    /// None when too many do already.
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

    /// The number in an id that this process gave.
    fn position(&self, id: &str) -> Option<u64> {
        id.split_once('-').filter(|(boot, _)| *boot == self.0.boot)?.1.parse().ok()
    }
}

/// Somebody who watches, until it is dropped.
pub struct Watch<E: Copy, T> {
    board: Board<E, T>,
    seat: Seat,
    lets_through: Box<dyn Fn(&E) -> bool + Send>,
    missed: bool,
    /// When it looks again.
    not_before: Instant,
    overtaken: Option<Overtaken>,
}

/// Told when a watcher has read too slowly for what came; see [`Watch::overtaken`].
pub struct Overtaken(oneshot::Receiver<()>);

impl Overtaken {
    /// Returns when the watcher lost its place, true for being too slow and false for having left.
    pub async fn wait(self) -> bool {
        self.0.await.is_ok()
    }
}

impl<E: Copy, T> Watch<E, T> {
    /// Whether it asked for events from one on that is not here any more, or never was.
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// What tells that it is too slow, also while nobody asks for the next events. There is one.
    pub fn overtaken(&mut self) -> Option<Overtaken> {
        self.overtaken.take()
    }

    /// The id of the last event that it has seen or passed over; none when it was too slow.
    pub fn last_id(&self) -> Option<String> {
        self.board.hub().position(self.seat).map(|position| self.id(position))
    }

    fn id(&self, position: u64) -> String {
        format!("{}-{position}", self.board.0.boot)
    }

    /// The next events with their ids; none when it was too slow for what came. Dropped before it returns, it has taken
    /// nothing.
    pub async fn next(&mut self) -> Option<Vec<(String, E)>> {
        let read = self.read().await?;
        Some(read.events.into_iter().map(|(at, event, _)| (self.id(at), event)).collect())
    }

    /// The next events as `write` writes them, which it does once for all watchers. As [`Watch::next`].
    pub async fn next_text(&mut self, write: impl Fn(&str, &E) -> String) -> Option<String> {
        let read = self.read().await?;
        let mut whole = String::new();
        for (at, event, text) in &read.events {
            whole.push_str(text.get_or_init(|| write(&self.id(*at), event).into()));
        }
        Some(whole)
    }

    async fn read(&mut self) -> Option<Read<E>> {
        loop {
            self.pause().await;
            // registered before looking: what comes in between is not missed
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

    /// Waits for the end of the gap, or until so much has come that it would be overtaken.
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

/// The time between two looks of one among so many watchers. It varies, so that they do not all look at once.
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
    fn the_more_watch_the_less_often_each_looks() {
        let looks = |watchers: usize| watchers as f64 / gap(watchers).as_secs_f64();
        for watchers in [1, 50, 400] {
            assert!((75..=125).contains(&gap(watchers).as_millis()), "{watchers}");
        }
        for watchers in [500, 1000, 10_000] {
            assert!((3000.0..6000.0).contains(&looks(watchers)), "{watchers}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_in_its_gap_is_woken_before_it_is_overtaken() {
        let board: Board<u32, u32> = Board::new(Hub::new(40, 1000));
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
    async fn an_event_is_written_once_for_all_who_watch() {
        let board: Board<u32, u32> = Board::new(Hub::new(100, 1000));
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
