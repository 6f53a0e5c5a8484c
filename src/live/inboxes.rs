//! What happens in users' inboxes, told to the pages that show them.
//!
//! A node may have thousands of such pages open. They sit at many boards by their users, so that what happens in one inbox
//! wakes a few of them, and a burst for one user overtakes few others.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

use super::board::{self, Board};
use super::hub::Hub;
use crate::db::types::{MessageId, Timestamp};
use crate::kinds::coded_enum;

const BOARDS: usize = 64;
/// Events that are kept on each for those who come back, and by how many a page may be behind.
const KEPT: usize = 1000;
/// Pages at each: some ten thousand in all.
const MOST: usize = 200;
/// Pages of one user at once: nobody may take the places of the others.
const MOST_OF_A_USER: usize = 20;

/// Stands for a user in what is told: nodes tell each other no names. Two users may have one; then the pages of one are
/// woken for the other's and show nothing of it, since what they show is read by the whole name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserKey(u64);

impl UserKey {
    /// This user's, the same at every node.
    pub fn of(user: &str) -> Self {
        let digest = digest(&SHA256, user.as_bytes());
        let bytes = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(bytes))
    }
}

coded_enum! {
    /// What happened.
    What {
        /// A message came.
        Delivered = 0 "delivered",
        /// A message was read.
        Read = 1 "read",
        /// A message is unread again.
        Unread = 2 "unread",
        /// A message was put away.
        Archived = 3 "archived",
        /// Everything that came until then was read.
        AllRead = 4 "all_read",
    }
}

/// Something happened in a user's inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxChange {
    /// Whose it is.
    pub user: UserKey,
    /// What happened.
    pub what: What,
    /// To which message; none when to all.
    pub message: Option<MessageId>,
    /// When.
    pub at: Timestamp,
}

/// As nodes tell it each other: `i`, the user, what, the message and the time with commas between.
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
                what: What::from_code(part()?.parse().ok()?).ok()?,
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

/// What a page is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxEvent {
    /// Something happened.
    Change(InboxChange),
    /// What another node told was lost.
    Missed,
}

/// A page that shows a user's inbox.
pub type InboxWatch = board::Watch<InboxEvent, UserKey>;

/// The boards.
pub(super) struct Inboxes(Vec<Board<InboxEvent, UserKey>>);

impl Default for Inboxes {
    fn default() -> Self {
        Self((0..BOARDS).map(|_| Board::new(Hub::new(KEPT, MOST))).collect())
    }
}

impl Inboxes {
    fn board(&self, user: UserKey) -> Option<&Board<InboxEvent, UserKey>> {
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

    fn change(user: &str, what: What) -> InboxChange {
        let message = Some(MessageId::new());
        InboxChange { user: UserKey::of(user), what, message, at: Timestamp::from_micros(7) }
    }

    #[tokio::test]
    async fn a_page_is_told_of_its_user_alone_and_goes_on_where_it_was() {
        let live = Live::new(true);
        let mut page = live.watch_inbox(UserKey::of("u1"), None).unwrap();
        let first = change("u1", What::Delivered);
        live.inbox_changed(&change("u2", What::Delivered));
        live.inbox_changed(&first);
        let (id, event) = page.next().await.unwrap().pop().unwrap();
        assert_eq!(event, InboxEvent::Change(first));
        drop(page);
        let second = change("u1", What::Read);
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
