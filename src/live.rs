//! What becomes of notifications and mailings, told at once to those who wait for it or watch it. In memory: the
//! database is the record, and whoever was not listening reads it there.

mod abroad;
pub mod board;
pub mod handler;
mod hub;
pub mod inboxes;
pub mod observer;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use utoipa::ToSchema;

use self::abroad::{Abroad, Heard};
use self::board::Board;
use self::hub::Hub;
use self::inboxes::{InboxChange, InboxWatch, Inboxes, UserKey};
use crate::clients::jobs::model::{ImportProgress, Watchers};
use crate::db::types::{BatchId, EndpointId, MailingId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, Disabled, NotificationStatus};
use crate::mailings::model::Progress;

/// Events that are kept for those who come back, and by how many a reader may be behind.
const KEPT: usize = 10_000;
/// Watchers at once.
const MOST: usize = 1000;
/// Mailings that nobody looked at for so long may have done more than the next look can tell.
const UNOBSERVED: Duration = Duration::from_secs(60);

/// A notification came to another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NotificationChange)]
pub struct Change {
    /// Which notification.
    pub id: MessageId,
    /// The batch that it came in.
    #[serde(rename = "batch_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batch: Option<BatchId>,
    /// How it goes out.
    pub channel: ChannelKind,
    /// Its state from now on.
    pub status: NotificationStatus,
    /// Attempts made by now.
    pub attempts: i16,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A webhook's endpoint was disabled or enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct EndpointChange {
    /// Which endpoint.
    pub id: EndpointId,
    /// Whether it is sent to from now on.
    pub is_enabled: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<Disabled>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What is told to those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A notification came to another state.
    Notification(Change),
    /// A mailing's status or counts changed.
    Mailing(Progress),
    /// A webhook's endpoint was disabled or enabled, by this node.
    Endpoint(EndpointChange),
    /// An import of this node has come farther.
    Import(ImportProgress),
    /// What another node told of notifications was lost.
    Missed,
}

/// What a watcher is told of: that for which all that is given holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// This mailing. Notifications have none.
    pub mailing: Option<MailingId>,
    /// Notifications of this batch. Mailings have none.
    pub batch: Option<BatchId>,
    /// What goes out on this channel.
    pub channel: Option<ChannelKind>,
}

impl Filter {
    /// Whether the watcher is told of this.
    pub fn lets_through(&self, event: &Event) -> bool {
        let (mailing, batch, channel) = match event {
            Event::Notification(change) => (None, change.batch, change.channel),
            Event::Mailing(progress) => (Some(progress.mailing_id), None, progress.channel),
            Event::Endpoint(_) => (None, None, ChannelKind::Webhook),
            // it is of no mailing, batch or channel
            Event::Import(_) => return *self == Self::default(),
            Event::Missed => return self.lets_notifications_through(),
        };
        (self.mailing.is_none() || self.mailing == mailing)
            && (self.batch.is_none() || self.batch == batch)
            && self.channel.is_none_or(|wanted| wanted == channel)
    }

    /// Whether it may be told of mailings.
    pub fn lets_mailings_through(&self) -> bool {
        self.batch.is_none()
    }

    /// Whether it may be told of notifications.
    pub fn lets_notifications_through(&self) -> bool {
        self.mailing.is_none()
    }
}

/// Whether a watcher is there for mailings and for notifications.
pub type Interests = (bool, bool);

/// Somebody who watches mailings and notifications.
pub type Watch = board::Watch<Event, Interests>;

/// Where changes are told; cloning it is cheap.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    /// How many wait: mostly nobody does, and then nothing is looked up.
    waiting: AtomicUsize,
    waiters: Mutex<HashMap<MessageId, Vec<Arc<Notify>>>>,
    board: Board<Event, Interests>,
    inboxes: Inboxes,
    /// Somebody came who watches mailings.
    came: Notify,
    /// When the open mailings were read last, for those who watch.
    looked_at: watch::Sender<Option<Instant>>,
    /// None on the only node.
    abroad: Option<Abroad>,
}

