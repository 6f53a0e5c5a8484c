//! An endpoint and its rules.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::webhook::{self, Secret};
use crate::db::types::{EndpointId, Timestamp};
use crate::kinds::Disabled;

/// What endpoints are granted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An endpoint is disabled when every attempt failed for so long …
    pub failing_for: Duration,
    /// … and there were so many.
    pub failures: u32,
    /// For so long after a new secret the one before it signs as well.
    pub overlap: Duration,
    /// Secrets for endpoints without one of their own, the newest first.
    pub defaults: Vec<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self { failing_for: HOUR * 24 * 5, failures: 10, overlap: HOUR * 24, defaults: Vec::new() }
    }
}

/// A server that webhooks go to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WebhookEndpoint {
    /// Its name here.
    pub id: EndpointId,
    /// Where it is, as recipients name it.
    pub url: String,
    /// Words for people.
    pub description: Option<String>,
    /// False for one that is here because it fails, and that nobody registered.
    pub is_registered: bool,
    /// Whether it is sent to.
    pub is_enabled: bool,
    /// Why it is not: `by_hand`, `failing` (every attempt failed for long) or `gone` (it answered 410).
    pub disabled_reason: Option<Disabled>,
    /// Since when it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// Since when every attempt failed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// How many attempts have failed since then.
    pub failures: i32,
    /// Whether it has a secret of its own, and does not share the default one.
    pub has_own_secret: bool,
    /// Until when the secret before this one signs as well.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub old_secret_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed by a request.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    #[serde(skip)]
    pub(super) secret: Option<Secret>,
    #[serde(skip)]
    pub(super) old_secret: Option<Secret>,
}

impl WebhookEndpoint {
    /// One that was never sent to, with the default secrets.
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

    /// It is not sent to from now on.
    pub fn disable(&mut self, why: Disabled, now: Timestamp) {
        self.is_enabled = false;
        self.disabled_reason = Some(why);
        self.disabled_at = Some(now);
    }

    /// It is sent to from now on, as if it had never failed.
    pub fn enable(&mut self) {
        self.is_enabled = true;
        self.disabled_reason = None;
        self.disabled_at = None;
        self.recover();
    }

    /// It took a message.
    pub fn recover(&mut self) {
        self.failing_since = None;
        self.failures = 0;
    }

    /// It did not take so many, the first of them then. Answers whether that was for too long.
    pub fn fail(&mut self, failures: u32, since: Timestamp, (now, settings): (Timestamp, &Settings)) -> bool {
        let since = *self.failing_since.get_or_insert(since);
        self.failures = self.failures.saturating_add_unsigned(failures);
        self.is_enabled
            && now.since(since) >= settings.failing_for
            && u32::try_from(self.failures).is_ok_and(|count| count >= settings.failures)
    }

    /// A new secret; the one before signs as well for the time of the overlap. Before there was one, the default ones
    /// go on for that long.
    pub fn rotate(&mut self, secret: Secret, now: Timestamp, settings: &Settings) {
        let before = self.secret.replace(secret).or_else(|| settings.defaults.first().cloned());
        self.old_secret_until = before.is_some().then(|| now.plus(settings.overlap));
        self.old_secret = before;
        self.has_own_secret = true;
    }

    /// What the webhook channel has to know.
    pub fn known(&self, now: Timestamp, settings: &Settings) -> webhook::Endpoint {
        let secrets = match &self.secret {
            None => settings.defaults.clone(),
            Some(secret) => {
                let overlaps = self.old_secret_until.is_some_and(|until| now < until);
                let old = self.old_secret.iter().filter(|_| overlaps);
                std::iter::once(secret).chain(old).cloned().collect()
            }
        };
        webhook::Endpoint { secrets, disabled: self.disabled_reason }
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
        let settings = Settings { failures: 3, ..Settings::default() };
        let mut endpoint = WebhookEndpoint::new("https://a.example/".into(), at(0));
        assert!(!endpoint.fail(2, at(0), (at(200), &settings)), "not often enough");
        assert!(endpoint.fail(1, at(200), (at(200), &settings)));
        endpoint.recover();
        assert!(!endpoint.fail(9, at(200), (at(319), &settings)), "not for long enough");
        assert!(endpoint.fail(1, at(320), (at(320), &settings)));
        endpoint.disable(Disabled::Failing, at(320));
        assert!(!endpoint.fail(1, at(321), (at(321), &settings)), "it is already");
        assert_eq!((endpoint.disabled_reason, endpoint.is_enabled), (Some(Disabled::Failing), false));
        endpoint.enable();
        assert_eq!((endpoint.disabled_reason, endpoint.failing_since, endpoint.failures), (None, None, 0));
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let secret = || Secret::generate().unwrap();
        let (default, first, second) = (secret(), secret(), secret());
        let settings = Settings { defaults: vec![default.clone()], ..Settings::default() };
        let mut endpoint = WebhookEndpoint::new("https://a.example/".into(), at(0));
        assert_eq!(endpoint.known(at(0), &settings).secrets, std::slice::from_ref(&default));
        endpoint.rotate(first.clone(), at(0), &settings);
        assert_eq!(endpoint.known(at(23), &settings).secrets, [first.clone(), default]);
        assert_eq!(endpoint.known(at(24), &settings).secrets, std::slice::from_ref(&first));
        endpoint.rotate(second.clone(), at(30), &settings);
        assert_eq!(endpoint.known(at(31), &settings).secrets, [second, first]);
        let shown = serde_json::to_string(&endpoint).unwrap() + &format!("{endpoint:?}");
        assert!(!shown.contains("whsec_"), "{shown}");
    }
}
