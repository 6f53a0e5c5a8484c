//! A channel of any kind through a gateway of the user's, which knows the protocol and the secrets behind it:
//! `POST {base}/v1/notify/{id}` with `{"id", "channel", "recipient", "subject"?, "text", "html"?, "data"?}`, answered by
//! 2xx and `{"code": 0}`.

use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;

use super::provider::Provider;
use super::{Answer, Channel, Delivery, Sending};
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The adapter.
pub struct Gateway {
    kind: ChannelKind,
    provider: Provider,
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    channel: ChannelKind,
    recipient: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    /// JSON already, which goes as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl Gateway {
    /// For messages of this `kind`, through the gateway at `base_url`; `setting` names where that address comes from.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(
        kind: ChannelKind,
        (setting, base_url): (&str, &str),
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self { kind, provider: Provider::new(setting, base_url, token, clock)? })
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Ok(data) = delivery.data.as_deref().map(serde_json::from_str::<&RawValue>).transpose() else {
            return Answer::permanent(None, "the data is no JSON");
        };
        let id = delivery.id.to_string();
        let body = Body {
            id: &id,
            channel: self.kind,
            recipient: &delivery.recipient,
            subject: delivery.subject.as_deref(),
            text: &delivery.text,
            html: delivery.html.as_deref(),
            data,
        };
        self.provider.post("/v1/notify/", &id, &body).await
    }
}

impl Channel for Gateway {
    fn kind(&self) -> ChannelKind {
        self.kind
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests;
