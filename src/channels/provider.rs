//! What the adapters share: how a provider is asked, and what its answer means. It answers 2xx with `{"code": 0}` for
//! what it took.

use hyper::StatusCode;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::http::{IDEMPOTENCY_KEY, is_transient, retry_after, unanswered};
use super::{Answer, Verdict};
use crate::clock::Clock;
use crate::egress::{self, Endpoint, NoBody, Reply as HttpReply};
use crate::error::{Error, Result};
use crate::failpoint;

/// A longer answer is no answer of such an API.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The other side of an adapter.
pub(super) struct Provider {
    endpoint: Endpoint,
    clock: Clock,
}

#[derive(Deserialize)]
struct Reply {
    code: i64,
    #[serde(default)]
    id: Option<String>,
}

impl Provider {
    /// At `base_url`; `setting` names where that address comes from.
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

    /// Posts `body` to `path` followed by the message's id, which is the `Idempotency-Key` as well.
    pub(super) async fn post(&self, path: &str, id: &str, body: &impl Serialize) -> Answer {
        let mut headers = self.endpoint.headers().clone();
        let (Ok(key), Ok(body)) = (HeaderValue::from_str(id), serde_json::to_string(body)) else {
            return Answer::permanent(None, "the message cannot be written as a request");
        };
        headers.insert(IDEMPOTENCY_KEY, key);
        match self.endpoint.post(&format!("{path}{id}"), headers, body).await {
            Ok(reply) => self.read(reply).await,
            Err(why) => unanswered("the provider", why),
        }
    }

    async fn read(&self, reply: HttpReply<'_>) -> Answer {
        let status = reply.status();
        let code = Some(status.as_u16());
        failpoint::reach("answer-read");
        if is_transient(status) {
            let verdict = match retry_after(reply.headers(), self.clock.now()) {
                Some(retry_after) if status == StatusCode::TOO_MANY_REQUESTS => {
                    Verdict::Throttled { retry_after }
                }
                retry_after => {
                    Verdict::Transient { error: format!("the provider answered {status}"), retry_after }
                }
            };
            reply.skip_body(LONGEST_ANSWER);
            return Answer::of(verdict, code);
        }
        if !status.is_success() {
            reply.skip_body(LONGEST_ANSWER);
            return Answer::permanent(code, format!("the provider answered {status}"));
        }
        let (body, why) = match reply.body(LONGEST_ANSWER).await {
            Ok(body) => (body, "its body is not the JSON of this API"),
            Err(NoBody::Broken(beginning)) => (beginning, "the connection broke in its middle"),
            Err(NoBody::TooLong) => return unreadable(code, "it is longer than 64 KiB"),
        };
        match serde_json::from_slice::<Reply>(&body) {
            Ok(Reply { code: 0, id }) => Answer::delivered(code, id),
            Ok(reply) => {
                Answer::permanent(code, format!("the provider answered {status} with code {}", reply.code))
            }
            Err(_) => unreadable(code, why),
        }
    }
}

/// It may have taken the message and may not: tried again, under the same key.
fn unreadable(status_code: Option<u16>, why: &str) -> Answer {
    Answer { status_code, ..Answer::none(format!("the provider's answer cannot be read: {why}")) }
}
