//! Push notifications through Firebase Cloud Messaging, HTTP v1: `POST {base}/v1/projects/{project}/messages:send` with
//! a message to one registration token
//! (<https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send>). FCM delivers to Android, Apple
//! devices and browsers.

mod message;
mod tokens;
mod verdict;

use std::path::PathBuf;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::SecretString;

use self::tokens::{TokenEndpoint, endpoint};
use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::http::{retry_after, unanswered};
use super::report::AttemptReport;
use crate::clock::Clock;
use crate::egress::{self, BodyError, Endpoint};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::oauth::{Account, FailureKind, TokenCache, TokenFailure};

/// The base URL of FCM.
pub const FCM_URL: &str = "https://fcm.googleapis.com";

/// The longest response body of FCM.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The key of a service account, as downloaded from the Firebase console.
#[derive(Debug, Clone)]
pub enum ServiceAccount {
    /// A file that contains the JSON.
    File(PathBuf),
    /// The JSON.
    Json(SecretString),
}

/// The connection to FCM.
#[derive(Debug, Clone)]
pub struct FcmSettings {
    /// The service account, which names the project and authorizes requests.
    pub service_account: ServiceAccount,
    /// The base URL: [`FCM_URL`], except in tests.
    pub base_url: String,
}

/// The FCM adapter.
pub struct Fcm {
    endpoint: Endpoint,
    path: String,
    tokens: TokenCache<TokenEndpoint>,
    clock: Clock,
}

impl Fcm {
    /// Creates the adapter for the project of the service account; `field` is the setting that the account comes from,
    /// `push.service_account`. It sends no request to Google yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the setting, for a file that cannot be read, an invalid key, or a URL that cannot be
    /// used. No part of the key is repeated.
    pub fn new(field: &str, settings: &FcmSettings, clock: Clock) -> Result<Self> {
        let json = match &settings.service_account {
            ServiceAccount::Json(json) => json.clone(),
            ServiceAccount::File(path) => std::fs::read_to_string(path)
                .map_err(|e| {
                    Error::invalid(field, format!("the file {} cannot be read: {e}", path.display()))
                })?
                .into(),
        };
        let account = Account::parse(&json).map_err(|why| Error::invalid(field, why))?;
        let headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(egress::USER_AGENT)),
        ]);
        Ok(Self {
            endpoint: Endpoint::new("push.base_url", &settings.base_url, headers)?,
            path: format!("/v1/projects/{}/messages:send", account.project),
            tokens: TokenCache::new(endpoint(field, account)?, clock.clone()),
            clock,
        })
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let body = match message::body(&delivery) {
            Ok(body) => body,
            Err(why) => return AttemptReport::permanent(None, why),
        };
        let token = match self.tokens.get().await {
            Ok(token) => token,
            Err(TokenFailure { kind: FailureKind::LocalFault, .. }) => return AttemptReport::local_fault(),
            Err(failure) => return AttemptReport::none(failure.why),
        };
        let mut headers = self.endpoint.headers().clone();
        headers.insert(AUTHORIZATION, token.bearer.clone());
        let reply = match self.endpoint.post(&self.path, headers, body).await {
            Ok(reply) => reply,
            Err(why) => return unanswered("FCM", why),
        };
        failpoint::reach("answer-read");
        let status = reply.status();
        let retry_after = retry_after(reply.headers(), self.clock.now());
        let body = reply.body(LONGEST_ANSWER).await.map_or_else(BodyError::into_beginning, Some);
        let body = body.unwrap_or_default();
        if verdict::is_token_refused(status, &body) {
            self.tokens.refuse(token.number);
        }
        verdict::read(status, retry_after, &body)
    }
}

impl Channel for Fcm {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Push
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests;
