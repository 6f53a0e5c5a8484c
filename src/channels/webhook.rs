//! Webhooks, signed according to Standard Webhooks 1.0.0 (<https://www.standardwebhooks.com>): `POST {recipient}` with
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`, which has one signature for each secret of the endpoint.
//!
//! The body has the specification's shape:
//! `{"type": "message", "timestamp": "2026-03-01T12:00:00Z", "data": {"id", "subject"?, "text", "html"?, "data"?}}`.
//! `id` and `timestamp` (the time at which the message was accepted or planned) are the same at every attempt.
//! `webhook-id` and `Idempotency-Key` are the message's id.
//!
//! A 2xx means delivered, and 410 disables the endpoint. 408, 425, 429, 5xx and missing responses are retried, after
//! `Retry-After` if present; other endpoints are not affected. Every other status fails the message, redirects
//! included.

mod directory;
mod secret;

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

pub use directory::{EndpointDirectory, EndpointFuture, EndpointResult, EndpointSettings, SameForAll};
pub use secret::Secret;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::hook;
use super::http::{IDEMPOTENCY_KEY, retry_after};
use super::report::{AttemptReport, DeliveryResult};
use crate::clock::Clock;
use crate::db::types::{MessageId, Timestamp};
use crate::egress::guard::{Guard, PlainHttp};
use crate::kinds::{ChannelKind, Disabled};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The webhook adapter.
pub struct Webhook {
    guard: Arc<Guard>,
    directory: Arc<dyn EndpointDirectory>,
    clock: Clock,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
    /// Already JSON; sent unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// Reports the result of an attempt to the directory when dropped, also of an abandoned attempt.
pub(super) struct ResultReporter<'a> {
    directory: &'a dyn EndpointDirectory,
    url: &'a str,
    came: Option<EndpointResult>,
}

impl<'a> ResultReporter<'a> {
    /// Starts with a failed attempt at this URL.
    pub(super) fn new(directory: &'a dyn EndpointDirectory, url: &'a str) -> Self {
        Self { directory, url, came: Some(EndpointResult::Failed) }
    }

    /// Records the result, and reports it.
    pub(super) fn end(mut self, answer: &AttemptReport) {
        self.came = match (&answer.verdict, answer.status_code) {
            (DeliveryResult::Delivered, _) => Some(EndpointResult::Taken),
            (DeliveryResult::Gone { .. }, _) => Some(EndpointResult::Gone),
            // the endpoint was not contacted
            (DeliveryResult::Permanent { .. } | DeliveryResult::LocalFault, None) => None,
            _ => Some(EndpointResult::Failed),
        };
    }

    /// Reports nothing: the endpoint was not contacted.
    pub(super) fn forget(mut self) {
        self.came = None;
    }
}

impl Drop for ResultReporter<'_> {
    fn drop(&mut self) {
        if let Some(came) = self.came {
            self.directory.note(self.url, came);
        }
    }
}

impl Webhook {
    /// Creates the adapter. The guard's timeout of a request should be shorter than the engine's timeout of an attempt,
    /// so that a hanging server is known to be one server. `http` is allowed only into networks that the guard allows.
    pub fn new(guard: Arc<Guard>, directory: Arc<dyn EndpointDirectory>, clock: Clock) -> Self {
        Self { guard, directory, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let url = delivery.recipient.as_str();
        let target = match self.guard.check_url(url, PlainHttp::WithinAllowed) {
            Ok(target) => target,
            Err(why) => return AttemptReport::permanent(None, why.to_string()),
        };
        let Ok(endpoint) = self.directory.find(url).await else {
            return hook::deferred(None, "the endpoint's settings could not be read", None);
        };
        if let Some(why) = endpoint.disabled {
            return AttemptReport::permanent(None, reason(why));
        }
        if endpoint.secrets.is_empty() {
            return AttemptReport::permanent(
                None,
                "no secret to sign with: set WEBHOOK_SECRET, or register the endpoint",
            );
        }
        let Some((headers, body)) = self.request(&delivery, &endpoint.secrets) else {
            return AttemptReport::permanent(None, "the data is not JSON");
        };
        let noting = ResultReporter::new(self.directory.as_ref(), url);
        let answer = match hook::post(&self.guard, target, headers, body).await {
            Ok(answered) if answered.status.is_success() => {
                AttemptReport::delivered(Some(answered.status.as_u16()), None)
            }
            Ok(answered) => hook::refused(answered.status, retry_after(&answered.headers, self.clock.now())),
            Err(nothing) => nothing,
        };
        noting.end(&answer);
        answer
    }

    /// Builds a request that is signed now; `None` if the data is not JSON.
    fn request(&self, delivery: &Delivery, secrets: &[Secret]) -> Option<(HeaderMap, String)> {
        let id = delivery.id.to_string();
        let data = delivery.data.as_deref().map(serde_json::from_str::<&RawValue>).transpose().ok()?;
        let data = Data {
            id: &id,
            subject: delivery.subject.as_deref(),
            text: &delivery.text,
            html: delivery.html.as_deref(),
            data,
        };
        let timestamp = delivery.id.created_at();
        let body = serde_json::to_string(&Body { r#type: "message", timestamp, data }).ok()?;
        let mut headers = signature_headers(delivery.id, secrets, &body, &self.clock)?;
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&id).ok()?);
        Some((headers, body))
    }
}

/// Returns the headers of Standard Webhooks for a message with this body, signed now with each of the secrets; unsigned
/// if there are none.
pub(super) fn signature_headers(
    id: MessageId,
    secrets: &[Secret],
    body: &str,
    clock: &Clock,
) -> Option<HeaderMap> {
    let (id, now) = (id.to_string(), clock.now().micros() / 1_000_000);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ID, HeaderValue::from_str(&id).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(now));
    if !secrets.is_empty() {
        let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(&id, now, body)).collect();
        headers.insert(SIGNATURE, HeaderValue::from_str(&signatures.join(" ")).ok()?);
    }
    Some(headers)
}

pub(super) const fn reason(disabled: Disabled) -> &'static str {
    match disabled {
        Disabled::ByHand => "the endpoint is disabled; enable it to send again",
        Disabled::Failing => {
            "the endpoint is disabled because it failed for too long; enable it to send again"
        }
        Disabled::Gone => "the endpoint is disabled because it returned 410 Gone; enable it to send again",
    }
}

impl Channel for Webhook {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Webhook
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
