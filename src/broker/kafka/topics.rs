//! The selection of topics.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

/// Names of topics, or a pattern of names.
#[derive(Debug, Clone)]
pub enum Topics {
    /// Topics with these names.
    Named(Vec<String>),
    /// Topics whose whole name matches.
    Like(Regex),
}

impl Topics {
    /// Returns `true` if a topic with this name is read.
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|known| known == name),
            // internal topics such as __consumer_offsets are never events
            Self::Like(pattern) => !name.starts_with("__") && pattern.is_match(name),
        }
    }
}

impl FromStr for Topics {
    type Err = String;

    /// Reads names separated by commas, or a pattern that begins with `^`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('^') {
            let whole = format!("^(?:{text})$");
            let pattern = Regex::new(&whole)
                .map_err(|_| "must be a regular expression where it begins with ^, such as ^orders\\..*")?;
            return Ok(Self::Like(pattern));
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !is_name(name)) {
            None => Ok(Self::Named(names)),
            Some(wrong) => Err(format!(
                "must be names of 1 to 249 letters, digits, `.`, `_` and `-`, separated by commas, or a pattern that \
                 begins with ^; `{wrong}` is not a name"
            )),
        }
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => f.write_str(&names.join(", ")),
            Self::Like(pattern) => f.write_str(pattern.as_str()),
        }
    }
}

/// Checks a name by the rules of Kafka's `Topic.validate`.
fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(is_good) && !matches!(name, "." | "..")
}
