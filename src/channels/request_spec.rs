//! The stored form of a request, and its retry rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A request as it is stored; it was validated when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSpec {
    /// The method, such as `POST`.
    pub verb: String,
    /// The URL.
    pub url: String,
    /// Names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body as sent. A JSON body is stored as its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// True if the body was given as JSON, not as text.
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_json: bool,
    /// The timeout of an attempt, in milliseconds.
    pub timeout_ms: u64,
    /// The name of a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The failures that are retried. Unset means [`RetryOn::DEFAULT`], or [`RetryOn::DEFAULT_OF_REPORT`] for a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<RetryOn>>,
    /// True if the request reports a result; a report is signed.
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_report: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_not(flag: &bool) -> bool {
    !flag
}

impl RequestSpec {
    /// The timeout of an attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Returns true if a failure of this kind is retried.
    pub fn tries_again(&self, came: AttemptFailure) -> bool {
        let default = if self.is_report { RetryOn::DEFAULT_OF_REPORT } else { RetryOn::DEFAULT };
        self.again.as_deref().unwrap_or(default).iter().any(|again| again.covers(came))
    }

    /// Returns true if a response with this status completes the request. A report must be accepted, which only 2xx
    /// states. For other requests a redirect is a normal response, unless the request counts it as a failure.
    pub fn is_done_by(&self, status: u16) -> bool {
        match status {
            200..300 => true,
            300..400 => !self.is_report && !self.tries_again(AttemptFailure::Status(status)),
            _ => false,
        }
    }
}

/// The failure of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFailure {
    /// A response with this status.
    Status(u16),
    /// The timeout expired.
    TimedOut,
    /// No response: no connection, or a broken one.
    Nothing,
}

/// The failures that are retried: `3xx`, `4xx`, `5xx`, a status such as `429`, `timeout`, or `connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// Any status of this class, 3 to 5.
    Class(u16),
    /// This status, 300 to 599.
    Status(u16),
    /// The timeout expired.
    Timeout,
    /// No connection, or a broken one.
    Connection,
}

impl RetryOn {
    /// The default of requests: every failure.
    pub const DEFAULT: &[Self] = &[Self::Class(4), Self::Class(5), Self::Timeout, Self::Connection];
    /// The default of reports: everything but 2xx.
    pub const DEFAULT_OF_REPORT: &[Self] =
        &[Self::Class(3), Self::Class(4), Self::Class(5), Self::Timeout, Self::Connection];

    fn covers(self, came: AttemptFailure) -> bool {
        match (self, came) {
            (Self::Class(hundred), AttemptFailure::Status(status)) => status / 100 == hundred,
            (Self::Status(one), AttemptFailure::Status(status)) => one == status,
            (Self::Timeout, AttemptFailure::TimedOut) | (Self::Connection, AttemptFailure::Nothing) => true,
            _ => false,
        }
    }
}

impl FromStr for RetryOn {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "3xx" => Ok(Self::Class(3)),
            "4xx" => Ok(Self::Class(4)),
            "5xx" => Ok(Self::Class(5)),
            "timeout" => Ok(Self::Timeout),
            "connection" => Ok(Self::Connection),
            word => match word.parse::<u16>() {
                Ok(status @ 300..=599) if word.len() == 3 => Ok(Self::Status(status)),
                _ => Err("must be 3xx, 4xx, 5xx, a status from 300 to 599, timeout or connection"),
            },
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(hundred) => write!(f, "{hundred}xx"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Connection => f.write_str("connection"),
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let word = String::deserialize(reader)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Exactly the failures that a user names are retried.
        #[test]
        fn what_is_named_is_tried_again(named in 300u16..600, came in 300u16..600) {
            let class: RetryOn = format!("{}xx", named / 100).parse().unwrap();
            let status: RetryOn = named.to_string().parse().unwrap();
            prop_assert_eq!(class.covers(AttemptFailure::Status(came)), named / 100 == came / 100);
            prop_assert_eq!(status.covers(AttemptFailure::Status(came)), named == came);
            let covered = |all: &[RetryOn]| all.iter().any(|again| again.covers(AttemptFailure::Status(came)));
            prop_assert_eq!(covered(RetryOn::DEFAULT), came >= 400);
            prop_assert!(covered(RetryOn::DEFAULT_OF_REPORT));
            prop_assert!(!class.covers(AttemptFailure::TimedOut) && !status.covers(AttemptFailure::Nothing));
            prop_assert_eq!(class.to_string().parse::<RetryOn>(), Ok(class));
            prop_assert_eq!(status.to_string().parse::<RetryOn>(), Ok(status));
        }
    }

    #[test]
    fn a_redirect_ends_a_request_that_does_not_name_it_and_never_a_report() {
        let spec = |again: Option<&[RetryOn]>, is_report| RequestSpec {
            verb: "GET".into(),
            url: String::new(),
            headers: Vec::new(),
            body: None,
            is_json: false,
            timeout_ms: 1,
            credential: None,
            again: again.map(<[RetryOn]>::to_vec),
            is_report,
        };
        for (again, is_report, done) in [
            (None, false, [true, true, true, false, false]),
            (Some([RetryOn::Class(5)].as_slice()), false, [true, true, true, false, false]),
            (Some(&[RetryOn::Class(3)]), false, [true, false, false, false, false]),
            (Some(&[RetryOn::Status(304)]), false, [true, true, false, false, false]),
            (None, true, [true, false, false, false, false]),
            (Some(&[RetryOn::Class(5)]), true, [true, false, false, false, false]),
        ] {
            let spec = spec(again, is_report);
            assert_eq!([204, 301, 304, 404, 101].map(|status| spec.is_done_by(status)), done, "{again:?}");
        }
        assert!(spec(None, true).tries_again(AttemptFailure::Status(301)));
        assert!(!spec(None, false).tries_again(AttemptFailure::Status(301)));
    }

    #[test]
    fn no_other_word_is_taken() {
        for word in ["", "2xx", "299", "600", "0429", "+429", "Timeout", "xx", "4XX", "1xx"] {
            assert!(word.parse::<RetryOn>().is_err(), "{word}");
        }
        assert!(
            RetryOn::Timeout.covers(AttemptFailure::TimedOut)
                && !RetryOn::Timeout.covers(AttemptFailure::Nothing)
        );
        assert!(
            RetryOn::Connection.covers(AttemptFailure::Nothing)
                && !RetryOn::Connection.covers(AttemptFailure::TimedOut)
        );
    }
}
