//! How messages come into inboxes: those that come while one transaction is being committed share the next one
//! ([`gather`](crate::db::gather)).

use std::sync::Arc;
use std::time::Duration;

use super::model::UserId;
use super::repo::{self, NewRow};
use crate::channels::Delivery;
use crate::channels::in_app::{Inboxes, NotPut, Putting};
use crate::clock::Clock;
use crate::db::gather::{self, Entrance, Gather, gathering};
use crate::db::{Db, refuses_values};
use crate::error::Result;
use crate::failpoint;
use crate::live::Live;
use crate::live::inboxes::{InboxChange, UserKey, What};

/// Where messages are put into inboxes; cloning it is cheap. Its task ends when the last clone is gone.
#[derive(Clone)]
pub struct Letterbox {
    entrance: Entrance<Rows>,
    clock: Clock,
    keep: Duration,
}

/// The task behind it.
pub type Worker = gather::Worker<Rows>;

/// How rows are stored.
pub struct Rows {
    db: Db,
    live: Live,
}

impl Letterbox {
    /// One whose messages are kept for so long, and the task that has to be run for it.
    pub fn new((db, clock, live): (Db, Clock, Live), keep: Duration) -> (Self, Worker) {
        let (entrance, worker) = gathering(Rows { db: db.clone(), live }, &db);
        (Self { entrance, clock, keep }, worker)
    }

    async fn take(&self, delivery: Delivery) -> Result<(), NotPut> {
        let user: UserId = delivery.recipient.parse().map_err(|_| NotPut::NoUser)?;
        let now = self.clock.now();
        let row = NewRow {
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
                return NotPut::Refused;
            }
            tracing::warn!(%error, "a message could not be put into its inbox; trying again");
            NotPut::Away
        })
    }
}

impl Inboxes for Letterbox {
    fn put(&self, delivery: Delivery) -> Putting<'_> {
        Box::pin(self.take(delivery))
    }
}

impl Gather for Rows {
    type Item = NewRow;
    type Done = ();
    const LARGEST_GROUP: usize = 500;

    fn size(_: &NewRow) -> usize {
        1
    }

    fn key(_: &NewRow) -> Option<&str> {
        None
    }

    async fn commit(&self, rows: Arc<[NewRow]>) -> Result<Vec<()>> {
        let written = Arc::clone(&rows);
        let new = self.db.write(move |c| repo::insert(c, &written)).await?;
        failpoint::reach("inbox-after-commit");
        for row in rows.iter().filter(|row| new.contains(&row.message_id)) {
            self.live.inbox_changed(&InboxChange {
                user: UserKey::of(&row.user_id),
                what: What::Delivered,
                message: Some(row.message_id),
                at: row.created_at,
            });
        }
        Ok(vec![(); rows.len()])
    }
}
