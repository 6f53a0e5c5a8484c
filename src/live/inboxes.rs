//! Publishes changes of users' inboxes to their subscribers.
//!
//! A node may have thousands of these subscribers. They are spread over many boards by user, so that a change in one
//! inbox wakes only a few of them, and a burst for one user overtakes only a few others.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

use super::board::{self, Broadcast};
use super::hub::EventRing;
use crate::db::types::{MessageId, Timestamp};
use crate::kinds::coded_enum;

const BOARDS: usize = 64;
/// The number of events kept on each board for subscribers that reconnect, and the largest lag of a subscriber.
const KEPT: usize = 1000;
/// The largest number of subscribers per board: some ten thousand in all.
const MOST: usize = 200;
/// The largest number of subscribers per user, so that one user cannot take the places of the others.
const MOST_OF_A_USER: usize = 20;

/// A hash of a user's name, because nodes send each other no names. Two users may have the same key. Then the
/// subscribers of one are also woken for the other, and show no change, because they read the inbox by the whole name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKey(u64);

impl UserKey {
    /// Returns the key of a user, which is the same at every node.
    pub fn of(user: &str) -> Self {
        let digest = digest(&SHA256, user.as_bytes());
        let bytes = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(bytes))
    }
}

coded_enum! {
    /// The kind of a change.
    InboxChangeKind {
        /// A message was delivered.
        Delivered = 0 "delivered",
        /// A message was read.
        Read = 1 "read",
        /// A message was marked as unread.
        Unread = 2 "unread",
        /// A message was archived.
        Archived = 3 "archived",
        /// All messages up to a time were read.
        AllRead = 4 "all_read",
    }
}

/// A change in a user's inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxChange {
    /// The user.
    pub user: UserKey,
    /// The kind of change.
    pub what: InboxChangeKind,
    /// The message; `None` for all messages.
    pub message: Option<MessageId>,
    /// The time of the change.
    pub at: Timestamp,
}

/// Formats the word that nodes send each other: `i`, the user, the kind, the message and the time, separated by commas.
impl fmt::Display for InboxChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.map(|id| id.0.simple().to_string()).unwrap_or_default();
        write!(f, "i,{:x},{},{message},{}", self.user.0, self.what.code(), self.at.micros())
    }
}

impl FromStr for InboxChange {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let read = || {
            let mut parts = word.strip_prefix("i,")?.split(',');
            let mut part = || parts.next();
            Some(Self {
                user: UserKey(u64::from_str_radix(part()?, 16).ok()?),
                what: InboxChangeKind::from_code(part()?.parse().ok()?).ok()?,
                message: match part()? {
                    "" => None,
                    id => Some(id.parse().ok()?),
                },
                at: Timestamp::from_micros(part()?.parse().ok()?),
            })
        };
        read().ok_or(())
    }
}

/// An event for the subscribers of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxEvent {
    /// The inbox changed.
    Change(InboxChange),
    /// Changes of another node were lost.
    Missed,
}

/// A subscription to a user's inbox.
pub type InboxWatch = board::Watch<InboxEvent, UserKey>;

/// The boards.
pub(super) struct Inboxes(Vec<Broadcast<InboxEvent, UserKey>>);

impl Default for Inboxes {
    fn default() -> Self {
        Self((0..BOARDS).map(|_| Broadcast::new(EventRing::new(KEPT, MOST))).collect())
    }
}

impl Inboxes {
    fn board(&self, user: UserKey) -> Option<&Broadcast<InboxEvent, UserKey>> {
        self.0.get(usize::try_from(user.0 % BOARDS as u64).unwrap_or_default())
    }

    pub(super) fn tell(&self, change: InboxChange) {
        if let Some(board) = self.board(change.user) {
            board.tell(InboxEvent::Change(change));
        }
    }

    pub(super) fn missed(&self) {
        self.0.iter().for_each(|board| board.tell(InboxEvent::Missed));
    }

    pub(super) fn are_watched(&self) -> bool {
        self.0.iter().any(|board| board.hub().topics().next().is_some())
    }

    pub(super) fn watch(&self, user: UserKey, last: (Option<&str>, bool)) -> Option<InboxWatch> {
        let board = self.board(user)?;
        if board.hub().topics().filter(|other| **other == user).count() >= MOST_OF_A_USER {
            return None;
        }
        board.watch(user, last, move |event| match event {
            InboxEvent::Change(change) => change.user == user,
            InboxEvent::Missed => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Live;

    fn change(user: &str, what: InboxChangeKind) -> InboxChange {
        let message = Some(MessageId::new());
        InboxChange { user: UserKey::of(user), what, message, at: Timestamp::from_micros(7) }
    }

    #[tokio::test]
    async fn a_subscriber_gets_only_its_users_changes_and_resumes_where_it_was() {
        let live = Live::new(true);
        let mut page = live.watch_inbox(UserKey::of("u1"), None).unwrap();
        let first = change("u1", InboxChangeKind::Delivered);
        live.inbox_changed(&change("u2", InboxChangeKind::Delivered));
        live.inbox_changed(&first);
        let (id, event) = page.next().await.unwrap().pop().unwrap();
        assert_eq!(event, InboxEvent::Change(first));
        drop(page);
        let second = change("u1", InboxChangeKind::Read);
        live.inbox_changed(&second);
        let mut back = live.watch_inbox(UserKey::of("u1"), Some(&id)).unwrap();
        assert!(!back.missed());
        assert_eq!(back.next().await.unwrap().pop().unwrap().1, InboxEvent::Change(second));
        assert!(live.watch_inbox(UserKey::of("u1"), Some("0123456789abcdef-1")).unwrap().missed());
    }

    #[test]
    fn one_user_cannot_take_the_places_of_the_others() {
        let live = Live::new(true);
        let user = UserKey::of("u1");
        let pages: Vec<_> = (0..MOST_OF_A_USER).map(|_| live.watch_inbox(user, None).unwrap()).collect();
        assert!(live.watch_inbox(user, None).is_none());
        let other = (0..).map(|n: u64| UserKey(user.0.wrapping_add(n * BOARDS as u64)));
        let others: Vec<_> = other.skip(1).take(10).map(|other| live.watch_inbox(other, None)).collect();
        assert!(others.iter().all(Option::is_some), "at the same board");
        drop(pages);
        assert!(live.watch_inbox(user, None).is_some());
    }

    #[test]
    fn a_key_is_the_same_at_every_node_and_in_every_version() {
        assert_eq!(UserKey::of("user-1"), "i,c6c289e49e9c05b2,0,,0".parse::<InboxChange>().unwrap().user);
    }
}
