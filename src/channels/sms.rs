//! SMS through the third-party API: `POST {base}/v1/send/{id}` with `{"id", "phone", "text"}`. The provider accepts
//! with 2xx and `{"code": 0}`.

use secrecy::SecretString;
use serde::Serialize;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::provider::HttpProvider;
use super::report::AttemptReport;
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The SMS adapter.
pub struct Sms(HttpProvider);

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    /// A number, as the API documents.
    phone: u64,
    text: &'a str,
}

impl Sms {
    /// Creates the adapter for the provider at `base_url`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(base_url: &str, token: Option<&SecretString>, clock: Clock) -> Result<Self> {
        Ok(Self(HttpProvider::new("sms.base_url (PROVIDER_BASE_URL)", base_url, token, clock)?))
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let Ok(phone) = delivery.recipient.parse() else {
            return AttemptReport::permanent(None, "the recipient is not a phone number");
        };
        let id = delivery.id.to_string();
        self.0.post("/v1/send/", &id, &Body { id: &id, phone, text: &delivery.text }).await
    }
}

impl Channel for Sms {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sms
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }
}
