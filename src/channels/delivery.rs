//! The message that a channel sends.

use std::sync::Arc;

use super::request_spec::RequestSpec;
use crate::db::types::MessageId;

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
