//! A person as it is given out, and counts of what is erased.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::messages::model::MessageWithAttempts;
use crate::notifications::model::NotificationWithAttempts;

/// Counts of what was erased with a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// Messages that lost their address, their texts and the errors that may repeat them. They stay in the counts.
    #[schema(example = 12)]
    pub messages: usize,
    /// Events that caused them and lost their targets and their payload.
    #[schema(example = 3)]
    pub events: usize,
    /// Messages that were in its inbox, and are gone.
    #[schema(example = 2)]
    pub inbox: usize,
    /// Answers that were kept for repeated requests and lost their body.
    #[schema(example = 1)]
    pub answers: usize,
    /// Suppressions of its addresses: each stays as a hash, without the address.
    #[schema(example = 1)]
    pub suppressions: usize,
}

/// The answer to an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErasedClient {
    /// The client that is gone.
    pub client_id: ClientId,
    /// Counts of what was erased with it.
    pub erased: Erased,
}

/// A message of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// True if a mailing made it.
    pub is_of_mailing: bool,
    /// True if nothing more becomes of it.
    pub is_final: bool,
}

/// A message of a person, as it is given out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ExportedMessage {
    /// One that was sent for itself, with its texts.
    Notification(Box<NotificationWithAttempts>),
    /// One of a mailing, which has the text.
    Message(Box<MessageWithAttempts>),
}

/// The state of a message in a person's inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportedInboxMessage {
    /// The message.
    pub message_id: MessageId,
    /// When it was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// When it was archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
}
