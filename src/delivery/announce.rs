//! Notifies the other nodes of changes, so that they poll at once, and of status changes of notifications.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::db::Db;
use crate::db::types::MailingId;
use crate::lifecycle::Shutdown;
use crate::live::Live;
use crate::mailings::model::MailingStatus;
use crate::mailings::usecase::Wakeup;
use crate::messages::cancelling::Recall;
use crate::notifications::notifier::NewMessageNotifier;
use crate::sending::usecase::Switch;

/// The longest payload: PostgreSQL accepts less than 8000 bytes.
const LONGEST: usize = 7999;
/// The word of a payload that asks for a poll.
const LOOK: &str = "look";
/// The word of a payload that asks for a recall of cancelled messages, which may be in a lane.
const RECALL: &str = "recall";

/// Notifies the other nodes. It combines successive changes in one `NOTIFY`, because each takes a lock of the whole
/// cluster.
pub struct Announcer {
    db: Db,
    live: Live,
    /// Marks this node's own payloads.
    id: String,
    changed: AtomicBool,
    recalls: AtomicBool,
    news: Notify,
}

/// The requests in a payload of another node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AnnouncedRequests {
    /// True if something changed, so that this node polls.
    pub look: bool,
    /// True if messages were cancelled that may be in a lane.
    pub recall: bool,
}

impl Announcer {
    /// Creates an announcer for the nodes of this database.
    pub fn new(db: Db, live: Live) -> Arc<Self> {
        let id = Uuid::new_v4().simple().to_string();
        Arc::new(Self {
            db,
            live,
            id,
            changed: AtomicBool::new(false),
            recalls: AtomicBool::new(false),
            news: Notify::new(),
        })
    }

    fn look_again(&self) {
        self.changed.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Asks the other nodes to recall cancelled messages from their lanes.
    pub fn announce_recall(&self) {
        self.recalls.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Publishes the status changes in a payload, and returns the other requests in it. This node's own payloads are
    /// ignored. An empty payload means that some may have been missed.
    pub fn hear(&self, payload: &str) -> AnnouncedRequests {
        let (id, words) = payload.split_once(' ').unwrap_or((payload, ""));
        if id.is_empty() {
            self.live.was_deaf();
            return AnnouncedRequests { look: true, recall: true };
        }
        let mut heard = AnnouncedRequests::default();
        if id != self.id {
            for word in words.split(' ') {
                heard.look |= word == LOOK;
                heard.recall |= word == RECALL;
                self.live.hear(word);
            }
        }
        heard
    }

    /// Returns the next payload, or `None` if there is nothing to send.
    fn payload(&self) -> Option<String> {
        let mut words = vec![self.id.clone()];
        if self.changed.swap(false, Ordering::AcqRel) {
            words.push(LOOK.to_owned());
        }
        if self.recalls.swap(false, Ordering::AcqRel) {
            words.push(RECALL.to_owned());
        }
        let length = words.iter().map(|word| word.len() + 1).sum();
        words.extend(self.live.words(LONGEST.saturating_sub(length)));
        (words.len() > 1).then(|| words.join(" "))
    }

    /// Runs until `end`, which follows the end of all tasks that announce something, and then sends the rest.
    pub async fn run(self: Arc<Self>, end: Shutdown) {
        loop {
            let is_last = tokio::select! {
                biased;
                () = end.wait() => true,
                () = self.news.notified() => false,
                () = self.live.has_words() => false,
            };
            while let Some(payload) = self.payload() {
                if let Err(error) = self.db.notify(payload).await {
                    self.live.words_were_lost();
                    tracing::warn!(%error, "other nodes not notified; they find the change at their next poll");
                    if is_last {
                        return;
                    }
                }
            }
            if is_last {
                return;
            }
        }
    }
}

impl Wakeup for Announcer {
    fn mailing_changed(&self) {
        self.look_again();
    }

    fn mailing_stopped(&self, _id: MailingId, _status: MailingStatus) {
        // the other nodes poll
    }

    fn pending_changed(&self) {
        self.look_again();
    }
}

impl Switch for Announcer {
    fn switched(&self, _is_paused: bool) {
        self.look_again();
    }
}

impl Recall for Announcer {
    fn recall(&self) -> BoxFuture<'static, ()> {
        // this node has no lanes
        self.announce_recall();
        Box::pin(std::future::ready(()))
    }
}

impl NewMessageNotifier for Announcer {
    fn arrived(&self) {
        self.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::DbOptions;
    use crate::db::types::{MessageId, Timestamp};
    use crate::kinds::{ChannelKind, NotificationStatus};
    use crate::live::Change;

    fn announcer() -> (tempfile::TempDir, Arc<Announcer>) {
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite://{}", directory.path().join("announce.db").display());
        let db = Db::open(DbOptions::new(url)).unwrap();
        (directory, Announcer::new(db, Live::new(false)))
    }

    #[tokio::test]
    async fn a_node_receives_the_payloads_of_others_and_ignores_its_own() {
        let ((_one, speaker), (_other, listener)) = (announcer(), announcer());
        let ids: Vec<MessageId> = (0..250).map(|_| MessageId::new()).collect();
        let waiters: Vec<_> = ids.iter().map(|id| listener.live.wait_for(*id)).collect();
        for id in ids {
            let (channel, status, at) =
                (ChannelKind::Sms, NotificationStatus::Sent, Timestamp::from_micros(0));
            speaker.live.publish(&Change { id, batch: None, channel, status, attempts: 1, at }, true);
        }
        speaker.look_again();
        speaker.announce_recall();
        let payloads: Vec<String> = std::iter::from_fn(|| speaker.payload()).collect();
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() <= LONGEST));
        assert!(
            payloads.iter().all(|payload| speaker.hear(payload) == AnnouncedRequests::default()),
            "its own"
        );
        let heard: Vec<AnnouncedRequests> = payloads.iter().map(|payload| listener.hear(payload)).collect();
        let asks = |asks: fn(&AnnouncedRequests) -> bool| heard.iter().filter(|heard| asks(heard)).count();
        assert_eq!((asks(|heard| heard.look), asks(|heard| heard.recall)), (1, 1));
        for waiter in waiters {
            waiter.ended().await;
        }
        assert_eq!(
            listener.hear(""),
            AnnouncedRequests { look: true, recall: true },
            "after connecting again"
        );
    }
}
