//! Text messages through the third-party API:
//! `POST {base}/v1/send/{id}` with `{"id", "phone", "text"}`, answered by 2xx and `{"code": 0}`.

use secrecy::SecretString;
use serde::Serialize;

use super::provider::Provider;
use super::{Answer, Channel, Delivery, Sending};
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The adapter.
pub struct Sms(Provider);

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    /// The API documents a number.
    phone: u64,
    text: &'a str,
}

impl Sms {
    /// For the provider at `base_url`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(base_url: &str, token: Option<&SecretString>, clock: Clock) -> Result<Self> {
        Ok(Self(Provider::new("sms.base_url (PROVIDER_BASE_URL)", base_url, token, clock)?))
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Ok(phone) = delivery.recipient.parse() else {
            return Answer::permanent(None, "the recipient is no phone number");
        };
        let id = delivery.id.to_string();
        self.0.post("/v1/send/", &id, &Body { id: &id, phone, text: &delivery.text }).await
    }
}

impl Channel for Sms {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sms
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }
}
