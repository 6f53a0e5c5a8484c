//! What a node tells the others, and does when it is told: something changed, look again; a notification that somebody
//! waits for has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::db::Db;
use crate::db::types::MessageId;
use crate::lifecycle::Shutdown;
use crate::mailings::usecase::Wakeup;
use crate::notifications::usecase::Arrivals;

/// PostgreSQL takes payloads of less than 8000 bytes, and an id has 36 and a space.
const MOST_IDS: usize = 200;
/// The word of a payload that says: look again.
const LOOK: &str = "look";

/// Tells the other nodes. Many changes in a row are one notification: each takes a lock of the whole cluster.
pub struct Announcer {
    db: Db,
    /// What this node's own notifications are known by.
    id: String,
    changed: AtomicBool,
    ended: Mutex<Vec<MessageId>>,
    news: Notify,
}

/// What another node told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something changed: look again.
    pub look: bool,
    /// These notifications have ended.
    pub ended: Vec<MessageId>,
}

impl Announcer {
    /// For the nodes of this database.
    pub fn new(db: Db) -> Arc<Self> {
        Arc::new(Self {
            db,
            id: Uuid::new_v4().to_string(),
            changed: AtomicBool::new(false),
            ended: Mutex::default(),
            news: Notify::new(),
        })
    }

    fn ended(&self) -> MutexGuard<'_, Vec<MessageId>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self) {
        self.changed.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// A notification that somebody waits for, perhaps at another node, has ended.
    pub fn notification_ended(&self, id: MessageId) {
        if !self.db.is_single_node() {
            self.ended().push(id);
            self.news.notify_one();
        }
    }

    /// What a payload says; nothing if it is this node's own. An empty one says that something may have been missed.
    pub fn hear(&self, payload: &str) -> Heard {
        let mut words = payload.split(' ');
        match words.next() {
            Some("") | None => Heard { look: true, ended: Vec::new() },
            Some(id) if id == self.id => Heard::default(),
            Some(_) => words.fold(Heard::default(), |mut heard, word| {
                heard.look |= word == LOOK;
                heard.ended.extend(word.parse::<MessageId>());
                heard
            }),
        }
    }

    /// What there is to tell, if there is anything.
    fn payload(&self) -> Option<String> {
        let mut words = vec![self.id.clone()];
        if self.changed.swap(false, Ordering::AcqRel) {
            words.push(LOOK.to_owned());
        }
        let mut ended = self.ended();
        let some = ended.len().min(MOST_IDS);
        words.extend(ended.drain(..some).map(|id| id.to_string()));
        (words.len() > 1).then(|| words.join(" "))
    }

    /// Runs until the shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.news.notified() => {}
            }
            while let Some(payload) = self.payload() {
                if let Err(error) = self.db.notify(payload).await {
                    tracing::warn!(%error, "the other nodes could not be told of a change; they find it at their next look");
                }
            }
        }
    }
}

impl Wakeup for Announcer {
    fn mailing_changed(&self) {
        self.look_again();
    }

    fn pending_changed(&self) {
        self.look_again();
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

    fn announcer() -> (tempfile::TempDir, Arc<Announcer>) {
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite://{}", directory.path().join("announce.db").display());
        let db = Db::open(DbOptions::new(url)).unwrap();
        (directory, Announcer::new(db))
    }

    #[test]
    fn what_one_tells_the_other_hears_and_not_itself() {
        let ((_one, speaker), (_other, listener)) = (announcer(), announcer());
        let ids: Vec<MessageId> = (0..250).map(|_| MessageId::new()).collect();
        speaker.ended().extend(&ids);
        speaker.look_again();
        let payloads: Vec<String> = std::iter::from_fn(|| speaker.payload()).collect();
        assert!(payloads.len() == 2 && payloads.iter().all(|payload| payload.len() < 8000));
        let heard: Vec<Heard> = payloads.iter().map(|payload| listener.hear(payload)).collect();
        assert_eq!((heard[0].look, heard[1].look), (true, false));
        assert_eq!([heard[0].ended.clone(), heard[1].ended.clone()].concat(), ids);
        assert_eq!(speaker.hear(&payloads[0]), Heard::default());
        assert!(listener.hear("").look, "after connecting anew");
    }
}
