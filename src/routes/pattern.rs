//! The names of events, and the patterns with which routes match them.

use std::fmt;
use std::str::FromStr;

/// The longest name or pattern, in characters.
pub const LONGEST_NAME: usize = 100;
/// The message for an invalid name.
pub const NAME: &str = "must be words of letters, digits, `_` and `-` separated by dots, such as order.shipped, \
    at most 100 characters";

/// The type of an event, such as `order.shipped`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(String);

impl EventName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first word.
    pub fn first_word(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl FromStr for EventName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = text.len() <= LONGEST_NAME && text.split('.').all(is_word);
        if is_good { Ok(Self(text.to_owned())) } else { Err(NAME.to_owned()) }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The pattern of a route's events: a name in which `*` matches one word, or at the end one or more words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if it is the name of one event.
    pub fn is_name(&self) -> bool {
        !self.0.contains('*')
    }

    /// Returns true if it matches this event.
    pub fn matches(&self, name: &EventName) -> bool {
        let (mut patterns, mut words) = (self.0.split('.').peekable(), name.0.split('.'));
        loop {
            match (patterns.next(), words.next()) {
                (Some("*"), Some(_)) if patterns.peek().is_none() => return true,
                (Some("*"), Some(_)) => {}
                (Some(pattern), Some(word)) if pattern == word => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = text.len() <= LONGEST_NAME && text.split('.').all(|word| word == "*" || is_word(word));
        if is_good {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{NAME}; `*` matches one word, or at the end all remaining words"))
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&name.parse().unwrap())
    }

    #[test]
    fn a_star_is_a_word_and_at_the_end_all_that_follow() {
        for (pattern, name, expected) in [
            ("order.shipped", "order.shipped", true),
            ("order.shipped", "order.shipped.late", false),
            ("order.shipped.late", "order.shipped", false),
            ("order.*", "order.shipped", true),
            ("order.*", "order.item.shipped", true),
            ("order.*", "order", false),
            ("order.*", "orders.shipped", false),
            ("*", "order", true),
            ("*", "order.item.shipped", true),
            ("*.failed", "order.failed", true),
            ("*.failed", "order.item.failed", false),
            ("order.*.failed", "order.item.failed", true),
            ("order.*.failed", "order.failed", false),
            ("Order.*", "order.shipped", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names_are_words_with_dots() {
        for good in ["a", "user.registered", "chat.message_sent", "Order-2.x"] {
            assert!(good.parse::<EventName>().is_ok() && good.parse::<Pattern>().is_ok(), "{good}");
        }
        let long = "x".repeat(101);
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "ö", "a/b", "a\0", long.as_str()] {
            assert!(bad.parse::<EventName>().is_err() && bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert!("order.*".parse::<EventName>().is_err() && "order*".parse::<Pattern>().is_err());
    }

    proptest! {
        /// Replacing words of a name with `*` makes a pattern that matches the name.
        #[test]
        fn what_a_pattern_was_made_of_it_lets_through(words in proptest::collection::vec(("[a-z]{1,5}", any::<bool>()), 1..6)) {
            let name: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            let pattern: Vec<&str> = words.iter().map(|(word, is_star)| if *is_star { "*" } else { word }).collect();
            prop_assert!(matches(&pattern.join("."), &name.join(".")));
        }
    }
}
