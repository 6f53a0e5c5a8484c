//! A message as it is stored.

use diesel::prelude::*;

use crate::db::schema::message;
use crate::db::types::{ClientId, MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::messages::model::Message;

/// A row of `message`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = message)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct MessageRow {
    pub id: MessageId,
    pub mailing_id: Option<MailingId>,
    pub client_id: Option<ClientId>,
    pub recipient: String,
    pub channel: i16,
    pub priority: i16,
    pub status: i16,
    pub attempts: i16,
    pub revision: i16,
    pub created_at: Timestamp,
    pub due_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub status_code: Option<i32>,
    pub duration_ms: Option<i32>,
    pub provider_id: Option<String>,
    pub error: Option<String>,
}

impl MessageRow {
    /// The message that the row stands for.
    ///
    /// # Errors
    /// A code that this version does not know.
    pub fn into_model(self) -> Result<Message> {
        Ok(Message {
            id: self.id,
            mailing_id: self.mailing_id,
            client_id: self.client_id,
            recipient: self.recipient,
            channel: ChannelKind::from_code(self.channel)?,
            priority: Priority::from_code(self.priority)?,
            status: MessageStatus::from_code(self.status)?,
            attempts: self.attempts,
            created_at: self.created_at,
            due_at: self.due_at,
            expires_at: self.expires_at,
            finished_at: self.finished_at,
            provider_id: self.provider_id,
            error: self.error,
            status_code: self.status_code,
            duration_ms: self.duration_ms,
        })
    }
}
