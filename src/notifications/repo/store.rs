//! Stores accepted notifications: many requests in one transaction, each of them atomic.

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::bulk::table_row;
use crate::db::schema::{batch, notification};
use crate::db::types::{BatchId, EventId, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{self, Claim, ClaimResult};
use crate::kinds::NotificationStatus;
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_new_messages};

table_row! {
    /// A row of `notification`.
    #[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
    #[diesel(table_name = notification)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct NotificationRow in notification {
        pub message_id: MessageId,
        pub batch_id: Option<BatchId>,
        pub scheduled_at: Option<Timestamp>,
        pub updated_at: Timestamp,
        pub is_awaited: bool,
        pub text: String,
        pub subject: Option<String>,
        pub html: Option<String>,
        pub data: Option<String>,
        pub metadata: Option<String>,
        pub retry: Option<String>,
        pub event_id: Option<EventId>,
        pub message_group: Option<String>,
        pub is_transactional: bool,
        pub template: Option<String>,
    }
    insert InsertNotifications ""
}

impl NotificationRow {
    /// Returns the status right after it was accepted.
    pub fn status_at_first(&self, message: &MessageRow) -> NotificationStatus {
        let is_later = message.due_at.is_some_and(|at| at > self.updated_at);
        if is_later { NotificationStatus::Scheduled } else { NotificationStatus::Queued }
    }
}

/// The rows of one request.
#[derive(Debug, Clone)]
pub struct NewNotificationRows {
    /// The message and the content of each notification.
    pub rows: Vec<(MessageRow, NotificationRow)>,
    /// The batch, if the request posts one.
    pub batch: Option<BatchId>,
    /// The claim of the request's idempotency key.
    pub claim: Option<Claim>,
}

/// The result of storing a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreResult {
    /// Its rows were stored.
    New,
    /// Nothing was stored, because another request has the idempotency key.
    Refused(ClaimResult),
}

/// Stores the rows of requests, no two of which have the same idempotency key.
///
/// # Errors
/// Database errors, after which nothing of any request is stored.
pub fn store(
    c: &mut AnyConnection,
    requests: &[NewNotificationRows],
    now: Timestamp,
) -> Result<Vec<StoreResult>> {
    let claims = requests.iter().map(|request| request.claim.as_ref());
    let verdicts = idempotency::claim_each(c, claims, now)?.into_iter();
    let stored: Vec<StoreResult> =
        verdicts.map(|verdict| verdict.map_or(StoreResult::New, StoreResult::Refused)).collect();
    let new: Vec<&NewNotificationRows> = requests
        .iter()
        .zip(&stored)
        .filter(|(_, stored)| **stored == StoreResult::New)
        .map(|(request, _)| request)
        .collect();
    let rows: Vec<&(MessageRow, NotificationRow)> = new.iter().flat_map(|request| &request.rows).collect();
    insert_new_messages(c, &rows.iter().map(|(message, _)| message).collect::<Vec<_>>())?;
    InsertNotifications::insert(c, &rows.iter().map(|(_, notification)| notification).collect::<Vec<_>>())?;
    let due: Vec<DueRow> =
        rows.iter().map(|(message, _)| DueRow::new(message, None, message.due_at.unwrap_or(now))).collect();
    insert_due(c, &due)?;
    for request in new {
        if let Some(id) = request.batch {
            let total = i32::try_from(request.rows.len()).unwrap_or(i32::MAX);
            diesel::insert_into(batch::table)
                .values((batch::id.eq(id), batch::total.eq(total)))
                .execute(c)?;
        }
    }
    failpoint::reach("accept-before-commit");
    Ok(stored)
}
