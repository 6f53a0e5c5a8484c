//! What can be done with inboxes.

use std::collections::HashSet;
use std::time::Duration;

use super::model::{InboxCount, InboxMessage, InboxRead, InboxToken, Mark, Place, Shown, UserId, parts};
use super::repo;
use super::token::Tokens;
use crate::clock::Clock;
use crate::db::types::{MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::lifecycle::{Shutdown, tidy};
use crate::live::Live;
use crate::live::inboxes::{InboxChange, InboxWatch, UserKey, What};
use crate::paging;

/// Messages that are read at once in one transaction.
const READ_AT_ONCE: i64 = 1000;
/// Between two looks for messages whose time is over.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// How long a token may be worth something, seconds.
pub const TOKEN_SECONDS: std::ops::RangeInclusive<u32> = 60..=24 * 60 * 60;

/// The use cases.
pub struct Inbox {
    db: Db,
    clock: Clock,
    live: Live,
    tokens: Tokens,
}

/// What a user's page is shown of what happened.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Messages that came, as they are now.
    pub messages: Vec<InboxMessage>,
    /// How many are unread.
    pub count: InboxCount,
}

impl Inbox {
    /// Over this database; the secret is what tokens are made with.
    pub fn new((db, clock, live): (Db, Clock, Live), secret: &[u8]) -> Self {
        Self { db, clock, live, tokens: Tokens::new(secret) }
    }

    /// A page of a user's inbox: what is unread first, each part the newest first; and where the next one begins.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        user: UserId,
        shown: Option<Shown>,
        after: Option<Place>,
        limit: i64,
    ) -> Result<(Vec<InboxMessage>, Option<Place>)> {
        let now = self.clock.now();
        let read = move |c: &mut AnyConnection| {
            let some = |after: Option<&Place>, count: i64| {
                let mut found: Vec<InboxMessage> = Vec::new();
                // the parts before the place's have been shown
                for part in parts(shown).iter().filter(|part| after.is_none_or(|place| **part >= place.part))
                {
                    let left = count - i64::try_from(found.len()).unwrap_or(count);
                    if left <= 0 {
                        break;
                    }
                    let range = (*part, after.copied().filter(|place| place.part == *part));
                    let seen: HashSet<MessageId> = found.iter().map(|message| message.id).collect();
                    let more = repo::list(c, user.as_str(), range, left, now)?;
                    // one that was read between the two looks stands in both parts
                    found.extend(more.into_iter().filter(|message| !seen.contains(&message.id)));
                }
                Ok(found)
            };
            paging::page_of(limit, after, some, InboxMessage::place)
        };
        self.db.read(read).await
    }

    /// How many messages of a user are unread.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count(&self, user: UserId) -> Result<InboxCount> {
        let now = self.clock.now();
        let unread = self.db.read(move |c| repo::count_unread(c, user.as_str(), now)).await?;
        Ok(InboxCount { unread })
    }

    /// Marks a message of this user; answers it as it is then. What is so already stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for what is not this user's.
    pub async fn mark(&self, user: UserId, id: MessageId, mark: Mark) -> Result<InboxMessage> {
        let (now, key) = (self.clock.now(), UserKey::of(user.as_str()));
        let marked = self.db.write(move |c| repo::mark(c, (user.as_str(), id), mark, now)).await?;
        let (message, is_changed) = marked.ok_or_else(|| Error::not_found("message of this user", id))?;
        if is_changed {
            let what = match mark {
                Mark::Read => What::Read,
                Mark::Unread => What::Unread,
                Mark::Archived => What::Archived,
            };
            self.live.inbox_changed(&InboxChange { user: key, what, message: Some(id), at: now });
        }
        Ok(message)
    }

    /// Marks everything as read that is there now; answers how much it was. What comes meanwhile stays unread.
    ///
    /// # Errors
    /// Those of the database; a part may be read then.
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
            let what = What::AllRead;
            self.live.inbox_changed(&InboxChange { user: key, what, message: None, at: now });
        }
        Ok(InboxRead { read })
    }

    /// A token for this user's page, for so long.
    pub fn issue(&self, user: &UserId, seconds: u32) -> InboxToken {
        self.tokens.issue(user, self.clock.now().plus(Duration::from_secs(seconds.into())))
    }

    /// For how long from now the token lets its bearer into this user's inbox; none when it does not.
    pub fn admit(&self, token: &str, user: &UserId) -> Option<Duration> {
        let now = self.clock.now();
        self.tokens.check(token, user, now).map(|until| until.since(now))
    }

    /// Returns whether the token was made for this user, also when it has expired since.
    pub fn has_issued(&self, token: &str, user: &UserId) -> bool {
        self.tokens.expiry(token, user).is_some()
    }

    /// Registers a page that shows this user's inbox, from now on or from what has the id `last` on. None when too many
    /// are open.
    pub fn watch(&self, user: &UserId, last: Option<&str>) -> Option<InboxWatch> {
        self.live.watch_inbox(UserKey::of(user.as_str()), last)
    }

    /// When a page that is opened now is told of what other nodes do; none when it is told from the beginning.
    pub fn settles_in(&self) -> Option<Duration> {
        self.live.inboxes_settle_in()
    }

    /// What a page is to be shown of messages that came, with the count.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn news(&self, user: UserId, came: Vec<MessageId>) -> Result<News> {
        let now: Timestamp = self.clock.now();
        let read = self.db.read(move |c| {
            let messages =
                if came.is_empty() { Vec::new() } else { repo::find(c, user.as_str(), &came, now)? };
            Ok((messages, repo::count_unread(c, user.as_str(), now)?))
        });
        let (messages, unread) = read.await?;
        Ok(News { messages, count: InboxCount { unread } })
    }
}

/// Removes messages whose time is over, until the shutdown.
pub async fn sweep(db: Db, clock: Clock, shutdown: Shutdown) {
    tidy(shutdown, SWEEP, || async {
        let now = clock.now();
        match db.write(move |c| repo::remove_expired(c, now, SWEPT_AT_ONCE)).await {
            Ok(count) => i64::try_from(count).is_ok_and(|count| count == SWEPT_AT_ONCE),
            Err(error) => {
                tracing::warn!(%error, "old messages of inboxes could not be removed; trying again");
                false
            }
        }
    })
    .await;
}
