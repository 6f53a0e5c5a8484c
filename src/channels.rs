//! Channels: adapters that deliver messages through a provider. They do not use the database.

pub mod discord;
pub mod email;
pub mod gateway;
mod hook;
mod http;
pub mod in_app;
pub mod keyring;
#[cfg(test)]
mod odd_answers;
mod provider;
pub mod push;
pub mod request;
pub mod sms;
pub mod sms_http;
pub mod webhook;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use self::http::IDEMPOTENCY_KEY;
use self::request::{RequestSpec, StoredResponse};
use crate::db::types::MessageId;
use crate::kinds::ChannelKind;

/// The longest message id of a provider that is stored, in bytes.
const LONGEST_PROVIDER_ID: usize = 200;

/// A message as it is handed to a channel.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message's id, the same at every attempt; also the `Idempotency-Key`.
    pub id: MessageId,
    /// The address on the channel.
    pub recipient: String,
    /// The title above the text, on channels that display one.
    pub subject: Option<String>,
    /// The rendered text.
    pub text: String,
    /// The text as HTML, on channels that display it.
    pub html: Option<String>,
    /// A JSON object for the recipient's program, on channels that carry one.
    pub data: Option<Arc<str>>,
    /// The HTTP request to send in place of a text, on the request channel.
    pub request: Option<Arc<RequestSpec>>,
    /// True for a message of a mailing.
    pub is_bulk: bool,
    /// The one-click unsubscribe URL (RFC 8058), if the recipient may unsubscribe.
    pub unsubscribe: Option<String>,
}

impl Delivery {
    /// Creates a stand-alone delivery that has a text and nothing else.
    pub fn to(recipient: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: MessageId::new(),
            recipient: recipient.into(),
            subject: None,
            text: text.into(),
            html: None,
            data: None,
            request: None,
            is_bulk: false,
            unsubscribe: None,
        }
    }
}

/// The outcome of one attempt, as reported by the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The provider accepted the message.
    Delivered,
    /// The provider did not accept the message, and may accept it later.
    Transient {
        /// The reason, without any of the recipient's data.
        error: String,
        /// The shortest wait that the provider asked for.
        retry_after: Option<Duration>,
    },
    /// The recipient's own server did not accept the message, and may later. Other recipients are not affected.
    Deferred {
        /// The reason, without any of the recipient's data.
        error: String,
        /// The shortest wait that the server asked for.
        retry_after: Option<Duration>,
    },
    /// The provider accepts no messages at present. The message is not at fault.
    Throttled {
        /// The wait that the provider asked for.
        retry_after: Duration,
    },
    /// The provider was not contacted: this machine lacks a resource for a connection. Neither the message nor the
    /// provider is at fault.
    LocalFault,
    /// The provider refused the message for good.
    Permanent {
        /// The reason, without any of the recipient's data.
        error: String,
    },
    /// The address is dead: the provider refused the message, and will deliver nothing to this address again.
    Gone {
        /// The reason, without any of the recipient's data.
        error: String,
    },
}

impl DeliveryResult {
    /// Limits the wait that the other side asked for to `longest`.
    #[must_use]
    pub fn bounded(mut self, longest: Duration) -> Self {
        match &mut self {
            Self::Transient { retry_after: Some(wait), .. }
            | Self::Deferred { retry_after: Some(wait), .. }
            | Self::Throttled { retry_after: wait } => *wait = longest.min(*wait),
            _ => {}
        }
        self
    }
}

/// The outcome of an attempt, with the parts of the response that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// The outcome.
    pub verdict: DeliveryResult,
    /// The HTTP status, if there was a response.
    pub status_code: Option<u16>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// The whole response, on channels whose users read it.
    pub response: Option<Arc<StoredResponse>>,
}

impl AttemptReport {
    /// Creates an answer with this verdict and no provider id.
    pub fn of(verdict: DeliveryResult, status_code: Option<u16>) -> Self {
        Self { verdict, status_code, provider_id: None, response: None }
    }

    /// Creates the answer for an attempt without a response: a broken connection or a timeout.
    pub fn none(error: impl Into<String>) -> Self {
        Self::of(DeliveryResult::Transient { error: error.into(), retry_after: None }, None)
    }

    /// Creates the answer for an attempt that could not open a connection on this machine.
    pub fn local_fault() -> Self {
        Self::of(DeliveryResult::LocalFault, None)
    }

    /// Creates the answer for a failure that another attempt cannot fix.
    pub fn permanent(status_code: Option<u16>, error: impl Into<String>) -> Self {
        Self::of(DeliveryResult::Permanent { error: error.into() }, status_code)
    }

    /// Creates the answer for an accepted message. A `provider_id` that is too long is dropped.
    pub fn delivered(status_code: Option<u16>, provider_id: Option<String>) -> Self {
        let provider_id = provider_id.filter(|id| id.len() <= LONGEST_PROVIDER_ID);
        Self { verdict: DeliveryResult::Delivered, status_code, provider_id, response: None }
    }
}

/// The future of an answer. It is boxed, so that channels of different types fit in one list.
pub type AttemptFuture<'a> = Pin<Box<dyn Future<Output = AttemptReport> + Send + 'a>>;

/// An adapter to a provider. `send` makes one attempt and never retries: the engine owns the schedule and the timeout.
/// Dropping the future abandons the attempt.
pub trait Channel: Send + Sync {
    /// The kind of messages that this channel delivers.
    fn kind(&self) -> ChannelKind;
    /// Makes one attempt.
    fn send(&self, delivery: Delivery) -> AttemptFuture<'_>;
    /// Returns true if each recipient has its own server. A timeout of one attempt then does not affect the others.
    fn has_many_servers(&self) -> bool {
        false
    }
    /// Returns true if the peer is known to drop a second copy of a message by its id. Otherwise people see the repeats
    /// that a crash causes, so fewer attempts may precede their record: see [`MAX_UNRECORDED`].
    fn drops_repeats(&self) -> bool {
        true
    }
}

/// Attempts per channel, besides those of its workers, that may wait for their record, where the peer drops no repeats.
/// A commit takes a few milliseconds and includes all that wait; such a peer accepts about this many messages in that
/// time.
pub const MAX_UNRECORDED: usize = 64;
