//! Where one kind of events is told: the ring of the last ones ([`Hub`]), and how its watchers are woken.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::hub::{Hub, Read, Seat};

/// A hub that wakes who watches it; cloning it is cheap. `T` is what a watcher is there for.
pub struct Board<E, T>(Arc<Inner<E, T>>);

struct Inner<E, T> {
    /// Another one for each: an id that another process gave is told apart.
    boot: String,
    hub: Mutex<Hub<E, T>>,
    published: Notify,
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
        Self(Arc::new(Inner { boot, hub: Mutex::new(hub), published: Notify::new() }))
    }

    /// The hub.
    pub fn hub(&self) -> MutexGuard<'_, Hub<E, T>> {
        self.0.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch.
    pub fn tell(&self, event: E) {
        self.hub().push(event);
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

    /// The next events as `write` writes them, which it does once for all watchers; and whether more are there already.
    /// As [`Watch::next`].
    pub async fn next_text(&mut self, write: impl Fn(&str, &E) -> String) -> Option<(String, bool)> {
        let read = self.read().await?;
        let mut whole = String::new();
        for (at, event, text) in &read.events {
            whole.push_str(text.get_or_init(|| write(&self.id(*at), event).into()));
        }
        Some((whole, read.more))
    }

    async fn read(&mut self) -> Option<Read<E>> {
        loop {
            // registered before looking: what comes in between is not missed
            let mut published = pin!(self.board.0.published.notified());
            published.as_mut().enable();
            let read = self.board.hub().read(self.seat, &self.lets_through)?;
            if !read.events.is_empty() {
                return Some(read);
            }
            if !read.more {
                published.await;
            }
        }
    }
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
            texts.push(watch.next_text(write).await.unwrap().0);
        }
        assert!(texts.iter().all(|text| text.lines().count() == 20 && *text == texts[0]), "{texts:?}");
        assert_eq!(written.load(Ordering::Relaxed), 20);
    }
}
