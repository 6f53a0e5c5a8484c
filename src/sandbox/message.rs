//! A request to send, and the bodies of the two paths: a text message as the third party documents it, and a notification for any channel.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::channel::Channel;

/// The path of a request, which determines the form of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `/v1/send/{id}`
    Send,
    /// `/v1/notify/{id}`
    Notify,
}

/// The parts of a request to send.
pub(super) struct SendRequest<'a> {
    pub(super) api: Api,
    pub(super) path_id: &'a str,
    pub(super) bearer: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    /// `None` if it could not be read or was too long.
    pub(super) body: Option<&'a [u8]>,
}

#[derive(Deserialize)]
pub(super) struct TextMessage<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    pub(super) phone: u64,
    #[serde(borrow, rename = "text")]
    _text: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Notification<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    pub(super) channel: Channel,
    #[serde(borrow)]
    pub(super) recipient: Cow<'a, str>,
    #[serde(borrow, default, rename = "subject")]
    _subject: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "text")]
    _text: Cow<'a, str>,
    #[serde(borrow, default, rename = "html")]
    _html: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// A body that could be parsed.
pub(super) enum Message<'a> {
    Text(TextMessage<'a>),
    Notification(Notification<'a>),
}

impl<'a> Message<'a> {
    pub(super) fn read(api: Api, body: &'a [u8]) -> serde_json::Result<Self> {
        match api {
            Api::Send => serde_json::from_slice(body).map(Self::Text),
            Api::Notify => serde_json::from_slice(body).map(Self::Notification),
        }
    }

    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Text(_) => Channel::Sms,
            Self::Notification(notification) => notification.channel,
        }
    }

    /// Returns the mistake in a body that could be parsed. The third party's API does not require the key.
    pub(super) fn complaint(&self, request: &SendRequest<'_>) -> Option<&'static str> {
        match self {
            Self::Text(message) => (message.id != request.path_id).then_some(OTHER_ID),
            Self::Notification(message) if message.id != request.path_id => Some(OTHER_ID),
            Self::Notification(_) if request.key != Some(request.path_id) => {
                Some("the Idempotency-Key is not the id")
            }
            Self::Notification(message) if message.recipient.is_empty() => Some("the recipient is empty"),
            Self::Notification(message) => {
                message.data.filter(|data| !data.get().starts_with('{')).map(|_| "data is not an object")
            }
        }
    }
}

const OTHER_ID: &str = "the id in the path is not the id in the body";
