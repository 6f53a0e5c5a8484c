//! What is sent, and what of its answers is tried again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A request as it is stored: it was checked when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The method, such as `POST`.
    pub verb: String,
    /// Where to.
    pub url: String,
    /// Names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// As it goes out; JSON that was given is JSON here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body was given as JSON, not as a text.
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_json: bool,
    /// For all of an attempt, in milliseconds.
    pub timeout_ms: u64,
    /// The name of a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The failures that are tried again; none: [`Again::DEFAULT`], or [`Again::DEFAULT_OF_REPORT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<Again>>,
    /// It reports a result, and is signed.
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_report: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_not(flag: &bool) -> bool {
    !flag
}

impl Spec {
    /// For all of an attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Returns whether an attempt that came to this is tried again.
    pub fn tries_again(&self, came: Came) -> bool {
        let default = if self.is_report { Again::DEFAULT_OF_REPORT } else { Again::DEFAULT };
        self.again.as_deref().unwrap_or(default).iter().any(|again| again.covers(came))
    }

    /// Returns whether an answer with this status is the end of it. A report has to be taken, which 2xx alone says. Of
    /// another request a redirect is an answer like others, unless the request says that it is not.
    pub fn is_done_by(&self, status: u16) -> bool {
        match status {
            200..300 => true,
            300..400 => !self.is_report && !self.tries_again(Came::Status(status)),
            _ => false,
        }
    }
}

/// What an attempt came to that is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// This status.
    Status(u16),
    /// No answer in time.
    TimedOut,
    /// No answer: no connection, or one that broke.
    Nothing,
}

/// The failures that are tried again: `3xx`, `4xx`, `5xx`, a status such as `429`, `timeout`, or `connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Any status of this hundred, 3 to 5.
    Class(u16),
    /// This status, 300 to 599.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
}

impl Again {
    /// The choice of a request that says nothing: every failure.
    pub const DEFAULT: &[Self] = &[Self::Class(4), Self::Class(5), Self::Timeout, Self::Connection];
    /// The choice of a report that says nothing: all that is not 2xx.
    pub const DEFAULT_OF_REPORT: &[Self] =
        &[Self::Class(3), Self::Class(4), Self::Class(5), Self::Timeout, Self::Connection];

    fn covers(self, came: Came) -> bool {
        match (self, came) {
            (Self::Class(hundred), Came::Status(status)) => status / 100 == hundred,
            (Self::Status(one), Came::Status(status)) => one == status,
            (Self::Timeout, Came::TimedOut) | (Self::Connection, Came::Nothing) => true,
            _ => false,
        }
    }
}

impl FromStr for Again {
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

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(hundred) => write!(f, "{hundred}xx"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Connection => f.write_str("connection"),
        }
    }
}

impl Serialize for Again {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Again {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let word = String::deserialize(reader)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names and values; what is no ASCII in a value is shown as U+FFFD.
    pub headers: Vec<(String, String)>,
    /// The body's first 64 KiB.
    pub body: Vec<u8>,
    /// Whether the body went on, or broke off.
    pub is_cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What a user names is tried again, and nothing else is.
        #[test]
        fn what_is_named_is_tried_again(named in 300u16..600, came in 300u16..600) {
            let class: Again = format!("{}xx", named / 100).parse().unwrap();
            let status: Again = named.to_string().parse().unwrap();
            prop_assert_eq!(class.covers(Came::Status(came)), named / 100 == came / 100);
            prop_assert_eq!(status.covers(Came::Status(came)), named == came);
            let covered = |all: &[Again]| all.iter().any(|again| again.covers(Came::Status(came)));
            prop_assert_eq!(covered(Again::DEFAULT), came >= 400);
            prop_assert!(covered(Again::DEFAULT_OF_REPORT));
            prop_assert!(!class.covers(Came::TimedOut) && !status.covers(Came::Nothing));
            prop_assert_eq!(class.to_string().parse::<Again>(), Ok(class));
            prop_assert_eq!(status.to_string().parse::<Again>(), Ok(status));
        }
    }

    #[test]
    fn a_redirect_ends_a_request_that_does_not_name_it_and_never_a_report() {
        let spec = |again: Option<&[Again]>, is_report| Spec {
            verb: "GET".into(),
            url: String::new(),
            headers: Vec::new(),
            body: None,
            is_json: false,
            timeout_ms: 1,
            credential: None,
            again: again.map(<[Again]>::to_vec),
            is_report,
        };
        for (again, is_report, done) in [
            (None, false, [true, true, true, false, false]),
            (Some([Again::Class(5)].as_slice()), false, [true, true, true, false, false]),
            (Some(&[Again::Class(3)]), false, [true, false, false, false, false]),
            (Some(&[Again::Status(304)]), false, [true, true, false, false, false]),
            (None, true, [true, false, false, false, false]),
            (Some(&[Again::Class(5)]), true, [true, false, false, false, false]),
        ] {
            let spec = spec(again, is_report);
            assert_eq!([204, 301, 304, 404, 101].map(|status| spec.is_done_by(status)), done, "{again:?}");
        }
        assert!(spec(None, true).tries_again(Came::Status(301)));
        assert!(!spec(None, false).tries_again(Came::Status(301)));
    }

    #[test]
    fn no_other_word_is_taken() {
        for word in ["", "2xx", "299", "600", "0429", "+429", "Timeout", "xx", "4XX", "1xx"] {
            assert!(word.parse::<Again>().is_err(), "{word}");
        }
        assert!(Again::Timeout.covers(Came::TimedOut) && !Again::Timeout.covers(Came::Nothing));
        assert!(Again::Connection.covers(Came::Nothing) && !Again::Connection.covers(Came::TimedOut));
    }
}
