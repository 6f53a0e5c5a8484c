//! The faults of the sandbox, on demand.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest time for which the sandbox holds a connection, hung or slow.
pub(super) const LONGEST_HOLD: Duration = Duration::from_mins(10);

/// The faults in force. A *rate* is a share of the requests, from 0 to 1. Each request meets at most one fault, so the
/// rates add up to at most 1. A field that is absent in JSON disables its fault.
#[derive(clap::Args, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Delay of every response, such as 500us, 20ms or 1s
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    #[serde(with = "duration_text")]
    pub latency: Duration,

    /// Share of requests that get 500 and are not received
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub error_rate: f64,

    /// Share of requests that are received and get no response: the connection is held for 10 minutes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub hang_rate: f64,

    /// Share of requests that are received and whose connection is cut without a response
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub drop_rate: f64,

    /// Share of requests that are refused permanently: 400 with code 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub permanent_rate: f64,

    /// Share of requests that are received and get 200 with an unreadable body
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub garbage_rate: f64,

    /// Requests per second beyond which the sandbox returns 429 [default: no limit]
    #[arg(long, value_name = "N")]
    pub rate_limit: Option<NonZeroU32>,
}

/// The reason why faults were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidFaults {
    /// A rate is not a share of the requests.
    #[error("{0} must be between 0 and 1, not {1}")]
    Rate(&'static str, f64),
    /// The rates add up to more than 1.
    #[error("the rates add up to {0}; a request meets only one fault, so they must add up to at most 1")]
    Sum(f64),
    /// The sandbox would hold slow connections for longer than hung ones.
    #[error("latency must be at most 10 minutes")]
    Latency,
}

/// The fault that a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Error,
    Hang,
    Drop,
    Permanent,
    Garbage,
}

impl Faults {
    /// Checks that the rates are shares of one whole, which the types do not guarantee.
    pub(super) fn check(&self) -> Result<(), InvalidFaults> {
        let mut sum = 0.0;
        for (name, rate, _) in self.rates() {
            if !(0.0..=1.0).contains(&rate) {
                return Err(InvalidFaults::Rate(name, rate));
            }
            sum += rate;
        }
        // Ten times 0.1 differs slightly from 1, and must be accepted.
        if sum > 1.0 + 1e-9 {
            return Err(InvalidFaults::Sum(sum));
        }
        if self.latency > LONGEST_HOLD {
            return Err(InvalidFaults::Latency);
        }
        Ok(())
    }

    /// Returns true if any fault depends on chance.
    pub(super) fn any_rate(&self) -> bool {
        self.rates().iter().any(|(_, rate, _)| *rate > 0.0)
    }

    /// Picks the fault for a draw from `[0, 1)`. One draw for all faults, not one for each, makes every rate a share of
    /// all requests, regardless of the other rates.
    pub(super) fn pick(&self, draw: f64) -> Option<Fault> {
        let mut edge = 0.0;
        for (_, rate, fault) in self.rates() {
            edge += rate;
            if draw < edge {
                return Some(fault);
            }
        }
        None
    }

    fn rates(&self) -> [(&'static str, f64, Fault); 5] {
        [
            ("permanent_rate", self.permanent_rate, Fault::Permanent),
            ("error_rate", self.error_rate, Fault::Error),
            ("hang_rate", self.hang_rate, Fault::Hang),
            ("drop_rate", self.drop_rate, Fault::Drop),
            ("garbage_rate", self.garbage_rate, Fault::Garbage),
        ]
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number between 0 and 1".to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number with a unit: 500us, 20ms, 1s".to_owned();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(wrong()),
    }
}

/// Serializes durations in JSON as they are written on the command line.
mod duration_text {
    use std::borrow::Cow;
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
        let micros = duration.as_micros();
        if micros.is_multiple_of(1_000_000) && micros > 0 {
            out.collect_str(&format_args!("{}s", micros / 1_000_000))
        } else if micros.is_multiple_of(1_000) {
            out.collect_str(&format_args!("{}ms", micros / 1_000))
        } else {
            out.collect_str(&format_args!("{micros}us"))
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(input)?;
        super::parse_duration(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_its_share_of_all_requests() {
        let faults = Faults { error_rate: 0.2, drop_rate: 0.1, ..Faults::default() };
        let count =
            |fault| (0..1000).filter(|n| faults.pick((f64::from(*n) + 0.5) / 1000.0) == fault).count();
        assert_eq!(count(Some(Fault::Error)), 200);
        assert_eq!(count(Some(Fault::Drop)), 100);
        assert_eq!(count(None), 700);
    }

    #[test]
    fn rates_that_are_no_shares_are_refused() {
        let wrong = Faults { hang_rate: f64::NAN, ..Faults::default() };
        assert!(matches!(wrong.check(), Err(InvalidFaults::Rate("hang_rate", _))));
        let wrong = Faults { error_rate: 0.6, drop_rate: 0.5, ..Faults::default() };
        assert!(matches!(wrong.check(), Err(InvalidFaults::Sum(_))));
        let all = Faults { error_rate: 0.7, drop_rate: 0.2, garbage_rate: 0.1, ..Faults::default() };
        assert_eq!(all.check(), Ok(()));
    }

    #[test]
    fn durations_read_back_as_they_were_written() {
        for text in ["500us", "20ms", "1s", "0ms", "1500us", "1500ms"] {
            let json = format!("{{\"latency\":\"{text}\"}}");
            let faults: Faults = serde_json::from_str(&json).unwrap();
            let written = serde_json::to_value(faults).unwrap();
            assert_eq!(written.get("latency").unwrap(), text);
        }
        for wrong in ["", "20", "ms", "-1ms", "1h", "1.5s", "20 ms", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
