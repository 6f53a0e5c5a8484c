//! Delivery into inboxes by group commit: messages that arrive while a transaction is being committed share the next
//! one ([`group_commit`](crate::db::group_commit)).

use std::sync::Arc;
use std::time::Duration;

use super::model::UserId;
use super::repo::{self, NewInboxRow};
use crate::channels::Delivery;
use crate::channels::in_app::{InboxStore, StoreError, StoreFuture};
use crate::clock::Clock;
use crate::db::group_commit::{self, GroupCommit, Submitter, group_commit};
use crate::db::{Db, refuses_values};
use crate::error::Result;
use crate::failpoint;
use crate::live::Live;
use crate::live::inboxes::{InboxChange, InboxChangeKind, UserKey};
use crate::runtime::Runtime;

/// Writes messages into inboxes. Cloning it is cheap, and its task ends when the last clone is dropped.
#[derive(Clone)]
pub struct InboxWriter {
    entrance: Submitter<InboxCommit>,
    clock: Clock,
    keep: Duration,
}

/// The task that commits the messages.
pub type Worker = group_commit::GroupCommitWorker<InboxCommit>;

/// The group commit of inbox rows.
pub struct InboxCommit {
    db: Db,
    live: Live,
}

impl InboxWriter {
    /// Creates the writer, and its task, which the caller must run. Messages expire after `keep`.
    pub fn new(Runtime { db, clock, live, .. }: Runtime, keep: Duration) -> (Self, Worker) {
        let (entrance, worker) = group_commit(InboxCommit { db: db.clone(), live }, &db);
        (Self { entrance, clock, keep }, worker)
    }

    async fn take(&self, delivery: Delivery) -> Result<(), StoreError> {
        let user: UserId = delivery.recipient.parse().map_err(|_| StoreError::NoUser)?;
        let now = self.clock.now();
        let row = NewInboxRow {
            message_id: delivery.id,
            created_at: now,
            expires_at: now.plus(self.keep),
            user_id: user.as_str().to_owned(),
            subject: delivery.subject,
            text: delivery.text,
            data: delivery.data.map(|data| data.as_ref().to_owned()),
        };
        self.entrance.write(row).await.map_err(|error| {
            if refuses_values(&error) {
                return StoreError::Refused;
            }
            tracing::warn!(%error, "inbox message not stored; will retry");
            StoreError::Away
        })
    }
}

impl InboxStore for InboxWriter {
    fn put(&self, delivery: Delivery) -> StoreFuture<'_> {
        Box::pin(self.take(delivery))
    }
}

impl GroupCommit for InboxCommit {
    type Item = NewInboxRow;
    type Done = ();
    const LARGEST_GROUP: usize = 500;

    fn size(_: &NewInboxRow) -> usize {
        1
    }

    fn key(_: &NewInboxRow) -> Option<&str> {
        None
    }

    async fn commit(&self, rows: Arc<[NewInboxRow]>) -> Result<Vec<()>> {
        let written = Arc::clone(&rows);
        let new = self.db.write(move |c| repo::insert(c, &written)).await?;
        failpoint::reach("inbox-after-commit");
        for row in rows.iter().filter(|row| new.contains(&row.message_id)) {
            self.live.inbox_changed(&InboxChange {
                user: UserKey::of(&row.user_id),
                what: InboxChangeKind::Delivered,
                message: Some(row.message_id),
                at: row.created_at,
            });
        }
        Ok(vec![(); rows.len()])
    }
}
