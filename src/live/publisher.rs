//! The publisher of changes: of notifications, mailings and inboxes, to this node's callers and subscribers and to the
//! other nodes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::board::{self, Broadcast};
use super::event::{Change, EndpointChange, EventFilter, Interests, LiveEvent};
use super::hub::EventRing;
use super::inboxes::{InboxChange, InboxWatch, Inboxes, UserKey};
use super::peers::{self, PeerEvent, Peers};
use crate::clients::jobs::model::{ImportProgress, ProgressPublisher};
use crate::db::types::MessageId;
use crate::mailings::model::MailingProgress;

/// The number of events kept for subscribers that reconnect, and the largest lag of a subscriber.
const KEPT: usize = 10_000;
/// The largest number of subscribers.
const MOST: usize = 1000;
/// The time after which a poll of the mailings may miss changes, if there was no poll in between.
pub(super) const UNOBSERVED: Duration = Duration::from_secs(60);

impl EventRing<LiveEvent, Interests> {
    /// Returns true if there is a subscriber to mailings.
    fn mailings_are_watched(&self) -> bool {
        self.topics().any(|(mailings, _)| *mailings)
    }

    /// Returns true if there is a subscriber to notifications.
    fn notifications_are_watched(&self) -> bool {
        self.topics().any(|(_, notifications)| *notifications)
    }
}

/// A subscription to mailings and notifications.
pub type Watch = board::Watch<LiveEvent, Interests>;

/// The publisher of changes; cloning it is cheap.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    /// The number of waiting callers. Usually it is 0, which saves the lookup.
    waiting: AtomicUsize,
    waiters: Mutex<HashMap<MessageId, Vec<Arc<Notify>>>>,
    board: Broadcast<LiveEvent, Interests>,
    inboxes: Inboxes,
    /// Notified when a subscriber to mailings connects.
    came: Notify,
    /// The time of the last poll of the open mailings.
    looked_at: watch::Sender<Option<Instant>>,
    /// The exchange with other nodes; `None` if this is the only node.
    abroad: Option<Peers>,
}

impl Live {
    /// Creates the publisher, for the only node of a database or for one of several.
    pub fn new(is_single_node: bool) -> Self {
        Self::with(EventRing::new(KEPT, MOST), (!is_single_node).then(Peers::default))
    }

    pub(super) fn with(hub: EventRing<LiveEvent, Interests>, abroad: Option<Peers>) -> Self {
        Self(Arc::new(Inner {
            waiting: AtomicUsize::default(),
            waiters: Mutex::default(),
            board: Broadcast::new(hub),
            inboxes: Inboxes::default(),
            came: Notify::new(),
            looked_at: watch::Sender::new(None),
            abroad,
        }))
    }