impl Live {
    /// For the only node on its database, or one of several.
    pub fn new(is_single_node: bool) -> Self {
        Self::with(Hub::new(KEPT, MOST), (!is_single_node).then(Abroad::default))
    }

    fn with(hub: Hub<Event, Interests>, abroad: Option<Abroad>) -> Self {
        Self(Arc::new(Inner {
            waiting: AtomicUsize::default(),
            waiters: Mutex::default(),
            board: Board::new(hub),
            inboxes: Inboxes::default(),
            came: Notify::new(),
            looked_at: watch::Sender::new(None),
            abroad,
        }))
    }

    /// Tells those who wait for this notification or watch it, at other nodes too. `is_awaited`: somebody may wait for
    /// it at another one. It never waits.
    pub fn publish(&self, change: &Change, is_awaited: bool) {
        self.note(change);
        if let Some(abroad) = &self.0.abroad {
            abroad.tell(change, is_awaited);
        }
    }

    fn note(&self, change: &Change) {
        if change.status.is_final() {
            self.wake(change.id);
        }
        self.tell(Event::Notification(*change));
    }

    /// Words for the other nodes, at most so many bytes with a space before each; none when there is nothing to tell.
    pub fn words(&self, length: usize) -> Vec<String> {
        let of = |abroad: &Abroad| {
            let watched = (self.hub().notifications_are_watched(), self.0.inboxes.are_watched());
            abroad.words(length, watched)
        };
        self.0.abroad.as_ref().map(of).unwrap_or_default()
    }

    /// Returns when there may be words for the other nodes.
    pub async fn has_words(&self) {
        match &self.0.abroad {
            Some(abroad) => {
                let _ = tokio::time::timeout(abroad::ASK_EVERY, abroad.news.notified()).await;
            }
            None => std::future::pending().await,
        }
    }

    /// The words taken last did not reach the other nodes.
    pub fn words_were_lost(&self) {
        self.0.abroad.iter().for_each(Abroad::failed);
    }

    /// Takes a word of another node.
    pub fn hear(&self, word: &str) {
        match self.0.abroad.as_ref().and_then(|abroad| abroad.hear(word)) {
            Some(Heard::Change(change)) => self.note(&change),
            Some(Heard::Missed) => self.tell(Event::Missed),
            Some(Heard::Inbox(change)) => self.0.inboxes.tell(change),
            Some(Heard::InboxesMissed) => self.0.inboxes.missed(),
            None => {}
        }
    }

    /// This node has not heard what others told, and hears them again from now on.
    pub fn was_deaf(&self) {
        if let Some(abroad) = &self.0.abroad {
            abroad.was_deaf();
            self.tell(Event::Missed);
            self.0.inboxes.missed();
        }
    }

    /// Tells those who watch this mailing.
    pub fn progressed(&self, progress: Progress) {
        self.tell(Event::Mailing(progress));
    }

    /// Tells those who watch webhooks.
    pub fn endpoint_changed(&self, change: EndpointChange) {
        self.tell(Event::Endpoint(change));
    }

    fn tell(&self, event: Event) {
        self.0.board.tell(event);
    }

    /// Tells the pages that show this user's inbox, at other nodes too. It never waits.
    pub fn inbox_changed(&self, change: &InboxChange) {
        self.0.inboxes.tell(*change);
        if let Some(abroad) = &self.0.abroad {
            abroad.tell_inbox(change);
        }
    }

    /// Registers a page that shows a user's inbox, from now on or from what has the id `last` on. None when too many
    /// are open, of all users or of this one.
    pub fn watch_inbox(&self, user: UserKey, last: Option<&str>) -> Option<InboxWatch> {
        let is_whole = self.0.abroad.as_ref().is_none_or(Abroad::hears_of_inboxes);
        let watch = self.0.inboxes.watch(user, (last, is_whole))?;
        if let Some(abroad) = &self.0.abroad {
            abroad.news.notify_one();
        }
        Some(watch)
    }

