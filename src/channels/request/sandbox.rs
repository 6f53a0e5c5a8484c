//! Requests while the service is tried out: the sandbox receives them in place of the servers that they name, so that no
//! request leaves the machine. Credentials are not looked up, since getting one may be a request of its own.

use std::sync::Arc;

use secrecy::SecretString;
use serde::Serialize;

use super::super::provider::Provider;
use super::super::{Answer, Channel, Delivery, Sending, Verdict};
use super::Response;
use crate::clock::Clock;
use crate::error::Result;
use crate::kinds::ChannelKind;

/// The adapter.
pub struct SandboxRequests {
    provider: Provider,
}

/// A request as the sandbox's API takes a message.
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
    /// To the sandbox at `base_url`; `setting` names where that address comes from.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an address or a token that cannot be used.
    pub fn new(
        (setting, base_url): (&str, &str),
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self { provider: Provider::new(setting, base_url, token, clock)? })
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Some(spec) = delivery.request.clone() else {
            return Answer::permanent(None, "there is no request to make");
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
        // what a report of the result says of the answer: there was one, and nothing in it
        let status = answer.status_code.filter(|_| matches!(answer.verdict, Verdict::Delivered));
        let empty = |status| Response { status, headers: Vec::new(), body: Vec::new(), is_cut: false };
        Answer { response: status.map(empty).map(Arc::new), ..answer }
    }
}

impl Channel for SandboxRequests {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Request
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }
}
