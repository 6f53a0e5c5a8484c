//! The exported data of a person, and the counts of erased records.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::messages::model::MessageWithAttempts;
use crate::notifications::model::NotificationWithAttempts;

/// The numbers of records that were erased with a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// The number of messages that lost their address, their texts and their errors, which may repeat them. They stay
    /// in the counts.
    #[schema(example = 12)]
    pub messages: usize,
    /// The number of events that lost their targets and their payload.
    #[schema(example = 3)]
    pub events: usize,
    /// The number of messages that were deleted from its inbox.
    #[schema(example = 2)]
    pub inbox: usize,
    /// The number of responses, stored for repeated requests, that lost their body.
    #[schema(example = 1)]
    pub answers: usize,
    /// The number of suppressions of its addresses. Each stays as a hash, without the address.
    #[schema(example = 1)]
    pub suppressions: usize,
}

/// The result of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErasedClient {
    /// The id of the erased client.
    pub client_id: ClientId,
    /// The numbers of records that were erased with it.
    pub erased: Erased,
}

/// A message of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRef {
    /// The id of the message.
    pub id: MessageId,
    /// True if the message belongs to a mailing.
    pub is_of_mailing: bool,
    /// True if its status is final.
    pub is_final: bool,
}

/// An exported message of a person.
#[derive(Debug)]
pub enum ExportedMessage {
    /// A notification with its texts.
    Notification(Box<NotificationWithAttempts>),
    /// A message of a mailing; the mailing has the text.
    Message(Box<MessageWithAttempts>),
}

/// The state of a message in a person's inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportedInboxMessage {
    /// The id of the message.
    pub message_id: MessageId,
    /// The time at which it was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// The time at which it was archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
}
