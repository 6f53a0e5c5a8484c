//! The messages of an inbox, and the order in which a list shows them.

use std::fmt;
use std::str::FromStr;

use crate::clients::reach;
use crate::db::types::{MessageId, Timestamp};
use crate::kinds::{ChannelKind, coded_enum};
use crate::notifications::model::Raw;

/// The owner of an inbox: the `recipient` of notifications over `in_app`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

impl UserId {
    /// Returns the id as it was written.
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
#[derive(Debug, Clone, PartialEq)]
pub struct InboxMessage {
    /// The id of the notification, or of the mailing's message.
    pub id: MessageId,
    /// The heading of the message.
    pub subject: Option<String>,
    /// The plain text of the message, to be displayed as text and not as markup.
    pub text: String,
    /// An object for the code of the page.
    pub data: Option<Raw>,
    /// The time of delivery.
    pub created_at: Timestamp,
    /// The time at which it was read; null while it is unread.
    pub read_at: Option<Timestamp>,
    /// The time at which it was archived; null if it is not archived.
    pub archived_at: Option<Timestamp>,
}

impl InboxMessage {
    /// Returns the part of the inbox that contains the message.
    pub fn part(&self) -> Part {
        match (self.archived_at, self.read_at) {
            (Some(_), _) => Part::Archived,
            (None, Some(_)) => Part::Read,
            (None, None) => Part::Unread,
        }
    }

    /// Returns the position of the message in a list.
    pub fn place(&self) -> InboxPosition {
        InboxPosition { part: self.part(), created_at: self.created_at, id: self.id }
    }
}

coded_enum! {
    /// A part of an inbox. Each message is in exactly one.
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
    /// A filter of the list of an inbox.
    InboxFilter {
        /// Unread messages that are not archived.
        Unread = 0 "unread",
        /// Read messages that are not archived.
        Read = 1 "read",
        /// Archived messages.
        Archived = 2 "archived",
        /// All messages.
        All = 3 "all",
    }
}

/// Returns the parts that a list shows, in its order.
pub fn parts(shown: Option<InboxFilter>) -> &'static [Part] {
    match shown {
        None => &[Part::Unread, Part::Read],
        Some(InboxFilter::Unread) => &[Part::Unread],
        Some(InboxFilter::Read) => &[Part::Read],
        Some(InboxFilter::Archived) => &[Part::Archived],
        Some(InboxFilter::All) => Part::ALL,
    }
}

/// The position of a message in a list, which is also the cursor: unread messages come first, then read, then archived
/// ones, each the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxPosition {
    /// The part of the inbox.
    pub part: Part,
    /// The time of delivery.
    pub created_at: Timestamp,
    /// The id, which orders messages with the same time of delivery.
    pub id: MessageId,
}

impl fmt::Display for InboxPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.part, self.created_at.micros(), self.id.0.simple())
    }
}

impl FromStr for InboxPosition {
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

/// A change of a message's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Marks the message as read.
    Read,
    /// Marks the message as unread.
    Unread,
    /// Archives the message.
    Archived,
}

/// The number of unread messages of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxCount {
    /// The number of messages that are neither read nor archived.
    pub unread: i64,
}

/// The result of marking all messages as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRead {
    /// The number of messages that were unread before.
    pub read: i64,
}

/// A token that gives a user's page access to the user's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxToken {
    /// The token, for `Authorization: Bearer`, or for `?token=` where a page cannot set headers.
    pub token: String,
    /// The expiry of the token.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_was_written_and_nothing_else_is_one() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        for part in Part::ALL {
            let place = InboxPosition { part: *part, created_at: at, id: MessageId::new() };
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
            assert_eq!(text.parse::<InboxPosition>(), Err(()), "{text}");
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
