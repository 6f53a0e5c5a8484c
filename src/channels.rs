//! Channels: how a message reaches its recipient. Each is an adapter to a provider and knows no database.

pub mod gateway;
mod provider;
pub mod sms;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::db::types::MessageId;
use crate::kinds::ChannelKind;

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
    /// A JSON object for the recipient's program, where the channel carries one.
    pub data: Option<Arc<str>>,
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
    /// It takes nothing for now, from anybody: no fault of this message.
    Throttled {
        /// For how long it asked to be left alone.
        retry_after: Duration,
    },
    /// It did not, and never will.
    Permanent {
        /// Why, without anything of the recipient's.
        error: String,
    },
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
}

impl Answer {
    /// No answer came: a connection that broke, a timeout.
    pub fn none(error: impl Into<String>) -> Self {
        let verdict = Verdict::Transient { error: error.into(), retry_after: None };
        Self { verdict, status_code: None, provider_id: None }
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
}
