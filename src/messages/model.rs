//! A message, its attempts, and the counts that balance.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::types::{ClientId, MailingId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};

/// How many messages there are in each state. `total` is the sum of the others at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// All of them.
    #[schema(minimum = 0)]
    pub total: i64,
    /// Wait for their turn or their next attempt; recipients not yet planned are among them.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// In the hands of a node.
    #[schema(minimum = 0)]
    pub sending: i64,
    /// Taken by the provider.
    #[schema(minimum = 0)]
    pub sent: i64,
    /// Given up for good.
    #[schema(minimum = 0)]
    pub failed: i64,
    /// Their window closed first.
    #[schema(minimum = 0)]
    pub expired: i64,
    /// Cancelled before they were sent.
    #[schema(minimum = 0)]
    pub cancelled: i64,
}

impl Counts {
    /// The counts with `queued` as what is left of the total.
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
    /// Also its `Idempotency-Key` at the provider.
    pub id: MessageId,
    /// The mailing it belongs to.
    pub mailing_id: Option<MailingId>,
    /// The client it is for.
    pub client_id: Option<ClientId>,
    /// The address on the channel: a phone number for `sms`.
    #[schema(example = "79031234567")]
    pub recipient: String,
    /// How it goes out.
    pub channel: ChannelKind,
    /// Which lane it waits in.
    pub priority: Priority,
    /// What has become of it.
    pub status: MessageStatus,
    /// How many times it was tried.
    pub attempts: i16,
    /// When it was planned.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its next attempt is due, while it is queued.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// The end of its window.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it came to its final state.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The provider's name for it.
    pub provider_id: Option<String>,
    /// Why it is not delivered (yet).
    pub error: Option<String>,
    /// HTTP status of the last attempt, for its place in the list of attempts.
    #[serde(skip)]
    pub status_code: Option<i32>,
    /// Milliseconds that the last attempt took.
    #[serde(skip)]
    pub duration_ms: Option<i32>,
}

/// One try at delivering a message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Attempt {
    /// 1 for the first.
    #[schema(example = 1)]
    pub number: i16,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it came to.
    pub outcome: OutcomeKind,
    /// The provider's HTTP status, when there was an answer.
    #[schema(example = 503)]
    pub status_code: Option<i32>,
    /// From request to answer.
    #[schema(example = 12)]
    pub duration_ms: i32,
    /// What went wrong.
    pub error: Option<String>,
}

/// A message with everything that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MessageWithAttempts {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Its attempts, the first one first.
    pub attempt_log: Vec<Attempt>,
}

impl MessageWithAttempts {
    /// Joins the attempts that did not deliver with the one that did, which stands in the message itself.
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

/// Which messages a list shows.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Those of one mailing.
    pub mailing: Option<MailingId>,
    /// Those in one state.
    pub status: Option<MessageStatus>,
}
