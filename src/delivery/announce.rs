//! What a node tells the others: that something changed, so that they look again, and what became of notifications.

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
use crate::notifications::usecase::Arrivals;
use crate::sending::usecase::Switch;

/// PostgreSQL takes payloads of less than 8000 bytes.
const LONGEST: usize = 7999;
/// The word of a payload that says: look again.
const LOOK: &str = "look";
/// The word of a payload that says: messages were cancelled that may be in a lane.
const RECALL: &str = "recall";

/// Tells the other nodes. Many changes in a row are one notification: each takes a lock of the whole cluster.
pub struct Announcer {
    db: Db,
    live: Live,
    /// What this node's own notifications are known by.
    id: String,
    changed: AtomicBool,
    recalls: AtomicBool,
    news: Notify,
}

/// The requests in a payload of another node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Something changed: look again.
    pub look: bool,
    /// Messages were cancelled that may be in a lane.
    pub recall: bool,
}

impl Announcer {
    /// For the nodes of this database.
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

    /// Tells the others that messages were cancelled which they may have in their lanes.
    pub fn announce_recall(&self) {
        self.recalls.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Takes what a payload says of notifications; answers what else it asks for. One of this node's own says nothing, an
    /// empty one that something may have been missed.
    pub fn hear(&self, payload: &str) -> Heard {
        let (id, words) = payload.split_once(' ').unwrap_or((payload, ""));
        if id.is_empty() {
            self.live.was_deaf();
            return Heard { look: true, recall: true };
        }
        let mut heard = Heard::default();
        if id != self.id {
            for word in words.split(' ') {
                heard.look |= word == LOOK;
                heard.recall |= word == RECALL;
                self.live.hear(word);
            }
        }
        heard
    }

    /// What there is to tell, if there is anything.
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

    /// Runs until the end of those who change anything, and tells what they left to tell.
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
                    tracing::warn!(%error, "the other nodes could not be told of a change; they find it at their next look");
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
        // the others look
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

impl Arrivals for Announcer {
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
    async fn what_one_tells_the_other_hears_and_not_itself() {
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
        assert!(payloads.iter().all(|payload| speaker.hear(payload) == Heard::default()), "its own");
        let heard: Vec<Heard> = payloads.iter().map(|payload| listener.hear(payload)).collect();
        let asks = |asks: fn(&Heard) -> bool| heard.iter().filter(|heard| asks(heard)).count();
        assert_eq!((asks(|heard| heard.look), asks(|heard| heard.recall)), (1, 1));
        for waiter in waiters {
            waiter.ended().await;
        }
        assert_eq!(listener.hear(""), Heard { look: true, recall: true }, "after connecting anew");
    }
}
