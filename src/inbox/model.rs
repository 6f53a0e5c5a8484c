//! What stands in an inbox, and which of it a list shows.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clients::reach;
use crate::db::types::{MessageId, Timestamp};
use crate::kinds::{ChannelKind, coded_enum};
use crate::notifications::model::Raw;

/// Whose an inbox is: what notifications over `in_app` call their recipient.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

impl UserId {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        reach::parse(ChannelKind::InApp, text).map(Self)
    }
}

/// A message in a user's inbox.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct InboxMessage {
    /// The id of the notification, or of the mailing's message.
    pub id: MessageId,
    /// What stands above the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// The text: plain text, to be shown as such.
    #[schema(example = "Your order has shipped.")]
    pub text: String,
    /// An object for the page's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Raw>,
    /// When it was delivered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was read; null while it is unread.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// When it was put away; null when it was not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
}

impl InboxMessage {
    /// In which part of the inbox it stands.
    pub fn part(&self) -> Part {
        match (self.archived_at, self.read_at) {
            (Some(_), _) => Part::Archived,
            (None, Some(_)) => Part::Read,
            (None, None) => Part::Unread,
        }
    }

    /// Its place in a list.
    pub fn place(&self) -> Place {
        Place { part: self.part(), created_at: self.created_at, id: self.id }
    }
}

coded_enum! {
    /// A part of an inbox. Each message stands in one.
    Part {
        /// Not read and not archived.
        Unread = 0 "unread",
        /// Read and not archived.
        Read = 1 "read",
        /// Archived, read or not.
        Archived = 2 "archived",
    }
}

coded_enum! {
    /// What a list of an inbox can be asked for.
    Shown {
        /// What is unread and not archived.
        Unread = 0 "unread",
        /// What was read and is not archived.
        Read = 1 "read",
        /// What was archived.
        Archived = 2 "archived",
        /// All of it.
        All = 3 "all",
    }
}

/// The parts that a list shows, in its order.
pub fn parts(shown: Option<Shown>) -> &'static [Part] {
    match shown {
        None => &[Part::Unread, Part::Read],
        Some(Shown::Unread) => &[Part::Unread],
        Some(Shown::Read) => &[Part::Read],
        Some(Shown::Archived) => &[Part::Archived],
        Some(Shown::All) => Part::ALL,
    }
}

/// A message's place in a list: what is unread first, then what is read, then what is archived, each the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The part in which it stands.
    pub part: Part,
    /// When it was delivered.
    pub created_at: Timestamp,
    /// Its id, for those that were delivered at the same time.
    pub id: MessageId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.part, self.created_at.micros(), self.id.0.simple())
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        Ok(Self {
            part: part()?.parse().map_err(|_| ())?,
            created_at: Timestamp::from_micros(part()?.parse().map_err(|_| ())?),
            id: part()?.parse().map_err(|_| ())?,
        })
    }
}

/// What may be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was read.
    Read,
    /// It is to be read again.
    Unread,
    /// It was put away.
    Archived,
}

/// How many messages are unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct InboxCount {
    /// Neither read nor archived.
    pub unread: i64,
}

/// How many messages were read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct InboxRead {
    /// They were unread when this was asked.
    pub read: i64,
}

/// What lets a user's page into the user's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InboxToken {
    /// For `Authorization: Bearer`, or `?token=` where a page cannot set headers.
    pub token: String,
    /// It is worth nothing from then on.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_was_written_and_nothing_else_is_one() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        for part in Part::ALL {
            let place = Place { part: *part, created_at: at, id: MessageId::new() };
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in [
            "",
            "unread",
            "unread.1",
            "unread.x.01a1fd78dce9703eab9cffd64ca17562",
            "new.1.2",
            "...",
            "unread.1.\0",
        ] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text}");
        }
    }

    #[test]
    fn whatever_names_no_user_is_refused() {
        for good in ["u1", "юзер", "a/b?c#d", "..", "%2F", &"x".repeat(200)] {
            assert_eq!(good.parse::<UserId>().unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\0", "a\n", "\u{85}", &"x".repeat(201)] {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
        }
    }
}
