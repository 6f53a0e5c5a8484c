//! What becomes of notifications, told at once to those who wait for it or watch it. In memory: the database is the
//! record, and whoever was not listening reads it there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::db::types::{BatchId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, MessageStatus};

/// A notification came to another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which notification.
    pub id: MessageId,
    /// The batch that it came in.
    pub batch: Option<BatchId>,
    /// How it goes out.
    pub channel: ChannelKind,
    /// Its state from now on.
    pub status: MessageStatus,
    /// Attempts made by now.
    pub attempts: i16,
    /// Since when.
    pub at: Timestamp,
}

/// Where changes are told; cloning it is cheap.
#[derive(Clone, Default)]
pub struct Live(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// How many wait: mostly nobody does, and then nothing is looked up.
    waiting: AtomicUsize,
    waiters: Mutex<HashMap<MessageId, Vec<Arc<Notify>>>>,
}

impl Live {
    /// Tells those who wait for this notification or watch it.
    pub fn publish(&self, change: &Change) {
        if change.status.is_final() {
            self.wake(change.id);
        }
    }

    /// Wakes those who wait for a notification that has come to its final state.
    pub fn wake(&self, id: MessageId) {
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

    fn waiters(&self) -> MutexGuard<'_, HashMap<MessageId, Vec<Arc<Notify>>>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
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
mod tests {
    use super::*;

    fn change(id: MessageId, status: MessageStatus) -> Change {
        let at = Timestamp::from_micros(0);
        Change { id, batch: None, channel: ChannelKind::Sms, status, attempts: 1, at }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_final_state_alone() {
        let live = Live::default();
        let (id, other) = (MessageId::new(), MessageId::new());
        let (first, second) = (live.wait_for(id), live.wait_for(id));
        live.publish(&change(id, MessageStatus::Sending));
        live.publish(&change(other, MessageStatus::Sent));
        assert!(futures_util::FutureExt::now_or_never(first.ended()).is_none());
        live.publish(&change(id, MessageStatus::Sent));
        first.ended().await;
        second.ended().await;
    }

    #[test]
    fn who_waits_no_more_leaves_nothing_behind() {
        let live = Live::default();
        let id = MessageId::new();
        let (first, second) = (live.wait_for(id), live.wait_for(id));
        drop(first);
        assert_eq!(live.waiters().len(), 1);
        drop(second);
        assert_eq!((live.waiters().len(), live.0.waiting.load(Ordering::Acquire)), (0, 0));
    }
}
