//! The body of a new request, and its validation.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::channels::{RequestSpec, RetryOn};
use crate::db::types::Timestamp;
use crate::egress::guard::is_the_guards;
use crate::error::{Complaints, Result};
use crate::http::json::time;
use crate::requests::model::{NewRequest, Notify, Recurrence, RequestDraft, millis};

/// The accepted methods.
const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// The default timeout of an attempt, in milliseconds.
const DEFAULT_TIMEOUT: u64 = 30_000;
const LONGEST_TIMEOUT: f64 = 300.0;
const MOST_HEADERS: usize = 50;
const LONGEST_NAME: usize = 100;
const LONGEST_VALUE: usize = 8 * 1024;
const LARGEST_BODY: usize = 256 * 1024;
const MOST_DELAYS: usize = 20;
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The most entries of `retry.on`: far more than there are distinct ones.
const MOST_WORDS: usize = 50;

/// An HTTP request to run at a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "execute_at": "2026-06-17T17:50:00-03:00",
    "request": {
        "url": "https://api.example.com/orders/7/remind", "verb": "POST", "timeout": 30,
        "header": {"x-source": "fanfare"}, "body": {"order": 7}
    },
    "notify": {"request": {"url": "https://example.com/results", "timeout": 30}}
}))]
pub struct RequestBody {
    /// The time to run at: RFC 3339 with an offset, at most a year ahead; now if absent or in the past. A recurring
    /// request has no occurrence before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    execute_at: Option<String>,
    /// The HTTP request to send.
    request: CallBody,
    /// The failures to retry, and the delays. If absent, every failure is retried after the service's delays (1, 2 and
    /// 4 seconds by default).
    retry: Option<RetryBody>,
    /// The URL that its result is reported to.
    notify: Option<NotifyBody>,
    /// A cron expression of five fields, such as `0 9 * * 1-5`, which makes the request recurring.
    #[schema(min_length = 1, max_length = 200, example = "0 9 * * 1-5")]
    cron: Option<String>,
    /// The IANA name of the time zone of `cron`; `UTC` if absent.
    #[schema(min_length = 1, max_length = 100, example = "Europe/Berlin")]
    timezone: Option<String>,
    /// The handling of occurrences that were missed while the service was down: one run for all of them (`once`, the
    /// default), or no run (`skip`).
    #[schema(pattern = "^(once|skip)$", example = "once")]
    catch_up: Option<String>,
}

/// The HTTP request to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestCallBody)]
pub struct CallBody {
    /// The URL: `https`, or `http` without a credential. A private network must be allowed by the operator.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`. If absent, `POST` with a body and `GET` without.
    #[schema(pattern = "^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$", example = "POST")]
    verb: Option<String>,
    /// The timeout of an attempt in seconds, from connecting to the last byte of the response; 30 if absent.
    #[schema(minimum = 0.001, maximum = 300, example = 30)]
    timeout: Option<f64>,
    /// Names and values of headers (RFC 9110, 5), at most 50. The headers of the connection are refused.
    header: Option<BTreeMap<String, String>>,
    /// The body, at most 256 KiB. A string is sent unchanged. Any other value is sent as JSON, with
    /// `content-type: application/json` unless `header` has a `content-type`.
    #[schema(value_type = Option<serde_json::Value>)]
    body: Option<Box<RawValue>>,
    /// The name of a stored credential.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    credential: Option<String>,
}

/// The URL that a result is reported to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestNotifyBody)]
pub struct NotifyBody {
    /// The HTTP request to send; its body is the report.
    request: NotifyCallBody,
    /// The same as in a request.
    retry: Option<RetryBody>,
}

/// An HTTP request whose body is the report of a result.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestNotifyCallBody)]
pub struct NotifyCallBody {
    /// The same as in a request.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// `POST` (the default), `PUT` or `PATCH`.
    #[schema(pattern = "^(POST|PUT|PATCH)$", example = "POST")]
    verb: Option<String>,
    /// The same as in a request.
    #[schema(minimum = 0.001, maximum = 300, example = 30)]
    timeout: Option<f64>,
    /// The same as in a request.
    header: Option<BTreeMap<String, String>>,
    /// The same as in a request.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    credential: Option<String>,
}

