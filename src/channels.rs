//! Channels: how a message reaches its recipient. Each is an adapter to a provider and knows no database.

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
use self::request::{Response, Spec};
use crate::db::types::MessageId;
use crate::kinds::ChannelKind;

/// What a provider calls a message, in bytes at most.
const LONGEST_PROVIDER_ID: usize = 200;

/// What a provider is asked to deliver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message's id, the same at every attempt; also the `Idempotency-Key`.
    pub id: MessageId,
    /// The address on the channel.
    pub recipient: String,
    /// What stands above the text, on the channels that show such a thing.
    pub subject: Option<String>,
    /// The text, filled.
    pub text: String,
    /// The same as HTML, on the channels that show it.
    pub html: Option<String>,
    /// A JSON object for the recipient's program, where the channel carries one.
    pub data: Option<Arc<str>>,
    /// What is sent in place of a text, on the channel that carries such a thing.
    pub request: Option<Arc<Spec>>,
    /// Whether it is one of many alike: a mailing's.
    pub is_bulk: bool,
    /// Where its recipient gets no more of its kind with one click (RFC 8058), if it may.
    pub unsubscribe: Option<String>,
}

impl Delivery {
    /// One by itself that has a text and nothing else.
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

/// What one attempt came to, as the provider tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It took the message.
    Delivered,
    /// It did not, and may later.
    Transient {
        /// Why, without anything of the recipient's.
        error: String,
        /// The shortest wait that it asked for.
        retry_after: Option<Duration>,
    },
    /// The recipient's own server did not, and may later: that says nothing of other recipients.
    Deferred {
        /// Why, without anything of the recipient's.
        error: String,
        /// The shortest wait that it asked for.
        retry_after: Option<Duration>,
    },
    /// It takes nothing for now, from anybody: no fault of this message.
    Throttled {
        /// For how long it asked to be left alone.
        retry_after: Duration,
    },
    /// It was not asked: this machine lacks something for a connection. No fault of the message or the provider.
    LocalFault,
    /// It did not, and never will.
    Permanent {
        /// Why, without anything of the recipient's.
        error: String,
    },
    /// It did not, and will deliver nothing to this address any more: the address is dead.
    Gone {
        /// Why, without anything of the recipient's.
        error: String,
    },
}

impl Verdict {
    /// Shortens the wait that the other side asked for to `longest`.
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

/// The verdict with what is kept of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it came to.
    pub verdict: Verdict,
    /// The HTTP status, when there was one.
    pub status_code: Option<u16>,
    /// The provider's name for the message.
    pub provider_id: Option<String>,
    /// All that was answered, on a channel whose users want to know it.
    pub response: Option<Arc<Response>>,
}

impl Answer {
    /// This verdict, without a name of the provider's for the message.
    pub fn of(verdict: Verdict, status_code: Option<u16>) -> Self {
        Self { verdict, status_code, provider_id: None, response: None }
    }

    /// No answer came: a connection that broke, a timeout.
    pub fn none(error: impl Into<String>) -> Self {
        Self::of(Verdict::Transient { error: error.into(), retry_after: None }, None)
    }

    /// This machine could make no connection.
    pub fn local_fault() -> Self {
        Self::of(Verdict::LocalFault, None)
    }

    /// Nothing that another attempt could mend.
    pub fn permanent(status_code: Option<u16>, error: impl Into<String>) -> Self {
        Self::of(Verdict::Permanent { error: error.into() }, status_code)
    }

    /// It was taken; a `provider_id` that is too long to be one is not kept.
    pub fn delivered(status_code: Option<u16>, provider_id: Option<String>) -> Self {
        let provider_id = provider_id.filter(|id| id.len() <= LONGEST_PROVIDER_ID);
        Self { verdict: Verdict::Delivered, status_code, provider_id, response: None }
    }
}

/// The future of an answer; boxed, so that channels of several kinds stand in one list.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// An adapter to a provider. `send` makes one attempt and never tries again by itself: the engine keeps the schedule,
/// and the time. An attempt whose future is dropped was given up.
pub trait Channel: Send + Sync {
    /// Which channel this is.
    fn kind(&self) -> ChannelKind;
    /// One attempt.
    fn send(&self, delivery: Delivery) -> Sending<'_>;
    /// Whether each recipient has a server of its own. Then an attempt that takes too long says nothing of the others.
    fn has_many_servers(&self) -> bool {
        false
    }
    /// Returns whether its peer is known to drop a second copy of a message, by the message's id. Where it does not, a crash shows
    /// people what it repeats: fewer attempts go ahead of their record, see [`MOST_UNRECORDED`].
    fn drops_repeats(&self) -> bool {
        true
    }
}

/// Attempts that may wait for their record beside the workers of a channel whose peer drops no repeats. A commit takes
/// a few milliseconds, and takes all that wait: this many for each are about what such a peer takes in that time.
pub const MOST_UNRECORDED: usize = 64;
