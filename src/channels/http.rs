//! How the answers of providers over HTTP are read, whoever they are.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, RETRY_AFTER};

use super::Answer;
use crate::db::types::Timestamp;
use crate::egress::NoAnswer;

/// Bears the message's id, so that a provider can drop a second request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What it comes to when `whom` gave no answer.
pub(super) fn unanswered(whom: &str, why: NoAnswer) -> Answer {
    Answer::none(match why {
        NoAnswer::LocalFault => return Answer::local_fault(),
        NoAnswer::Unreachable => format!("{whom} could not be reached"),
        NoAnswer::Broken(how) => format!("the connection broke before an answer came ({how})"),
    })
}

/// Whether it may work later: 408 request timeout, 425 too early, 429 too many, 5xx.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// How long to wait at least: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    (date.to_utc() - now.datetime()).to_std().ok()
}
