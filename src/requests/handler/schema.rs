//! The bodies of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::channels::request::{Again, Spec};
use crate::db::types::Timestamp;
use crate::egress::guard::is_the_guards;
use crate::error::{Complaints, Result};
use crate::http::json::time;
use crate::requests::model::{Asked, Notify, millis};
use crate::requests::usecase::{Recurrence, Wanted};

/// What may be asked of a server.
const VERBS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Milliseconds of an attempt.
const DEFAULT_TIMEOUT: u64 = 30_000;
const LONGEST_TIMEOUT: f64 = 300.0;
const MOST_HEADERS: usize = 50;
const LONGEST_NAME: usize = 100;
const LONGEST_VALUE: usize = 8 * 1024;
const LARGEST_BODY: usize = 256 * 1024;
const MOST_DELAYS: usize = 20;
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What may be tried again: far more than there are to say.
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
    /// RFC 3339 with its offset, up to a year ahead; absent or past: now. Of a recurring one: no run before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    execute_at: Option<String>,
    /// What is sent.
    request: CallBody,
    /// What is tried again, and when; absent: every failure, as the service is configured (after 1, 2 and 4 seconds).
    retry: Option<RetryBody>,
    /// Where its result is reported to.
    notify: Option<NotifyBody>,
    /// Five fields, such as `0 9 * * 1-5`: it runs again and again.
    #[schema(min_length = 1, max_length = 200, example = "0 9 * * 1-5")]
    cron: Option<String>,
    /// The IANA name of the time zone of `cron`; absent: `UTC`.
    #[schema(min_length = 1, max_length = 100, example = "Europe/Berlin")]
    timezone: Option<String>,
    /// What becomes of runs that were missed while the service was down: one run for all of them (`once`, the default), or
    /// none (`skip`).
    #[schema(pattern = "^(once|skip)$", example = "once")]
    catch_up: Option<String>,
}

/// What is sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestCallBody)]
pub struct CallBody {
    /// Where to: `https`, or `http` without a credential; not into a private network, unless that is allowed.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`; absent: `POST` with a body, else `GET`.
    #[schema(pattern = "^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$", example = "POST")]
    verb: Option<String>,
    /// Seconds for an attempt, from connecting to the last byte of the answer; absent: 30.
    #[schema(minimum = 0.001, maximum = 300, example = 30)]
    timeout: Option<f64>,
    /// Names and values (RFC 9110, 5), up to 50. Those that belong to the connection cannot be given.
    header: Option<BTreeMap<String, String>>,
    /// Any JSON. A string goes out as it is; anything else as JSON, with a `content-type` that says so if you give none.
    /// Up to 256 KiB.
    #[schema(value_type = Option<serde_json::Value>)]
    body: Option<Box<RawValue>>,
    /// The name of a credential that the service keeps.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    credential: Option<String>,
}

/// Where a result is reported to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestNotifyBody)]
pub struct NotifyBody {
    /// What is sent; its body is the report.
    request: NotifyCallBody,
    /// As of the request.
    retry: Option<RetryBody>,
}

/// A call whose body is the report of a result.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestNotifyCallBody)]
pub struct NotifyCallBody {
    /// As of the request.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// `POST` (the default), `PUT` or `PATCH`.
    #[schema(pattern = "^(POST|PUT|PATCH)$", example = "POST")]
    verb: Option<String>,
    /// As of the request.
    #[schema(minimum = 0.001, maximum = 300, example = 30)]
    timeout: Option<f64>,
    /// As of the request.
    header: Option<BTreeMap<String, String>>,
    /// As of the request.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    credential: Option<String>,
}

/// What is tried again, and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RequestRetryBody, example = json!({"on": ["5xx", "429", "timeout"], "delays": [1, 5, 30]}))]
pub struct RetryBody {
    /// `3xx`, `4xx`, `5xx`, a status from 300 to 599, `timeout`, `connection`; absent: all of these, but of a request, not
    /// of its report, no 3xx: a redirect is not followed, and counts as an answer unless it is named. `[]`: nothing.
    #[schema(max_items = 50)]
    on: Option<Vec<String>>,
    /// How long to wait before each further attempt, up to 20 times, each 1 ms to 24 hours: seconds, or a text such as
    /// `"90s"`. Absent: as the service is configured.
    #[schema(max_items = 20)]
    delays: Option<Vec<Delay>>,
    /// RFC 3339: no attempt begins at this time or after it, and one in flight is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
}

