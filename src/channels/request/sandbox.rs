//! Requests in sandbox mode: the sandbox receives them in place of the servers that they name, so that no request
//! leaves the machine. Credentials are not looked up, since fetching one may itself send a request.

use std::sync::Arc;

use secrecy::SecretString;
use serde::Serialize;

use super::super::channel::{AttemptFuture, Channel};
use super::super::delivery::Delivery;
use super::super::provider::HttpProvider;
use super::super::report::{AttemptReport, DeliveryResult, StoredResponse};
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The adapter that sends requests to the sandbox.
pub struct SandboxRequests {
    provider: HttpProvider,
}

/// A request in the form of a message of the sandbox's API.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    channel: ChannelKind,
    recipient: &'a str,
    text: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    method: &'a str,
    is_report: bool,
}

impl SandboxRequests {
    /// Creates the adapter for the sandbox at `base_url`; `setting` is the setting that the URL comes from.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(
        (setting, base_url): (&str, &str),
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self { provider: HttpProvider::new(setting, base_url, token, clock)? })
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let Some(spec) = delivery.request.clone() else {
            return AttemptReport::permanent(None, "the message has no request");
        };
        let id = delivery.id.to_string();
        let body = Body {
            id: &id,
            channel: ChannelKind::Request,
            recipient: &spec.url,
            text: spec.body.as_deref().unwrap_or_default(),
            data: Data { method: &spec.verb, is_report: spec.is_report },
        };
        let answer = self.provider.post("/v1/notify/", &id, &body).await;
        // a report of the result shows a response with this status and nothing in it
        let status = answer.status_code.filter(|_| matches!(answer.verdict, DeliveryResult::Delivered));
        let empty = |status| StoredResponse { status, headers: Vec::new(), body: Vec::new(), is_cut: false };
        AttemptReport { response: status.map(empty).map(Arc::new), ..answer }
    }
}

impl Channel for SandboxRequests {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Request
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }
}