    /// Publishes a change to waiting callers and subscribers, including those at other nodes. `is_awaited` is true if a
    /// caller may wait for it at another node. It never blocks.
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
        self.tell(LiveEvent::Notification(*change));
    }

    /// Takes words for the other nodes, of at most `length` bytes with a space before each; empty if there are none.
    pub fn words(&self, length: usize) -> Vec<String> {
        let of = |abroad: &Peers| {
            let watched = (self.hub().notifications_are_watched(), self.0.inboxes.are_watched());
            abroad.words(length, watched)
        };
        self.0.abroad.as_ref().map(of).unwrap_or_default()
    }

    /// Waits until there may be words for the other nodes.
    pub async fn has_words(&self) {
        match &self.0.abroad {
            Some(abroad) => {
                let _ = tokio::time::timeout(peers::ASK_EVERY, abroad.news.notified()).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Handles the loss of the words taken last, which did not reach the other nodes.
    pub fn words_were_lost(&self) {
        self.0.abroad.iter().for_each(Peers::failed);
    }

    /// Handles a word of another node.
    pub fn hear(&self, word: &str) {
        match self.0.abroad.as_ref().and_then(|abroad| abroad.hear(word)) {
            Some(PeerEvent::Change(change)) => self.note(&change),
            Some(PeerEvent::Missed) => self.tell(LiveEvent::Missed),
            Some(PeerEvent::Inbox(change)) => self.0.inboxes.tell(change),
            Some(PeerEvent::InboxesMissed) => self.0.inboxes.missed(),
            None => {}
        }
    }

    /// Handles a reconnection: words of other nodes may have been missed before it.
    pub fn was_deaf(&self) {
        if let Some(abroad) = &self.0.abroad {
            abroad.was_deaf();
            self.tell(LiveEvent::Missed);
            self.0.inboxes.missed();
        }
    }

    /// Publishes the progress of a mailing.
    pub fn progressed(&self, progress: MailingProgress) {
        self.tell(LiveEvent::Mailing(progress));
    }

    /// Publishes the change of a webhook endpoint.
    pub fn endpoint_changed(&self, change: EndpointChange) {
        self.tell(LiveEvent::Endpoint(change));
    }

    fn tell(&self, event: LiveEvent) {
        self.0.board.tell(event);
    }

    /// Publishes a change to the subscribers of this user's inbox, including those at other nodes. It never blocks.
    pub fn inbox_changed(&self, change: &InboxChange) {
        self.0.inboxes.tell(*change);
        if let Some(abroad) = &self.0.abroad {
            abroad.tell_inbox(change);
        }
    }

    /// Subscribes to a user's inbox, from now on or after the event with the id `last`. Returns `None` if there are too
    /// many subscribers, of all users or of this one.
    pub fn watch_inbox(&self, user: UserKey, last: Option<&str>) -> Option<InboxWatch> {
        let is_whole = self.0.abroad.as_ref().is_none_or(Peers::hears_of_inboxes);
        let watch = self.0.inboxes.watch(user, (last, is_whole))?;
        if let Some(abroad) = &self.0.abroad {
            abroad.news.notify_one();
        }
        Some(watch)
    }

    /// Returns the time until a new subscriber receives the changes of inboxes at other nodes, or `None` if it receives
    /// them at once. The subscriber finds earlier changes by reading.
    pub fn inboxes_settle_in(&self) -> Option<Duration> {
        let abroad = self.0.abroad.as_ref()?;
        (!abroad.is_settled_on_inboxes()).then_some(peers::SETTLED_AFTER)
    }

    /// Wakes the callers that wait for a notification, after its final state.
    fn wake(&self, id: MessageId) {
        if self.0.waiting.load(Ordering::Acquire) > 0
            && let Some(waiters) = self.waiters().remove(&id)
        {
            waiters.iter().for_each(|waiter| waiter.notify_one());
        }
    }

    /// Registers a caller that waits for a notification's final state. Call this before the notification can reach it.
    pub fn wait_for(&self, id: MessageId) -> Waiter {
        let ended = Arc::new(Notify::new());
        self.0.waiting.fetch_add(1, Ordering::AcqRel);
        self.waiters().entry(id).or_default().push(Arc::clone(&ended));
        Waiter { live: self.clone(), id, ended }
    }

    /// Subscribes from now on, or after the event with the id `last`. Returns `None` if there are too many subscribers.
    pub fn watch(&self, filter: EventFilter, last: Option<&str>) -> Option<Watch> {
        let (of_mailings, of_notifications) =
            (filter.lets_mailings_through(), filter.lets_notifications_through());
        // changes of mailings are not recorded without a poll, nor those of other nodes without a request for them
        let is_whole = (!of_mailings || !self.is_unobserved(UNOBSERVED))
            && (!of_notifications || self.0.abroad.as_ref().is_none_or(Peers::hears_all));
        let lets_through = move |event: &LiveEvent| filter.lets_through(event);
        let watch = self.0.board.watch((of_mailings, of_notifications), (last, is_whole), lets_through)?;
        if of_mailings {
            self.0.came.notify_one();
        }
        if of_notifications && let Some(abroad) = &self.0.abroad {
            abroad.news.notify_one();
        }
        Some(watch)
    }

    /// Waits until there is a subscriber to mailings.
    pub(super) async fn mailings_are_watched(&self) {
        loop {
            let mut came = pin!(self.0.came.notified());
            came.as_mut().enable();
            if self.hub().mailings_are_watched() {
                return;
            }
            came.await;
        }
    }

    /// Records a poll of the open mailings.
    pub(super) fn looked(&self) {
        self.0.looked_at.send_replace(Some(Instant::now()));
    }

    /// Returns true if the open mailings were not polled within `span`.
    pub(super) fn is_unobserved(&self, span: Duration) -> bool {
        self.0.looked_at.borrow().is_none_or(|at| at.elapsed() > span)
    }

    /// Waits for a recent poll of the open mailings: changes after it will be published.
    pub(super) async fn mailings_are_observed(&self) {
        // it cannot fail, because `self` has the sender
        let _ =
            self.0.looked_at.subscribe().wait_for(|at| at.is_some_and(|at| at.elapsed() <= UNOBSERVED)).await;
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<MessageId, Vec<Arc<Notify>>>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the ring of the last events.
    pub(super) fn hub(&self) -> MutexGuard<'_, EventRing<LiveEvent, Interests>> {
        self.0.board.hub()
    }
}

impl ProgressPublisher for Live {
    fn import_progressed(&self, progress: ImportProgress) {
        self.tell(LiveEvent::Import(progress));
    }
}

/// A registration of a caller that waits for a notification's final state, until it is dropped.
pub struct Waiter {
    live: Live,
    id: MessageId,
    ended: Arc<Notify>,
}

impl Waiter {
    /// Waits for the notification's final state.
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
