//! Webhooks, signed as Standard Webhooks 1.0.0 asks (<https://www.standardwebhooks.com>): `POST {recipient}` with
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`, one signature for each secret of the endpoint.
//!
//! The body has the specification's shape:
//! `{"type": "message", "timestamp": "2026-03-01T12:00:00Z", "data": {"id", "subject"?, "text", "html"?, "data"?}}`.
//! Id and `timestamp` (when the message was accepted or planned) are the same at every attempt. `webhook-id` is the
//! message's id, as is the `Idempotency-Key`.
//!
//! 2xx took it. 410 wants no more. 408, 425, 429, 5xx and silence may take it later, after `Retry-After` if there is
//! one; all of that concerns this endpoint alone. Anything else never will, redirects included.

mod directory;
mod secret;

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

pub use directory::{Came, Directory, Endpoint, Finding, SameForAll};
pub use secret::Secret;

use super::http::{IDEMPOTENCY_KEY, retry_after};
use super::{Answer, Channel, Delivery, Sending, Verdict, hook};
use crate::clock::Clock;
use crate::db::types::{MessageId, Timestamp};
use crate::egress::guard::{Guard, Plain};
use crate::kinds::{ChannelKind, Disabled};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The adapter.
pub struct Webhook {
    guard: Arc<Guard>,
    directory: Arc<dyn Directory>,
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
    /// JSON already, which goes as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// Tells the directory what came of an attempt, also of one that is given up.
pub(super) struct Noting<'a> {
    directory: &'a dyn Directory,
    url: &'a str,
    came: Option<Came>,
}

impl<'a> Noting<'a> {
    /// Of an attempt at this URL.
    pub(super) fn new(directory: &'a dyn Directory, url: &'a str) -> Self {
        Self { directory, url, came: Some(Came::Failed) }
    }

    /// It came to this.
    pub(super) fn end(mut self, answer: &Answer) {
        self.came = match (&answer.verdict, answer.status_code) {
            (Verdict::Delivered, _) => Some(Came::Taken),
            (Verdict::Gone { .. }, _) => Some(Came::Gone),
            // it was never asked
            (Verdict::Permanent { .. } | Verdict::LocalFault, None) => None,
            _ => Some(Came::Failed),
        };
    }

    /// There was none.
    pub(super) fn forget(mut self) {
        self.came = None;
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        if let Some(came) = self.came {
            self.directory.note(self.url, came);
        }
    }
}

impl Webhook {
    /// Through this guard, whose time for a request should be less than the engine's for an attempt: then a server that
    /// hangs is known to be one server. `http` leads only into networks that the guard allows.
    pub fn new(guard: Arc<Guard>, directory: Arc<dyn Directory>, clock: Clock) -> Self {
        Self { guard, directory, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let url = delivery.recipient.as_str();
        let target = match self.guard.check_url(url, Plain::WithinAllowed) {
            Ok(target) => target,
            Err(why) => return Answer::permanent(None, why.to_string()),
        };
        let Ok(endpoint) = self.directory.find(url).await else {
            return hook::deferred(None, "what is known of the endpoint could not be read", None);
        };
        if let Some(why) = endpoint.disabled {
            return Answer::permanent(None, reason(why));
        }
        if endpoint.secrets.is_empty() {
            return Answer::permanent(
                None,
                "there is no secret to sign with: set WEBHOOK_SECRET, or register the endpoint",
            );
        }
        let Some((headers, body)) = self.request(&delivery, &endpoint.secrets) else {
            return Answer::permanent(None, "the data is no JSON");
        };
        let noting = Noting::new(self.directory.as_ref(), url);
        let answer = match hook::post(&self.guard, target, headers, body).await {
            Ok(answered) if answered.status.is_success() => {
                Answer::delivered(Some(answered.status.as_u16()), None)
            }
            Ok(answered) => hook::refused(answered.status, retry_after(&answered.headers, self.clock.now())),
            Err(nothing) => nothing,
        };
        noting.end(&answer);
        answer
    }

    /// Signed now; none if the data is no JSON.
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

/// The headers of Standard Webhooks for a message with this body that goes out now: with a signature for each of the
/// secrets, and without one if there are none.
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
        Disabled::ByHand => "the endpoint is disabled; it can be enabled again",
        Disabled::Failing => "the endpoint is disabled because it failed for long; it can be enabled again",
        Disabled::Gone => "the endpoint is disabled because it answered 410 Gone; it can be enabled again",
    }
}

impl Channel for Webhook {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Webhook
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