    /// When a page that is opened now is told of what other nodes do to inboxes; none when it is told from the beginning.
    /// What they do before that it finds by reading.
    pub fn inboxes_settle_in(&self) -> Option<Duration> {
        let abroad = self.0.abroad.as_ref()?;
        (!abroad.is_settled_on_inboxes()).then_some(abroad::SETTLED_AFTER)
    }

    /// Wakes those who wait for a notification that has come to its final state.
    fn wake(&self, id: MessageId) {
        if self.0.waiting.load(Ordering::Acquire) > 0
            && let Some(waiters) = self.waiters().remove(&id)
        {
            waiters.iter().for_each(|waiter| waiter.notify_one());
        }
    }

    /// Registers somebody who waits for a notification's final state; to be called before it can come to it.
    pub fn wait_for(&self, id: MessageId) -> Waiter {
        let ended = Arc::new(Notify::new());
        self.0.waiting.fetch_add(1, Ordering::AcqRel);
        self.waiters().entry(id).or_default().push(Arc::clone(&ended));
        Waiter { live: self.clone(), id, ended }
    }

    /// Registers somebody who watches from now on, or from what has the id `last` on. None when too many do already.
    pub fn watch(&self, filter: Filter, last: Option<&str>) -> Option<Watch> {
        let (of_mailings, of_notifications) =
            (filter.lets_mailings_through(), filter.lets_notifications_through());
        // what mailings did while nobody looked at them was not noted, nor what other nodes were not asked for
        let is_whole = (!of_mailings || !self.is_unobserved(UNOBSERVED))
            && (!of_notifications || self.0.abroad.as_ref().is_none_or(Abroad::hears_all));
        let lets_through = move |event: &Event| filter.lets_through(event);
        let watch = self.0.board.watch((of_mailings, of_notifications), (last, is_whole), lets_through)?;
        if of_mailings {
            self.0.came.notify_one();
        }
        if of_notifications && let Some(abroad) = &self.0.abroad {
            abroad.news.notify_one();
        }
        Some(watch)
    }

    /// Returns when somebody watches mailings.
    async fn mailings_are_watched(&self) {
        loop {
            let mut came = pin!(self.0.came.notified());
            came.as_mut().enable();
            if self.hub().mailings_are_watched() {
                return;
            }
            came.await;
        }
    }

    /// Notes that the open mailings were read for those who watch.
    fn looked(&self) {
        self.0.looked_at.send_replace(Some(Instant::now()));
    }

    /// Whether the open mailings were not read for so long.
    fn is_unobserved(&self, span: Duration) -> bool {
        self.0.looked_at.borrow().is_none_or(|at| at.elapsed() > span)
    }

    /// Returns when the open mailings have been read not long ago: what they do after that will be told.
    async fn mailings_are_observed(&self) {
        // it cannot fail: this holds the sender
        let _ =
            self.0.looked_at.subscribe().wait_for(|at| at.is_some_and(|at| at.elapsed() <= UNOBSERVED)).await;
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<MessageId, Vec<Arc<Notify>>>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hub(&self) -> MutexGuard<'_, Hub<Event, Interests>> {
        self.0.board.hub()
    }
}

impl Watchers for Live {
    fn import_progressed(&self, progress: ImportProgress) {
        self.tell(Event::Import(progress));
    }
}

/// Somebody who waits for a notification's final state, until it is dropped.
pub struct Waiter {
    live: Live,
    id: MessageId,
    ended: Arc<Notify>,
}

impl Waiter {
    /// Returns when the notification has come to its final state.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.live.0.waiting.fetch_sub(1, Ordering::AcqRel);
        let mut waiters = self.live.waiters();
        if let Some(others) = waiters.get_mut(&self.id) {
            others.retain(|other| !Arc::ptr_eq(other, &self.ended));
            if others.is_empty() {
                waiters.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
