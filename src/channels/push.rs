//! Notifications on devices through Firebase Cloud Messaging, HTTP v1:
//! `POST {base}/v1/projects/{project}/messages:send` with a message to one registration token
//! (<https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send>). It reaches Android, Apple's devices
//! and browsers.

mod message;
mod tokens;
mod verdict;

use std::path::PathBuf;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::SecretString;

use self::tokens::{TokenEndpoint, endpoint};
use super::http::{retry_after, unanswered};
use super::{Answer, Channel, Delivery, Sending};
use crate::clock::Clock;
use crate::egress::{self, Endpoint, NoBody};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::oauth::{Account, Failure, FailureKind, Tokens};

/// Where FCM is.
pub const FCM_URL: &str = "https://fcm.googleapis.com";

/// A longer answer is none of FCM's.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The key of a service account, as the Firebase console gives it.
#[derive(Debug, Clone)]
pub enum ServiceAccount {
    /// A file that holds its JSON.
    File(PathBuf),
    /// Its JSON.
    Json(SecretString),
}

/// How FCM is reached.
#[derive(Debug, Clone)]
pub struct FcmSettings {
    /// Whose project it is, and who may send in it.
    pub service_account: ServiceAccount,
    /// Where FCM is: [`FCM_URL`] but in tests.
    pub base_url: String,
}

/// The adapter.
pub struct Fcm {
    endpoint: Endpoint,
    path: String,
    tokens: Tokens<TokenEndpoint>,
    clock: Clock,
}

impl Fcm {
    /// For the project of the service account; `field` names the setting that says which it is, `push.service_account`.
    /// Nothing is asked of Google yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting for a file that cannot be read, a key that is none, or an address that
    /// cannot be used; nothing of the key is repeated.
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
            tokens: Tokens::new(endpoint(field, account)?, clock.clone()),
            clock,
        })
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let body = match message::body(&delivery) {
            Ok(body) => body,
            Err(why) => return Answer::permanent(None, why),
        };
        let token = match self.tokens.get().await {
            Ok(token) => token,
            Err(Failure { kind: FailureKind::LocalFault, .. }) => return Answer::local_fault(),
            Err(failure) => return Answer::none(failure.why),
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
        let body = reply.body(LONGEST_ANSWER).await.map_or_else(NoBody::into_beginning, Some);
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

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }
}

#[cfg(test)]
mod tests;
