//! Reads the HTTP responses of providers of any kind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, RETRY_AFTER};

use super::report::AttemptReport;
use crate::db::types::Timestamp;
use crate::egress::NoResponse;

/// The header with the message's id, by which a provider can drop a repeated request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The answer for a request to `peer` that got no response.
pub(super) fn unanswered(peer: &str, why: NoResponse) -> AttemptReport {
    AttemptReport::none(match why {
        NoResponse::LocalFault => return AttemptReport::local_fault(),
        NoResponse::Unreachable => format!("{peer} could not be reached"),
        NoResponse::Broken(how) => format!("the connection broke before a response arrived ({how})"),
    })
}

/// Returns true if a later attempt may succeed: 408 Request Timeout, 425 Too Early, 429 Too Many Requests and 5xx.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Returns the minimum wait, from a number of seconds or any of the three date formats (RFC 9110, 5.6.7 and 10.2.3). A
/// number that overflows becomes the longest duration; the engine bounds it.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = match httpdate::parse_http_date(text) {
        Ok(date) => DateTime::<Utc>::from(date),
        // the date format of e-mail, with its offset
        Err(_) => DateTime::parse_from_rfc2822(text).ok()?.to_utc(),
    };
    (date - now.datetime()).to_std().ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wait(text: &str, now: &str) -> Option<Duration> {
        let now = Timestamp::from_datetime(DateTime::parse_from_rfc3339(now).unwrap().to_utc());
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        retry_after(&headers, now)
    }

    #[test]
    fn seconds_and_all_three_dates_are_waits() {
        let now = "1994-11-06T08:49:31Z";
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(6)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(6)),
            ("Sun Nov  6 08:49:37 1994", Some(6)),
            ("Sun, 06 Nov 1994 09:49:37 +0100", Some(6)),
            (" 6 ", Some(6)),
            ("0", Some(0)),
            ("1796059126", Some(1_796_059_126)),
            ("18446744073709551615", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", None),
            ("-6", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(wait("99999999999999999999999", now), Some(Duration::MAX));
    }

    proptest! {
        /// The wait ends at the same moment for every date format.
        #[test]
        fn each_form_of_a_date_is_the_same_moment(now in 946_684_800i64..2_000_000_000, ahead in 0i64..100_000_000) {
            let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap();
            let (now, then) = (at(now).to_rfc3339(), at(now + ahead));
            let expected = Some(Duration::from_secs(ahead.unsigned_abs()));
            for form in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
                let text = then.format(form).to_string();
                prop_assert_eq!(wait(&text, &now), expected, "{}", text);
            }
        }

        #[test]
        fn any_text_is_a_wait_or_none(text in "[ -~]{0,40}") {
            let _ = wait(&text, "2026-01-01T00:00:00Z");
        }
    }
}
