//! Text messages through the third-party API:
//! `POST {base}/v1/send/{id}` with `{"id", "phone", "text"}`, answered by 2xx and `{"code": 0}`.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Answer, Channel, Delivery, Sending, Verdict};
use crate::clock::Clock;
use crate::failpoint;
use crate::kinds::ChannelKind;

/// A longer answer is no answer of this API.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The adapter.
pub struct Sms {
    client: reqwest::Client,
    base_url: String,
    token: Option<SecretString>,
    clock: Clock,
}

#[derive(Serialize)]
struct Body<'a> {
    id: String,
    /// The API documents a number.
    phone: u64,
    text: &'a str,
}

#[derive(Deserialize)]
struct Reply {
    code: i64,
    #[serde(default)]
    id: Option<String>,
}

impl Sms {
    /// `base_url` without a slash at its end.
    pub fn new(
        client: reqwest::Client,
        base_url: impl Into<String>,
        token: Option<SecretString>,
        clock: Clock,
    ) -> Self {
        Self { client, base_url: base_url.into(), token, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Ok(phone) = delivery.recipient.parse() else {
            return permanent(None, "the recipient is no phone number".into());
        };
        let id = delivery.id.to_string();
        let mut request = self
            .client
            .post(format!("{}/v1/send/{id}", self.base_url))
            .header("idempotency-key", &id)
            .json(&Body { id, phone, text: &delivery.text });
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        failpoint::reach("request-begins");
        match request.send().await {
            Ok(response) => self.read(response).await,
            Err(e) if e.is_connect() => Answer::none("the provider could not be reached"),
            Err(e) => Answer::none(format!("the connection broke before an answer came ({})", reason(&e))),
        }
    }

    async fn read(&self, response: Response) -> Answer {
        let status = response.status();
        let code = Some(status.as_u16());
        failpoint::reach("answer-read");
        if is_transient(status) {
            let verdict = match self.retry_after(response.headers()) {
                Some(retry_after) if status == StatusCode::TOO_MANY_REQUESTS => {
                    Verdict::Throttled { retry_after }
                }
                retry_after => {
                    Verdict::Transient { error: format!("the provider answered {status}"), retry_after }
                }
            };
            return Answer { verdict, status_code: code, provider_id: None };
        }
        if !status.is_success() {
            return permanent(code, format!("the provider answered {status}"));
        }
        match body(response).await.map(|body| serde_json::from_slice::<Reply>(&body)) {
            Ok(Ok(Reply { code: 0, id })) => Answer {
                verdict: Verdict::Delivered,
                status_code: code,
                provider_id: id.filter(|id| id.len() <= 200),
            },
            Ok(Ok(reply)) => {
                permanent(code, format!("the provider answered {status} with code {}", reply.code))
            }
            Ok(Err(_)) => unreadable(code, "its body is not the JSON of this API"),
            Err(why) => unreadable(code, why),
        }
    }

    /// RFC 9110, 10.2.3: seconds or a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
        (date.to_utc() - self.clock.now().datetime()).to_std().ok()
    }
}

/// 408 request timeout, 425 too early, 429 too many, 5xx.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

fn permanent(status_code: Option<u16>, error: String) -> Answer {
    Answer { verdict: Verdict::Permanent { error }, status_code, provider_id: None }
}

/// It may have taken the message and may not: tried again, under the same key.
fn unreadable(status_code: Option<u16>, why: &str) -> Answer {
    Answer { status_code, ..Answer::none(format!("the provider's answer cannot be read: {why}")) }
}

async fn body(mut response: Response) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| "the connection broke in its middle")? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err("it is longer than 64 KiB");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// reqwest's own words would repeat the URL.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_body() || error.is_request() {
        "cut off"
    } else {
        "not HTTP"
    }
}

impl Channel for Sms {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sms
    }

    fn send(&self, delivery: Delivery, timeout: Duration) -> Sending<'_> {
        Box::pin(async move {
            tokio::time::timeout(timeout, self.attempt(delivery))
                .await
                .unwrap_or_else(|_| Answer::none(format!("no answer within {:.1} s", timeout.as_secs_f64())))
        })
    }
}
