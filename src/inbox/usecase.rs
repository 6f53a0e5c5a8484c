//! The use cases of inboxes.

use std::collections::HashSet;
use std::time::Duration;

use super::model::{
    InboxCount, InboxFilter, InboxMessage, InboxPosition, InboxRead, InboxToken, Mark, UserId, parts,
};
use super::repo;
use super::token::InboxTokens;
use crate::clock::Clock;
use crate::db::types::{MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, run_periodically};
use crate::live::Live;
use crate::live::inboxes::{InboxChange, InboxChangeKind, InboxWatch, UserKey};
use crate::paging;
use crate::runtime::Runtime;

/// The number of messages that one transaction marks as read.
const READ_AT_ONCE: i64 = 1000;
/// The interval of the cleanup of expired messages.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// The allowed lifetime of a token, in seconds.
pub const TOKEN_SECONDS: std::ops::RangeInclusive<u32> = 60..=24 * 60 * 60;

/// The use cases of inboxes.
pub struct Inbox {
    db: Db,
    clock: Clock,
    live: Live,
    tokens: InboxTokens,
}

/// An update for a page that shows an inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxUpdate {
    /// The new messages in their present state.
    pub messages: Vec<InboxMessage>,
    /// The number of unread messages.
    pub count: InboxCount,
}

impl Inbox {
    /// Creates the use cases over a database. `secret` signs the tokens.
    pub fn new(Runtime { db, clock, live, .. }: Runtime, secret: &[u8]) -> Self {
        Self { db, clock, live, tokens: InboxTokens::new(secret) }
    }

    /// Returns a page of a user's inbox and the cursor of the next page: unread messages come first, each part the
    /// newest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(
        &self,
        user: UserId,
        shown: Option<InboxFilter>,
        after: Option<InboxPosition>,
        limit: i64,
    ) -> Result<(Vec<InboxMessage>, Option<InboxPosition>)> {
        let now = self.clock.now();
        let read = move |c: &mut AnyConnection| {
            let some = |after: Option<&InboxPosition>, count: i64| {
                let mut found: Vec<InboxMessage> = Vec::new();
                // earlier parts have already been listed
                for part in parts(shown).iter().filter(|part| after.is_none_or(|place| **part >= place.part))
                {
                    let left = count - i64::try_from(found.len()).unwrap_or(count);
                    if left <= 0 {
                        break;
                    }
                    let range = (*part, after.copied().filter(|place| place.part == *part));
                    let seen: HashSet<MessageId> = found.iter().map(|message| message.id).collect();
                    let more = repo::list(c, user.as_str(), range, left, now)?;
                    // a message that was marked as read between the two queries is in both results
                    found.extend(more.into_iter().filter(|message| !seen.contains(&message.id)));
                }
                Ok(found)
            };
            paging::page_of(limit, after, some, InboxMessage::place)
        };
        self.db.read(read).await
    }

    /// Returns the number of unread messages of a user.
    ///
    /// # Errors
    /// Database errors.
    pub async fn count(&self, user: UserId) -> Result<InboxCount> {
        let now = self.clock.now();
        let unread = self.db.read(move |c| repo::count_unread(c, user.as_str(), now)).await?;
        Ok(InboxCount { unread })
    }

    /// Marks a message of this user and returns it. A message that is already marked stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a message that does not belong to this user.
    pub async fn mark(&self, user: UserId, id: MessageId, mark: Mark) -> Result<InboxMessage> {
        let (now, key) = (self.clock.now(), UserKey::of(user.as_str()));
        let marked = self.db.write(move |c| repo::mark(c, (user.as_str(), id), mark, now)).await?;
        let (message, is_changed) = marked.ok_or_else(|| Error::not_found("message of this user", id))?;
        if is_changed {
            let what = match mark {
                Mark::Read => InboxChangeKind::Read,
                Mark::Unread => InboxChangeKind::Unread,
                Mark::Archived => InboxChangeKind::Archived,
            };
            self.live.inbox_changed(&InboxChange { user: key, what, message: Some(id), at: now });
        }
        Ok(message)
    }

    /// Marks all present messages as read and returns their number. Messages that arrive meanwhile stay unread.
    ///
    /// # Errors
    /// Database errors; a part of the messages may be marked then.
    pub async fn read_all(&self, user: UserId) -> Result<InboxRead> {
        let (now, key) = (self.clock.now(), UserKey::of(user.as_str()));
        let mut read = 0;
        loop {
            let user = user.clone();
            let step = move |c: &mut _| repo::mark_all_read(c, user.as_str(), (now, READ_AT_ONCE), now);
            let some = i64::try_from(self.db.write(step).await?).unwrap_or(i64::MAX);
            read += some;
            if some < READ_AT_ONCE {
                break;
            }
        }
        if read > 0 {
            let what = InboxChangeKind::AllRead;
            self.live.inbox_changed(&InboxChange { user: key, what, message: None, at: now });
        }
        Ok(InboxRead { read })
    }

    /// Issues a token for this user's page with a lifetime of `seconds`.
    pub fn issue(&self, user: &UserId, seconds: u32) -> InboxToken {
        self.tokens.issue(user, self.clock.now().plus(Duration::from_secs(seconds.into())))
    }

    /// Returns the remaining lifetime of a token for this user's inbox; `None` if it is not valid.
    pub fn admit(&self, token: &str, user: &UserId) -> Option<Duration> {
        let now = self.clock.now();
        self.tokens.check(token, user, now).map(|until| until.since(now))
    }

    /// Returns true if the token was issued for this user, even if it has expired.
    pub fn has_issued(&self, token: &str, user: &UserId) -> bool {
        self.tokens.expiry(token, user).is_some()
    }

    /// Subscribes a page to this user's inbox, from now on or from the event with the id `last` on. Returns `None` if
    /// too many streams are open.
    pub fn watch(&self, user: &UserId, last: Option<&str>) -> Option<InboxWatch> {
        self.live.watch_inbox(UserKey::of(user.as_str()), last)
    }

    /// Returns the time after which a new subscription receives the events of other nodes; `None` if it does at once.
    pub fn settles_in(&self) -> Option<Duration> {
        self.live.inboxes_settle_in()
    }

    /// Returns the update for new messages, with the count.
    ///
    /// # Errors
    /// Database errors.
    pub async fn news(&self, user: UserId, came: Vec<MessageId>) -> Result<InboxUpdate> {
        let now: Timestamp = self.clock.now();
        let read = self.db.read(move |c| {
            let messages =
                if came.is_empty() { Vec::new() } else { repo::find(c, user.as_str(), &came, now)? };
            Ok((messages, repo::count_unread(c, user.as_str(), now)?))
        });
        let (messages, unread) = read.await?;
        Ok(InboxUpdate { messages, count: InboxCount { unread } })
    }
}

/// Deletes expired messages, until the shutdown.
pub async fn sweep(db: Db, clock: Clock, shutdown: Shutdown) {
    run_periodically(shutdown, SWEEP, || async {
        let now = clock.now();
        match db.write(move |c| repo::remove_expired(c, now, SWEPT_AT_ONCE)).await {
            Ok(count) => i64::try_from(count).is_ok_and(|count| count == SWEPT_AT_ONCE),
            Err(error) => {
                tracing::warn!(%error, "cleanup of expired inbox messages failed; will retry");
                false
            }
        }
    })
    .await;
}