/// Seconds, or a duration as a text.
// Serialize is what lets the document know of `untagged`; it is read by hand, since serde's own reader of such an enum knows no
// numbers that keep their digits
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RequestDelay)]
pub enum Delay {
    /// Seconds, 0.001 to 86400.
    Seconds(f64),
    /// Such as `"90s"` or `"5min"`.
    Text(String),
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let wrong =
            || serde::de::Error::custom("is not as expected, expected seconds or a duration such as \"90s\"");
        match Value::deserialize(reader)? {
            Value::Number(seconds) => seconds.as_f64().map(Self::Seconds).ok_or_else(wrong),
            Value::String(text) => Ok(Self::Text(text)),
            _ => Err(wrong()),
        }
    }
}

/// A call that was checked, without what it is tried again for.
struct Call {
    url: String,
    verb: Option<String>,
    timeout: Option<f64>,
    header: Option<BTreeMap<String, String>>,
    credential: Option<String>,
}

/// A schedule that was checked.
#[derive(Default)]
struct Retry {
    again: Option<Vec<Again>>,
    delays: Option<Vec<u64>>,
    until: Option<Timestamp>,
}

impl RequestBody {
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) that names every wrong field.
    pub fn into_wanted(self) -> Result<Wanted> {
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
                        wrong.add(field, "is for a recurring request: give `cron` as well");
                    }
                }
                None
            }
        };
        wrong.finish()?;
        let asked = Asked { spec, delays: retry.delays, until: retry.until, notify };
        Ok(Wanted { asked, execute_at, recurrence })
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
            wrong.add("notify.request.header", "may not bear `webhook-…`: the service signs with these");
        }
        spec.again = retry.again;
        Notify { spec, delays: retry.delays, until: retry.until }
    }
}

impl Call {
    fn read(self, wrong: &mut Complaints, place: &str, (verbs, default): (&[&str], &str)) -> Spec {
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
        Spec {
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
                "must be the name of a header: letters, digits and !#$%&'*+-.^_`|~, up to 100 of them",
            );
            continue;
        };
        if is_the_guards(&parsed) {
            wrong.add(field, "belongs to the connection, and is set by the service");
            continue;
        }
        // a field's value neither begins nor ends with a blank (RFC 9110, 5.5)
        let is_value = HeaderValue::from_str(&value).is_ok() && value.trim() == value;
        if !is_value || value.len() > LONGEST_VALUE || !value.is_ascii() {
            wrong.add(
                field,
                "must be a text in ASCII without control characters, not framed by blanks, up to 8192 bytes",
            );
            continue;
        }
        if read.iter().any(|(known, _): &(String, String)| known == parsed.as_str()) {
            wrong.add(field, "was given twice, in other letters");
            continue;
        }
        read.push((parsed.as_str().to_owned(), value));
    }
    read
}

/// A body as it goes out, and whether it is JSON.
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
    fn read(self, wrong: &mut Complaints, place: &str) -> Retry {
        let again = self.on.map(|words| {
            let mut again = Vec::new();
            if words.len() > MOST_WORDS {
                wrong.add(format!("{place}.on"), format!("must be at most {MOST_WORDS}"));
            }
            for (at, word) in words.iter().take(MOST_WORDS).enumerate() {
                again.extend(wrong.check(&format!("{place}.on[{at}]"), word.parse::<Again>()));
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
        Retry { again, delays, until }
    }
}

impl Delay {
    fn read(&self) -> Result<Duration, &'static str> {
        let read = match self {
            Self::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
            Self::Text(text) => humantime::parse_duration(text).ok(),
        };
        let is_good = |delay: &Duration| (Duration::from_millis(1)..=LONGEST_DELAY).contains(delay);
        read.filter(is_good).ok_or("must be 0.001 to 86400 seconds, or a text such as \"90s\"")
    }
}

#[cfg(test)]
mod tests;
