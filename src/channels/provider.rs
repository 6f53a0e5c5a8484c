//! The client of the provider's API that several adapters share. A response of 2xx with `{"code": 0}` means that the
//! provider accepted the message.

use hyper::StatusCode;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::http::{IDEMPOTENCY_KEY, is_transient, retry_after, unanswered};
use super::report::{AttemptReport, DeliveryResult};
use crate::clock::Clock;
use crate::egress::{self, BodyError, Endpoint, EndpointResponse as HttpReply};
use crate::error::{Error, Result};
use crate::failpoint;

/// The longest response body of this API.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The provider behind an adapter.
pub(super) struct HttpProvider {
    endpoint: Endpoint,
    clock: Clock,
}

#[derive(Deserialize)]
struct ProviderReply {
    code: i64,
    #[serde(default)]
    id: Option<String>,
}

impl HttpProvider {
    /// Creates a client for the API at `base_url`; `setting` is the setting that the URL comes from.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an address or a token that cannot be used.
    pub(super) fn new(
        setting: &str,
        base_url: &str,
        token: Option<&SecretString>,
        clock: Clock,
    ) -> Result<Self> {
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("*/*")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(egress::USER_AGENT)),
        ]);
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
            let mut bearer = bearer.map_err(|_| {
                Error::invalid("sms.token (PROVIDER_TOKEN)", "must be one line of printable characters")
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(Self { endpoint: Endpoint::new(setting, base_url, headers)?, clock })
    }

    /// Posts `body` to `path` followed by the message's id, which is also the `Idempotency-Key`.
    pub(super) async fn post(&self, path: &str, id: &str, body: &impl Serialize) -> AttemptReport {
        let mut headers = self.endpoint.headers().clone();
        let (Ok(key), Ok(body)) = (HeaderValue::from_str(id), serde_json::to_string(body)) else {
            return AttemptReport::permanent(None, "the message cannot be encoded as a request");
        };
        headers.insert(IDEMPOTENCY_KEY, key);
        match self.endpoint.post(&format!("{path}{id}"), headers, body).await {
            Ok(reply) => self.read(reply).await,
            Err(why) => unanswered("the provider", why),
        }
    }

    async fn read(&self, reply: HttpReply<'_>) -> AttemptReport {
        let status = reply.status();
        let code = Some(status.as_u16());
        failpoint::reach("answer-read");
        if is_transient(status) {
            let verdict = match retry_after(reply.headers(), self.clock.now()) {
                Some(retry_after) if status == StatusCode::TOO_MANY_REQUESTS => {
                    DeliveryResult::Throttled { retry_after }
                }
                retry_after => DeliveryResult::Transient {
                    error: format!("the provider returned {status}"),
                    retry_after,
                },
            };
            reply.skip_body(LONGEST_ANSWER);
            return AttemptReport::of(verdict, code);
        }
        if !status.is_success() {
            reply.skip_body(LONGEST_ANSWER);
            return AttemptReport::permanent(code, format!("the provider returned {status}"));
        }
        let (body, why) = match reply.body(LONGEST_ANSWER).await {
            Ok(body) => (body, "its body is not the JSON of this API"),
            Err(BodyError::Broken(beginning)) => (beginning, "the connection broke while it was received"),
            Err(BodyError::TooLong) => return unreadable(code, "it is longer than 64 KiB"),
        };
        match serde_json::from_slice::<ProviderReply>(&body) {
            Ok(ProviderReply { code: 0, id }) => AttemptReport::delivered(code, id),
            Ok(reply) => AttemptReport::permanent(
                code,
                format!("the provider returned {status} with code {}", reply.code),
            ),
            Err(_) => unreadable(code, why),
        }
    }
}

/// The provider may or may not have accepted the message: it is retried under the same key.
fn unreadable(status_code: Option<u16>, why: &str) -> AttemptReport {
    AttemptReport {
        status_code,
        ..AttemptReport::none(format!("the provider's response cannot be read: {why}"))
    }
}
