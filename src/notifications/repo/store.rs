//! Stores accepted notifications: many requests in one transaction, each of them atomic.

use diesel::prelude::*;

use super::row::{InsertNotifications, NotificationRow};
use crate::db::AnyConnection;
use crate::db::schema::batch;
use crate::db::types::{BatchId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{self, Claim, ClaimResult};
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_new_messages};

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
