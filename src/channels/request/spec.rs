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
    /// What is tried again; none: [`Again::DEFAULT`].
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

    /// Whether an attempt that came to this is tried again.
    pub fn tries_again(&self, came: Came) -> bool {
        self.again.as_deref().unwrap_or(Again::DEFAULT).iter().any(|again| again.covers(came))
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

/// What is tried again: `4xx`, `5xx`, a status such as `429`, `timeout`, or `connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Any status of this hundred, 4 or 5.
    Class(u16),
    /// This status, 400 to 599.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
}

impl Again {
    /// What is tried again when nothing is said: every failure.
    pub const DEFAULT: &[Self] = &[Self::Class(4), Self::Class(5), Self::Timeout, Self::Connection];

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
            "4xx" => Ok(Self::Class(4)),
            "5xx" => Ok(Self::Class(5)),
            "timeout" => Ok(Self::Timeout),
            "connection" => Ok(Self::Connection),
            word => match word.parse::<u16>() {
                Ok(status @ 400..=599) if word.len() == 3 => Ok(Self::Status(status)),
                _ => Err("must be 4xx, 5xx, a status from 400 to 599, timeout or connection"),
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
        fn what_is_named_is_tried_again(named in 400u16..600, came in 400u16..600) {
            let class: Again = format!("{}xx", named / 100).parse().unwrap();
            let status: Again = named.to_string().parse().unwrap();
            prop_assert_eq!(class.covers(Came::Status(came)), named / 100 == came / 100);
            prop_assert_eq!(status.covers(Came::Status(came)), named == came);
            prop_assert!(Again::DEFAULT.iter().any(|again| again.covers(Came::Status(came))));
            prop_assert!(!class.covers(Came::TimedOut) && !status.covers(Came::Nothing));
            prop_assert_eq!(class.to_string().parse::<Again>(), Ok(class));
            prop_assert_eq!(status.to_string().parse::<Again>(), Ok(status));
        }
    }

    #[test]
    fn no_other_word_is_taken() {
        for word in ["", "2xx", "399", "600", "0429", "+429", "Timeout", "xx", "4XX"] {
            assert!(word.parse::<Again>().is_err(), "{word}");
        }
        assert!(Again::Timeout.covers(Came::TimedOut) && !Again::Timeout.covers(Came::Nothing));
        assert!(Again::Connection.covers(Came::Nothing) && !Again::Connection.covers(Came::TimedOut));
    }
}
