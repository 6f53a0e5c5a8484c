//! What a node tells the others, and does when it is told: something changed, look again.

use std::sync::Arc;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::db::Db;
use crate::lifecycle::Shutdown;
use crate::mailings::usecase::Wakeup;

/// Tells the other nodes. Many changes in a row are one notification: each takes a lock of the whole cluster.
pub struct Announcer {
    db: Db,
    /// What this node's own notifications are known by.
    id: String,
    changed: Notify,
}

impl Announcer {
    /// For the nodes of this database.
    pub fn new(db: Db) -> Arc<Self> {
        Arc::new(Self { db, id: Uuid::new_v4().to_string(), changed: Notify::new() })
    }

    /// Whether a notification is another node's.
    pub fn is_foreign(&self, payload: &str) -> bool {
        payload != self.id
    }

    /// Runs until the shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.changed.notified() => {}
            }
            if let Err(error) = self.db.notify(self.id.clone()).await {
                tracing::warn!(%error, "the other nodes could not be told of a change; they find it at their next look");
            }
        }
    }
}

impl Wakeup for Announcer {
    fn mailing_changed(&self) {
        self.changed.notify_one();
    }

    fn pending_changed(&self) {
        self.changed.notify_one();
    }
}
