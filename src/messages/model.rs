//! A message, its attempts, and the counts of messages.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{ClientId, MailingId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};

/// The number of messages in each state. `total` is the sum of the others at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// All messages.
    #[schema(minimum = 0)]
    pub total: i64,
    /// Messages that wait for their turn or their next attempt, including recipients that are not planned yet.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Messages held by a node.
    #[schema(minimum = 0)]
    pub sending: i64,
    /// Messages accepted by the provider.
    #[schema(minimum = 0)]
    pub sent: i64,
    /// Messages that failed permanently, or after their last attempt.
    #[schema(minimum = 0)]
    pub failed: i64,
    /// Messages that were not sent before their window closed.
    #[schema(minimum = 0)]
    pub expired: i64,
    /// Messages cancelled before they were sent.
    #[schema(minimum = 0)]
    pub cancelled: i64,
}

impl Counts {
    /// Returns the counts, with `queued` as the rest of the total.
    pub fn balanced(total: i64, sending: i64, [sent, failed, expired, cancelled]: [i64; 4]) -> Self {
        let queued = total - sending - sent - failed - expired - cancelled;
        Self { total, queued, sending, sent, failed, expired, cancelled }
    }
}

impl std::ops::Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            queued: self.queued + other.queued,
            sending: self.sending + other.sending,
            sent: self.sent + other.sent,
            failed: self.failed + other.failed,
            expired: self.expired + other.expired,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// One delivery to one recipient over one channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Message {
    /// The id, which is also the `Idempotency-Key` at the provider.
    pub id: MessageId,
    /// The mailing of the message.
    pub mailing_id: Option<MailingId>,
    /// The client that receives the message.
    pub client_id: Option<ClientId>,
    /// The address on the channel: a phone number for `sms`.
    #[schema(example = "79031234567")]
    pub recipient: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The priority, which selects the lane.
    pub priority: Priority,
    /// The status.
    pub status: MessageStatus,
    /// The number of attempts.
    pub attempts: i16,
    /// The time at which the message was planned.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time at which the next attempt is due, while the message is queued.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// The end of its window.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The time at which the message reached its final state.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// The reason why the message is not delivered (yet).
    pub error: Option<String>,
    /// The HTTP status of the last attempt, for the list of attempts.
    #[serde(skip)]
    pub status_code: Option<i32>,
    /// The duration of the last attempt in milliseconds.
    #[serde(skip)]
    pub duration_ms: Option<i32>,
}

/// One attempt to deliver a message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Attempt {
    /// The number of the attempt; 1 for the first.
    #[schema(example = 1)]
    pub number: i16,
    /// The time at which the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The outcome.
    pub outcome: OutcomeKind,
    /// The provider's HTTP status, if it responded.
    #[schema(example = 503)]
    pub status_code: Option<i32>,
    /// The time from request to response, in milliseconds.
    #[schema(example = 12)]
    pub duration_ms: i32,
    /// The error.
    pub error: Option<String>,
}

/// A message with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MessageWithAttempts {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// The attempts, oldest first.
    pub attempt_log: Vec<Attempt>,
}

impl MessageWithAttempts {
    /// Appends the delivering attempt, which is stored in the message itself, to the failed attempts.
    pub fn new(message: Message, mut failed: Vec<Attempt>) -> Self {
        if let (MessageStatus::Sent, Some(at)) = (message.status, message.finished_at) {
            failed.push(Attempt {
                number: message.attempts,
                at,
                outcome: OutcomeKind::Delivered,
                status_code: message.status_code,
                duration_ms: message.duration_ms.unwrap_or_default(),
                error: None,
            });
        }
        Self { message, attempt_log: failed }
    }
}

/// The filter of a list of messages.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Only messages of this mailing.
    pub mailing: Option<MailingId>,
    /// Only messages in this state.
    pub status: Option<MessageStatus>,
}
