//! The text fields of a client, each with its validation rule. All are trimmed, and none contains a control character.

use std::fmt;
use std::str::FromStr;

use crate::address;
use crate::address::email::EmailAddress;
use crate::kinds::ChannelKind;

/// Defines a text type whose values satisfy `$rule`.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $rule:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let text = text.trim();
                let rule: fn(&str) -> Result<(), &'static str> = $rule;
                rule(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(super) fn ensure(right: bool, rule: &'static str) -> Result<(), &'static str> {
    if right { Ok(()) } else { Err(rule) }
}

/// Returns true if the text has 1 to `most` characters and no control characters.
pub(super) fn is_line(text: &str, most: usize) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control) && text.chars().nth(most).is_none()
}

checked_text!(
    /// The code of a mobile operator: 1 to 10 digits.
    OperatorCode,
    |text| ensure(
        (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
        "must be 1 to 10 digits"
    )
);

impl OperatorCode {
    /// Formats the three digits after the 7 of a Russian number.
    pub(super) fn of_area(area: i64) -> Self {
        Self(format!("{area:03}"))
    }
}

checked_text!(
    /// The client's id in another system.
    ExternalId,
    |text| ensure(
        is_line(text, 200),
        "must be 1 to 200 characters, no control characters among them"
    )
);

checked_text!(
    /// The address of a device at a push provider.
    PushToken,
    |text| ensure(
        text.len() <= 4096 && is_line(text, 4096),
        "must be 1 to 4096 bytes, no control characters among them"
    )
);

checked_text!(
    /// An e-mail address in the spelling that was given. Only its syntax is checked: only a mail can prove that it
    /// exists.
    Email,
    |text| EmailAddress::parse(text).and_then(|address| {
        ensure(address.domain().contains('.'), "must be an e-mail address like anna@example.com")
    })
);

impl Email {
    /// Returns the normal form, which all spellings of one address share.
    pub fn key(&self) -> String {
        address::normal(ChannelKind::Email, &self.0).into_owned()
    }
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timezone(chrono_tz::Tz);

impl Timezone {
    /// Its IANA name.
    pub fn as_str(&self) -> &'static str {
        self.0.name()
    }

    /// The time zone for calendar arithmetic.
    pub fn tz(self) -> chrono_tz::Tz {
        self.0
    }
}

impl FromStr for Timezone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self).map_err(|_| "must be the IANA name of a time zone, like Europe/Moscow")
    }
}

impl fmt::Display for Timezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Timezone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_one_address_pass() {
        for text in ["a@b.co", "anna+news@mail.example.com", "имя@почта.рф", " a@b.co "] {
            assert!(text.parse::<Email>().is_ok(), "{text}");
        }
    }

    #[test]
    fn addresses_that_could_break_a_mail_are_refused() {
        for text in [
            "",
            "a",
            "a@b",
            "@b.co",
            "a@",
            "a@@b.co",
            "a@b@c.co",
            "a b@c.co",
            "a@b.co\r\nBcc: x@y.co",
            "a@b.co,x.y",
            "<a@b.co>",
            "a@b..co",
            "a@.b.co",
            "a@b.co.",
            ".a@b.co",
            "a@-b.co",
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
        assert!(format!("{}@b.co", "a".repeat(65)).parse::<Email>().is_err());
        let long = format!("a@{}.co", vec!["b".repeat(60); 5].join("."));
        assert!(long.parse::<Email>().is_err());
    }

    #[test]
    fn texts_are_trimmed_counted_in_characters_and_free_of_controls() {
        for text in ["", "  ", "a\nb", "a\0b", "a\u{85}b"] {
            assert!(text.parse::<ExternalId>().is_err(), "{text:?}");
            assert!(text.parse::<PushToken>().is_err(), "{text:?}");
        }
        assert!("я".repeat(2049).parse::<PushToken>().is_err());
    }

    #[test]
    fn operator_codes_are_digits() {
        assert!("903".parse::<OperatorCode>().is_ok());
        for text in ["", "90a", "12345678901", "-1", "٣"] {
            assert!(text.parse::<OperatorCode>().is_err(), "{text}");
        }
    }

    #[test]
    fn time_zones_are_those_of_iana() {
        assert_eq!("Asia/Yekaterinburg".parse::<Timezone>().unwrap().as_str(), "Asia/Yekaterinburg");
        for text in ["", "Moscow", "UTC+3", "Europe/Nowhere"] {
            assert!(text.parse::<Timezone>().is_err(), "{text}");
        }
    }
}