/// The failures to retry, and the delays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestRetryBody, example = json!({"on": ["5xx", "429", "timeout"], "delays": [1, 5, 30]}))]
pub struct RetryBody {
    /// The failures to retry: `3xx`, `4xx`, `5xx`, a status from 300 to 599, `timeout`, `connection`. If absent, all of
    /// them for a report, and all but 3xx for a request: redirects are not followed, and a redirect is a success unless
    /// it is listed. `[]` disables retries.
    #[schema(max_items = 50)]
    on: Option<Vec<String>>,
    /// The delay before each further attempt, at most 20 delays of 1 ms to 24 hours: seconds, or a string such as
    /// `"90s"`. The service's delays if absent.
    #[schema(max_items = 20)]
    delays: Option<Vec<Delay>>,
    /// RFC 3339: no attempt begins at this time or later, and an attempt in flight is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
}

/// A delay: seconds, or a duration as a string.
// `Serialize` makes `untagged` known to the OpenAPI document. The enum is deserialized by hand, since serde's own code
// for an untagged enum does not support numbers that keep their digits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RequestDelay)]
pub enum Delay {
    /// Seconds, 0.001 to 86400.
    Seconds(f64),
    /// A duration such as `"90s"` or `"5min"`.
    Text(String),
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let wrong =
            || serde::de::Error::custom("has the wrong type, expected seconds or a duration such as \"90s\"");
        match Value::deserialize(reader)? {
            Value::Number(seconds) => seconds.as_f64().map(Self::Seconds).ok_or_else(wrong),
            Value::String(text) => Ok(Self::Text(text)),
            _ => Err(wrong()),
        }
    }
}

/// The common fields of both HTTP requests, without their retries.
struct Call {
    url: String,
    verb: Option<String>,
    timeout: Option<f64>,
    header: Option<BTreeMap<String, String>>,
    credential: Option<String>,
}

/// Validated retries.
#[derive(Default)]
struct ParsedRetry {
    again: Option<Vec<RetryOn>>,
    delays: Option<Vec<u64>>,
    until: Option<Timestamp>,
}

impl RequestBody {
    /// Validates the body.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) with every wrong field.
    pub fn into_wanted(self) -> Result<NewRequest> {
        let mut wrong = Complaints::default();
        let execute_at = self.execute_at.and_then(|text| wrong.check("execute_at", time(&text)));
        let retry = self.retry.map(|retry| retry.read(&mut wrong, "retry")).unwrap_or_default();
        let CallBody { url, verb, timeout, header, body, credential } = self.request;
        let body = body.and_then(|body| wrong.check("request.body", text_of(&body)));
        let verbs = (VERBS.as_slice(), if body.is_some() { "POST" } else { "GET" });
        let call = Call { url, verb, timeout, header, credential };
        let mut spec = call.read(&mut wrong, "request", verbs);
        spec.again = retry.again;
        (spec.body, spec.is_json) = body.map_or((None, false), |(text, is_json)| (Some(text), is_json));
        let notify = self.notify.map(|notify| notify.read(&mut wrong));
        let recurrence = match self.cron {
            Some(cron) => Some(Recurrence { cron, timezone: self.timezone, catch_up: self.catch_up }),
            None => {
                for (field, is_there) in
                    [("timezone", self.timezone.is_some()), ("catch_up", self.catch_up.is_some())]
                {
                    if is_there {
                        wrong.add(field, "applies to recurring requests: `cron` is required");
                    }
                }
                None
            }
        };
        wrong.finish()?;
        let asked = RequestDraft { spec, delays: retry.delays, until: retry.until, notify };
        Ok(NewRequest { asked, execute_at, recurrence })
    }
}

impl NotifyBody {
    fn read(self, wrong: &mut Complaints) -> Notify {
        let retry = self.retry.map(|retry| retry.read(wrong, "notify.retry")).unwrap_or_default();
        let NotifyCallBody { url, verb, timeout, header, credential } = self.request;
        let call = Call { url, verb, timeout, header, credential };
        let mut spec = call.read(wrong, "notify.request", (&["POST", "PUT", "PATCH"], "POST"));
        let is_ours = |name: &str| name.to_ascii_lowercase().starts_with("webhook-");
        if spec.headers.iter().any(|(name, _)| is_ours(name)) {
            wrong.add("notify.request.header", "must not contain `webhook-…`: they carry the signature");
        }
        spec.again = retry.again;
        Notify { spec, delays: retry.delays, until: retry.until }
    }
}

