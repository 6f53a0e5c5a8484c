//! The header `Prefer` (RFC 7240): `wait=N` and `respond-async`.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use utoipa::IntoParams;

use crate::error::Error;

/// The longest wait of a request.
const LONGEST: Duration = Duration::from_secs(300);

/// The header, for the document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct PreferHeader {
    /// `wait=10` waits up to 10 seconds (300 at most). `respond-async` does not wait. Unknown preferences are ignored
    /// (RFC 7240).
    #[param(rename = "Prefer", nullable = false)]
    pub prefer: Option<String>,
}

/// The caller's preference about waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// No preference.
    None,
    /// Wait up to this time.
    Wait(Duration),
    /// Do not wait.
    Async,
}

impl Preference {
    /// Reads the header's values. Unknown preferences are ignored, as the RFC requires (section 2). If both are given,
    /// `wait` is the time before the asynchronous response (section 4.3).
    fn of<'v>(values: impl Iterator<Item = &'v str>) -> Self {
        let mut found = Self::None;
        for preference in values.flat_map(|value| value.split(',')) {
            let word = preference.split(';').next().unwrap_or_default();
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("wait")
                && let Ok(seconds) = value.parse::<u64>()
            {
                return Self::Wait(Duration::from_secs(seconds).min(LONGEST));
            }
            if name.eq_ignore_ascii_case("respond-async") {
                found = Self::Async;
            }
        }
        found
    }
}

static APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Adds `Preference-Applied` to a response.
pub fn applied(answer: &mut HttpResponse, preference: Preference) {
    let applied = match preference {
        Preference::None => return,
        Preference::Async => HeaderValue::from_static("respond-async"),
        Preference::Wait(patience) => match HeaderValue::from_str(&format!("wait={}", patience.as_secs())) {
            Ok(value) => value,
            Err(_) => return,
        },
    };
    answer.headers_mut().insert(APPLIED.clone(), applied);
}

impl FromRequest for Preference {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
        ready(Ok(Self::of(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        let seconds = |n| Preference::Wait(Duration::from_secs(n));
        for (header, expected) in [
            ("wait=10", seconds(10)),
            ("Wait = \"10\"", seconds(10)),
            ("respond-async", Preference::Async),
            ("respond-async, wait=5", seconds(5)),
            ("return=minimal, wait=3; foo", seconds(3)),
            ("wait=99999", Preference::Wait(LONGEST)),
            ("wait=soon", Preference::None),
            ("handling=lenient", Preference::None),
            ("", Preference::None),
        ] {
            assert_eq!(Preference::of([header].into_iter()), expected, "{header}");
        }
        assert_eq!(Preference::of(["respond-async", "wait=1"].into_iter()), seconds(1));
    }
}
