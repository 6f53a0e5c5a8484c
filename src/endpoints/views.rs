//! Response bodies of webhook endpoints.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::WebhookEndpoint;
use crate::channels::webhook::Secret;
use crate::db::types::{EndpointId, Timestamp};
use crate::kinds::Disabled;
use crate::paging::{PageItem, json_length};

/// A server that receives webhooks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct WebhookEndpointView<'m> {
    /// The id.
    id: EndpointId,
    /// The URL, exactly as in the recipient.
    url: &'m str,
    /// A description for people.
    description: Option<&'m str>,
    /// False for an unregistered endpoint, which is listed because it fails.
    is_registered: bool,
    /// False if messages to it fail without an attempt.
    is_enabled: bool,
    /// The reason why it is disabled: `by_hand`, `failing` (every attempt failed for long) or `gone` (it returned 410).
    disabled_reason: Option<Disabled>,
    /// The time at which it was disabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// The time of the first failure since the last success.
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// The number of failed attempts since then.
    failures: i32,
    /// True if it has its own secret instead of the default one.
    has_own_secret: bool,
    /// The time until which the old secret signs as well.
    #[schema(value_type = Option<String>, format = DateTime)]
    old_secret_until: Option<Timestamp>,
    /// The time of creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of the last change by a request.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl<'m> From<&'m WebhookEndpoint> for WebhookEndpointView<'m> {
    fn from(endpoint: &'m WebhookEndpoint) -> Self {
        Self {
            id: endpoint.id,
            url: &endpoint.url,
            description: endpoint.description.as_deref(),
            is_registered: endpoint.is_registered,
            is_enabled: endpoint.is_enabled,
            disabled_reason: endpoint.disabled_reason,
            disabled_at: endpoint.disabled_at,
            failing_since: endpoint.failing_since,
            failures: endpoint.failures,
            has_own_secret: endpoint.has_own_secret,
            old_secret_until: endpoint.old_secret_until,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl PageItem for WebhookEndpoint {
    fn length(&self) -> usize {
        json_length(&WebhookEndpointView::from(self))
    }
}

/// An endpoint and its secret, which is shown only this time.
#[derive(Serialize, ToSchema)]
pub struct WebhookEndpointWithSecret<'m> {
    #[serde(flatten)]
    endpoint: WebhookEndpointView<'m>,
    /// The secret to verify signatures with.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: &'m str,
}

impl<'m> WebhookEndpointWithSecret<'m> {
    /// Creates the only response with this secret.
    pub fn new(endpoint: &'m WebhookEndpoint, secret: &'m Secret) -> Self {
        Self { endpoint: endpoint.into(), secret: secret.expose() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_its_secrets() {
        let mut endpoint = WebhookEndpoint::new("https://a.example/".into(), Timestamp::from_micros(0));
        endpoint.secret = Some(Secret::generate().unwrap());
        endpoint.old_secret = Some(Secret::generate().unwrap());
        let shown = serde_json::to_string(&WebhookEndpointView::from(&endpoint)).unwrap();
        assert!(!shown.contains("whsec_"), "{shown}");
    }
}