impl Call {
    fn read(self, wrong: &mut Complaints, place: &str, (verbs, default): (&[&str], &str)) -> RequestSpec {
        let verb = self.verb.unwrap_or_else(|| default.to_owned());
        if !verbs.contains(&verb.as_str()) {
            wrong.add(format!("{place}.verb"), format!("must be one of {}", verbs.join(", ")));
        }
        let timeout = self.timeout.map_or(Some(DEFAULT_TIMEOUT), |seconds| {
            let millis = (0.001..=LONGEST_TIMEOUT)
                .contains(&seconds)
                .then(|| Duration::from_secs_f64(seconds))
                .ok_or("must be 0.001 to 300 seconds");
            let millis = wrong.check(&format!("{place}.timeout"), millis)?;
            u64::try_from(millis.as_millis()).ok()
        });
        let headers = headers(wrong, &format!("{place}.header"), self.header.unwrap_or_default());
        RequestSpec {
            verb,
            url: self.url,
            headers,
            body: None,
            is_json: false,
            timeout_ms: timeout.unwrap_or(DEFAULT_TIMEOUT),
            credential: self.credential,
            again: None,
            is_report: false,
        }
    }
}

fn headers(wrong: &mut Complaints, place: &str, given: BTreeMap<String, String>) -> Vec<(String, String)> {
    if given.len() > MOST_HEADERS {
        wrong.add(place, format!("must be at most {MOST_HEADERS}, not {}", given.len()));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(given.len());
    for (name, value) in given {
        let field = format!("{place}.{name}");
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| name.len() <= LONGEST_NAME);
        let Some(parsed) = parsed else {
            wrong.add(
                field,
                "must be a header name: letters, digits and !#$%&'*+-.^_`|~, at most 100 characters",
            );
            continue;
        };
        if is_the_guards(&parsed) {
            wrong.add(field, "belongs to the connection and is set by the service");
            continue;
        }
        // a header's value neither begins nor ends with whitespace (RFC 9110, 5.5)
        let is_value = HeaderValue::from_str(&value).is_ok() && value.trim() == value;
        if !is_value || value.len() > LONGEST_VALUE || !value.is_ascii() {
            wrong.add(
                field,
                "must be ASCII without control characters and surrounding spaces, at most 8192 bytes",
            );
            continue;
        }
        if read.iter().any(|(known, _): &(String, String)| known == parsed.as_str()) {
            wrong.add(field, "is given twice, in different case");
            continue;
        }
        read.push((parsed.as_str().to_owned(), value));
    }
    read
}

/// Returns a body as it is sent, and true if it is JSON.
fn text_of(body: &RawValue) -> Result<(String, bool), String> {
    let (text, is_json) = match serde_json::from_str::<String>(body.get()) {
        Ok(text) => (text, false),
        Err(_) => (body.get().to_owned(), true),
    };
    if text.len() > LARGEST_BODY {
        return Err(format!("must be at most {LARGEST_BODY} bytes"));
    }
    Ok((text, is_json))
}

impl RetryBody {
    fn read(self, wrong: &mut Complaints, place: &str) -> ParsedRetry {
        let again = self.on.map(|words| {
            let mut again = Vec::new();
            if words.len() > MOST_WORDS {
                wrong.add(format!("{place}.on"), format!("must be at most {MOST_WORDS}"));
            }
            for (at, word) in words.iter().take(MOST_WORDS).enumerate() {
                again.extend(wrong.check(&format!("{place}.on[{at}]"), word.parse::<RetryOn>()));
            }
            again
        });
        let delays = self.delays.and_then(|delays| {
            if delays.len() > MOST_DELAYS {
                wrong.add(format!("{place}.delays"), format!("must be at most {MOST_DELAYS}"));
                return None;
            }
            let read = delays.iter().enumerate().map(|(at, delay)| {
                wrong.check(&format!("{place}.delays[{at}]"), delay.read()).unwrap_or_default()
            });
            Some(millis(&read.collect::<Vec<_>>()))
        });
        let until = self.until.and_then(|text| wrong.check(&format!("{place}.until"), time(&text)));
        ParsedRetry { again, delays, until }
    }
}

impl Delay {
    fn read(&self) -> Result<Duration, &'static str> {
        let read = match self {
            Self::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
            Self::Text(text) => humantime::parse_duration(text).ok(),
        };
        let is_good = |delay: &Duration| (Duration::from_millis(1)..=LONGEST_DELAY).contains(delay);
        read.filter(is_good).ok_or("must be 0.001 to 86400 seconds, or a string such as \"90s\"")
    }
}

#[cfg(test)]
mod tests;
