//! Messages that have a row, as they enter a lane.

use std::sync::Arc;

use super::leases::HeldLease;
use super::model::QueuedMessage;
use super::origin::Origin;
use crate::mailings::recipient::Recipient;
use crate::messages::repo::MessageRow;
use crate::preferences::model::RecipientPreferences;

impl QueuedMessage {
    /// Creates the item of a message that has a row.
    pub fn from_row(
        (row, attempts_before): (MessageRow, i16),
        lease: Arc<HeldLease>,
        origin: Origin,
        (recipient, preferences): (Option<Recipient>, Option<Arc<RecipientPreferences>>),
    ) -> Self {
        Self {
            id: row.id,
            lease,
            origin,
            client: row.client_id,
            recipient,
            preferences,
            address: Some(row.recipient),
            attempts: row.attempts,
            attempts_before,
            revision: row.revision,
            due_at: row.due_at.unwrap_or_else(|| row.id.created_at()),
        }
    }
}
