//! The result of one attempt.

use std::sync::Arc;
use std::time::Duration;

/// The longest message id of a provider that is stored, in bytes.
const LONGEST_PROVIDER_ID: usize = 200;

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

/// A response, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The status.
    pub status: u16,
    /// Names and values; non-ASCII bytes of a value become U+FFFD.
    pub headers: Vec<(String, String)>,
    /// The body's first 64 KiB.
    pub body: Vec<u8>,
    /// True if the body was longer, or broke off.
    pub is_cut: bool,
}
