//! Webhook endpoints and their rules.

use std::time::Duration;

use crate::channels::webhook::{self, Secret};
use crate::db::types::{EndpointId, Timestamp};
use crate::kinds::Disabled;

/// The settings of endpoints.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The time of continuous failure after which an endpoint is disabled …
    pub failing_for: Duration,
    /// … if there were at least this many failures.
    pub failures: u32,
    /// The time for which the old secret signs as well after a new one.
    pub overlap: Duration,
    /// The secrets of endpoints without their own secret, the newest first.
    pub defaults: Vec<Secret>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self { failing_for: HOUR * 24 * 5, failures: 10, overlap: HOUR * 24, defaults: Vec::new() }
    }
}

/// A server that receives webhooks.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookEndpoint {
    /// The id.
    pub id: EndpointId,
    /// The URL, exactly as in the recipient.
    pub url: String,
    /// A description for people.
    pub description: Option<String>,
    /// False for an unregistered endpoint, which is listed because it fails.
    pub is_registered: bool,
    /// False if messages to it fail without an attempt.
    pub is_enabled: bool,
    /// The reason why it is disabled: `by_hand`, `failing` (every attempt failed for long) or `gone` (it returned 410).
    pub disabled_reason: Option<Disabled>,
    /// The time at which it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// The time of the first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// The number of failed attempts since then.
    pub failures: i32,
    /// True if it has its own secret instead of the default one.
    pub has_own_secret: bool,
    /// The time until which the old secret signs as well.
    pub old_secret_until: Option<Timestamp>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change by a request.
    pub updated_at: Timestamp,
    pub(super) secret: Option<Secret>,
    pub(super) old_secret: Option<Secret>,
}

impl WebhookEndpoint {
    /// Creates an unregistered endpoint with the default secrets.
    pub fn new(url: String, now: Timestamp) -> Self {
        Self {
            id: EndpointId::new(),
            url,
            description: None,
            is_registered: false,
            is_enabled: true,
            disabled_reason: None,
            disabled_at: None,
            failing_since: None,
            failures: 0,
            has_own_secret: false,
            old_secret_until: None,
            created_at: now,
            updated_at: now,
            secret: None,
            old_secret: None,
        }
    }

    /// Disables the endpoint.
    pub fn disable(&mut self, why: Disabled, now: Timestamp) {
        self.is_enabled = false;
        self.disabled_reason = Some(why);
        self.disabled_at = Some(now);
    }

    /// Enables the endpoint, and resets its failures.
    pub fn enable(&mut self) {
        self.is_enabled = true;
        self.disabled_reason = None;
        self.disabled_at = None;
        self.recover();
    }

    /// Resets the failures, after a success.
    pub fn recover(&mut self) {
        self.failing_since = None;
        self.failures = 0;
    }

    /// Counts failures, the first of them at `since`. Returns true if the endpoint must be disabled.
    pub fn fail(
        &mut self,
        failures: u32,
        since: Timestamp,
        (now, settings): (Timestamp, &EndpointOptions),
    ) -> bool {
        let since = *self.failing_since.get_or_insert(since);
        self.failures = self.failures.saturating_add_unsigned(failures);
        self.is_enabled
            && now.since(since) >= settings.failing_for
            && u32::try_from(self.failures).is_ok_and(|count| count >= settings.failures)
    }

    /// Sets a new secret. The old secret, or the newest default one, signs as well during the overlap.
    pub fn rotate(&mut self, secret: Secret, now: Timestamp, settings: &EndpointOptions) {
        let before = self.secret.replace(secret).or_else(|| settings.defaults.first().cloned());
        self.old_secret_until = before.is_some().then(|| now.plus(settings.overlap));
        self.old_secret = before;
        self.has_own_secret = true;
    }

    /// Returns the settings for the webhook channel.
    pub fn known(&self, now: Timestamp, settings: &EndpointOptions) -> webhook::EndpointSettings {
        let secrets = match &self.secret {
            None => settings.defaults.clone(),
            Some(secret) => {
                let overlaps = self.old_secret_until.is_some_and(|until| now < until);
                let old = self.old_secret.iter().filter(|_| overlaps);
                std::iter::once(secret).chain(old).cloned().collect()
            }
        };
        webhook::EndpointSettings { secrets, disabled: self.disabled_reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::from_micros(0).plus(HOUR * hours)
    }

    #[test]
    fn it_is_disabled_when_it_failed_for_long_and_often_enough() {
        let settings = EndpointOptions { failures: 3, ..EndpointOptions::default() };
        let mut endpoint = WebhookEndpoint::new("https://a.example/".into(), at(0));
        assert!(!endpoint.fail(2, at(0), (at(200), &settings)), "not often enough");
        assert!(endpoint.fail(1, at(200), (at(200), &settings)));
        endpoint.recover();
        assert!(!endpoint.fail(9, at(200), (at(319), &settings)), "not for long enough");
        assert!(endpoint.fail(1, at(320), (at(320), &settings)));
        endpoint.disable(Disabled::Failing, at(320));
        assert!(!endpoint.fail(1, at(321), (at(321), &settings)), "already disabled");
        assert_eq!((endpoint.disabled_reason, endpoint.is_enabled), (Some(Disabled::Failing), false));
        endpoint.enable();
        assert_eq!((endpoint.disabled_reason, endpoint.failing_since, endpoint.failures), (None, None, 0));
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let secret = || Secret::generate().unwrap();
        let (default, first, second) = (secret(), secret(), secret());
        let settings = EndpointOptions { defaults: vec![default.clone()], ..EndpointOptions::default() };
        let mut endpoint = WebhookEndpoint::new("https://a.example/".into(), at(0));
        assert_eq!(endpoint.known(at(0), &settings).secrets, std::slice::from_ref(&default));
        endpoint.rotate(first.clone(), at(0), &settings);
        assert_eq!(endpoint.known(at(23), &settings).secrets, [first.clone(), default]);
        assert_eq!(endpoint.known(at(24), &settings).secrets, std::slice::from_ref(&first));
        endpoint.rotate(second.clone(), at(30), &settings);
        assert_eq!(endpoint.known(at(31), &settings).secrets, [second, first]);
        let shown = format!("{endpoint:?}");
        assert!(!shown.contains("whsec_"), "{shown}");
    }
}
