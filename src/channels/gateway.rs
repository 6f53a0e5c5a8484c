//! A channel of any kind through a gateway of the operator, which holds the provider's protocol and secrets: `POST
//! {base}/v1/notify/{id}` with `{"id", "channel", "recipient", "subject"?, "text", "html"?, "data"?}`. The gateway
//! accepts with 2xx and `{"code": 0}`.

use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::provider::HttpProvider;
use super::report::AttemptReport;
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The gateway adapter.
pub struct Gateway {
    kind: ChannelKind,
    provider: HttpProvider,
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
    /// Already JSON; sent unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl Gateway {
    /// Creates the adapter for messages of this `kind`, through the gateway at `base_url`; `setting` is the setting
    /// that the URL comes from.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(
        kind: ChannelKind,
        (setting, base_url): (&str, &str),
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self { kind, provider: HttpProvider::new(setting, base_url, token, clock)? })
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let Ok(data) = delivery.data.as_deref().map(serde_json::from_str::<&RawValue>).transpose() else {
            return AttemptReport::permanent(None, "the data is not JSON");
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

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests;
