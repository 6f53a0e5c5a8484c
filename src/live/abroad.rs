//! What nodes tell each other of notifications and inboxes: how a notification ended that somebody waits for, and every
//! change while another node has watchers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::Change;
use super::inboxes::InboxChange;
use crate::db::types::{BatchId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, NotificationStatus};

/// Changes that wait to be told. When there are more, the others are told that they miss some.
const MOST: usize = 20_000;
/// A node whose watchers are to be told of changes asks for them so often.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// It is told them for so long after it has asked.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// It has heard them all for so long after it has asked; less than the above by what a message takes on its way.
const HEARD_FOR: Duration = Duration::from_secs(25);
/// By then the others have heard that it asked.
pub const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// This node did not hear the others for a while: who has watchers is to ask anew.
const HERE: &str = "here";

/// What is told as long as another node asks for it.
trait Told: Copy {
    /// Watchers here want to be told of it.
    const ASK: &str;
    /// Some was lost on its way.
    const MISSED: &str;
    /// Itself, without a space.
    fn word(&self) -> String;
}

impl Told for Change {
    const ASK: &str = "watch";
    const MISSED: &str = "missed";

    /// Id, batch, channel, status, attempts and time with commas between.
    fn word(&self) -> String {
        let Change { id, batch, channel, status, attempts, at } = self;
        let batch = batch.map(|batch| batch.0.simple().to_string()).unwrap_or_default();
        let (channel, status) = (channel.code(), status.code());
        format!("{},{batch},{channel},{status},{attempts},{}", id.0.simple(), at.micros())
    }
}

impl Told for InboxChange {
    const ASK: &str = "watch-inboxes";
    const MISSED: &str = "missed-inboxes";

    fn word(&self) -> String {
        self.to_string()
    }
}

/// What is to be told to the other nodes.
#[derive(Default)]
pub struct Abroad {
    state: Mutex<State>,
    /// Something is to be told.
    pub news: Notify,
}

#[derive(Default)]
struct State {
    /// How notifications ended that somebody waits for.
    awaited: VecDeque<Change>,
    notifications: Topic<Change>,
    inboxes: Topic<InboxChange>,
    here: bool,
}

struct Topic<C> {
    changes: VecDeque<C>,
    missed: bool,
    /// Until when another node wants to be told of changes.
    wanted_until: Option<Instant>,
    asked_at: Option<Instant>,
    /// Since when it has been asked for without a break.
    since: Option<Instant>,
}

impl<C> Default for Topic<C> {
    fn default() -> Self {
        Self { changes: VecDeque::new(), missed: false, wanted_until: None, asked_at: None, since: None }
    }
}

impl<C: Told> Topic<C> {
    /// Whether there is something new to tell.
    fn tell(&mut self, change: &C) -> bool {
        if self.wanted_until.is_none_or(|until| until < Instant::now()) {
            return false;
        }
        if self.changes.len() < MOST {
            self.changes.push_back(*change);
        } else {
            self.changes.clear();
            self.missed = true;
        }
        true
    }

    fn want(&mut self) {
        self.wanted_until = Some(Instant::now() + ASKED_FOR);
    }

    fn failed(&mut self) {
        // what nobody asked for was not told
        self.missed |= self.wanted_until.is_some();
        self.asked_at = None;
    }

    fn hears_all(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() <= HEARD_FOR)
    }

    /// What is to be said before the changes.
    fn announce(&mut self, is_watched: bool, words: &mut Words) {
        if is_watched && self.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            let now = Instant::now();
            self.since = self.since.filter(|_| self.hears_all()).or(Some(now));
            self.asked_at = Some(now);
            words.add(C::ASK.to_owned());
        }
        if std::mem::take(&mut self.missed) {
            words.add(C::MISSED.to_owned());
        }
    }
}

/// Words of one payload.
struct Words {
    words: Vec<String>,
    left: usize,
}

impl Words {
    fn add(&mut self, word: String) -> bool {
        let rest = self.left.checked_sub(word.len() + 1);
        let fits = rest.is_some();
        if let Some(rest) = rest {
            self.left = rest;
            self.words.push(word);
        }
        fits
    }

    /// Takes from the front what fits.
    fn drain<C: Told>(&mut self, changes: &mut VecDeque<C>) {
        while let Some(change) = changes.front()
            && self.add(change.word())
        {
            changes.pop_front();
        }
    }
}

/// A word of another node.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A notification came to another state.
    Change(Change),
    /// Such changes were lost.
    Missed,
    /// Something happened in a user's inbox.
    Inbox(InboxChange),
    /// Such changes were lost.
    InboxesMissed,
}

impl Abroad {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a change if somebody wants to know it.
    pub fn tell(&self, change: &Change, is_awaited: bool) {
        let mut state = self.state();
        if is_awaited && change.status.is_final() {
            state.awaited.push_back(*change);
        } else if !state.notifications.tell(change) {
            return;
        }
        self.news.notify_one();
    }

    /// Tells what happened in an inbox if somebody wants to know it.
    pub fn tell_inbox(&self, change: &InboxChange) {
        if self.state().inboxes.tell(change) {
            self.news.notify_one();
        }
    }

    /// What was taken to be told did not arrive.
    pub fn failed(&self) {
        let mut state = self.state();
        state.notifications.failed();
        state.inboxes.failed();
    }

    /// This node may have missed what others asked.
    pub fn was_deaf(&self) {
        let mut state = self.state();
        state.here = true;
        state.notifications.asked_at = None;
        state.inboxes.asked_at = None;
        self.news.notify_one();
    }

    /// Whether this node was told everything that happened to notifications until now, as far as somebody watched.
    pub fn hears_all(&self) -> bool {
        self.state().notifications.hears_all()
    }

    /// The same of inboxes.
    pub fn hears_of_inboxes(&self) -> bool {
        self.state().inboxes.hears_all()
    }

    /// Whether it has been so for a while: by then the others know it.
    pub fn is_settled_on_inboxes(&self) -> bool {
        let state = self.state();
        state.inboxes.hears_all() && state.inboxes.since.is_some_and(|since| since.elapsed() >= SETTLED_AFTER)
    }

    /// Takes words up to a length in bytes; none when there is nothing to tell. `watched`: whether here are watchers of
    /// notifications and of inboxes.
    pub fn words(&self, length: usize, watched: (bool, bool)) -> Vec<String> {
        let mut state = self.state();
        let mut words = Words { words: Vec::new(), left: length };
        state.notifications.announce(watched.0, &mut words);
        state.inboxes.announce(watched.1, &mut words);
        if std::mem::take(&mut state.here) {
            words.add(HERE.to_owned());
        }
        words.drain(&mut state.awaited);
        words.drain(&mut state.notifications.changes);
        words.drain(&mut state.inboxes.changes);
        words.words
    }

    /// Understands a word of another node; none when it is for this node alone, or not of these.
    pub fn hear(&self, word: &str) -> Option<Heard> {
        match word {
            Change::ASK => self.state().notifications.want(),
            InboxChange::ASK => self.state().inboxes.want(),
            HERE => {
                let mut state = self.state();
                state.notifications.asked_at = None;
                state.inboxes.asked_at = None;
                self.news.notify_one();
            }
            Change::MISSED => return Some(Heard::Missed),
            InboxChange::MISSED => return Some(Heard::InboxesMissed),
            _ => {
                let of_inbox = || word.parse().ok().map(Heard::Inbox);
                return change(word).map(Heard::Change).or_else(of_inbox);
            }
        }
        None
    }
}

fn change(word: &str) -> Option<Change> {
    let mut parts = word.split(',');
    let mut part = || parts.next();
    Some(Change {
        id: MessageId(part()?.parse().ok()?),
        batch: match part()? {
            "" => None,
            id => Some(BatchId(id.parse::<Uuid>().ok()?)),
        },
        channel: ChannelKind::from_code(part()?.parse().ok()?).ok()?,
        status: NotificationStatus::from_code(part()?.parse().ok()?).ok()?,
        attempts: part()?.parse().ok()?,
        at: Timestamp::from_micros(part()?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::inboxes::{UserKey, What};

    fn change(status: NotificationStatus) -> Change {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let batch = Some(BatchId(Uuid::now_v7()));
        Change { id: MessageId::new(), batch, channel: ChannelKind::InApp, status, attempts: 3, at }
    }

    fn say(from: &Abroad, to: &Abroad, is_watched: bool) -> Vec<Heard> {
        from.words(usize::MAX, (is_watched, false)).iter().filter_map(|word| to.hear(word)).collect()
    }

    #[test]
    fn changes_are_told_to_who_asked_and_ends_to_who_may_wait() {
        let (here, there) = (Abroad::default(), Abroad::default());
        let (sent, queued) = (change(NotificationStatus::Sent), change(NotificationStatus::Queued));
        there.tell(&sent, false);
        there.tell(&queued, true);
        assert_eq!(say(&there, &here, false), [], "nobody asked, and nobody waits for what has not ended");
        there.tell(&sent, true);
        assert_eq!(say(&there, &here, false), [Heard::Change(sent)]);
        assert!(!here.hears_all());
        assert_eq!(say(&here, &there, true), []);
        assert!(here.hears_all());
        let alone = Change { batch: None, ..queued };
        there.tell(&queued, false);
        there.tell(&alone, false);
        there.tell(&sent, true);
        assert_eq!(
            say(&there, &here, false),
            [Heard::Change(sent), Heard::Change(queued), Heard::Change(alone)]
        );
        assert!(here.words(usize::MAX, (true, false)).is_empty(), "it has asked just now");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_watchers_asks_again_and_who_has_none_is_told_nothing_after_a_while() {
        let (here, there) = (Abroad::default(), Abroad::default());
        say(&here, &there, true);
        tokio::time::advance(ASK_EVERY).await;
        assert_eq!(here.words(usize::MAX, (true, false)), [Change::ASK]);
        tokio::time::advance(HEARD_FOR + Duration::from_millis(1)).await;
        assert!(!here.hears_all());
        tokio::time::advance(ASKED_FOR).await;
        there.tell(&change(NotificationStatus::Queued), false);
        assert!(there.words(usize::MAX, (false, false)).is_empty());
    }

    #[test]
    fn a_node_that_was_deaf_is_asked_again() {
        let (here, there) = (Abroad::default(), Abroad::default());
        assert_eq!(here.words(usize::MAX, (true, false)), [Change::ASK]);
        there.was_deaf();
        assert_eq!(say(&there, &here, false), []);
        assert_eq!(say(&here, &there, true), []);
        there.tell(&change(NotificationStatus::Queued), false);
        assert_eq!(say(&there, &here, false).len(), 1);
    }

    #[test]
    fn what_is_too_much_is_dropped_and_that_is_told() {
        let (here, there) = (Abroad::default(), Abroad::default());
        say(&here, &there, true);
        let sent = change(NotificationStatus::Sent);
        (0..=MOST).for_each(|_| there.tell(&sent, false));
        there.tell(&sent, true);
        assert_eq!(say(&there, &here, false), [Heard::Missed, Heard::Change(sent)]);
        there.failed();
        assert_eq!(say(&there, &here, false), [Heard::Missed]);
    }

    #[test]
    fn no_more_is_said_at_once_than_fits() {
        let (here, there) = (Abroad::default(), Abroad::default());
        say(&here, &there, true);
        (0..100).for_each(|_| there.tell(&change(NotificationStatus::Queued), false));
        let mut told = 0;
        loop {
            let words = there.words(1000, (false, false));
            assert!(words.iter().map(|word| word.len() + 1).sum::<usize>() <= 1000);
            if words.is_empty() {
                break;
            }
            told += words.len();
        }
        assert_eq!(told, 100);
    }

    #[test]
    fn inboxes_are_told_of_by_themselves() {
        let (here, there) = (Abroad::default(), Abroad::default());
        let of_inbox = InboxChange {
            user: UserKey::of("u1"),
            what: What::Delivered,
            message: Some(MessageId::new()),
            at: Timestamp::from_micros(1_700_000_000_123_456),
        };
        let all_read = InboxChange { what: What::AllRead, message: None, ..of_inbox };
        there.tell_inbox(&of_inbox);
        assert!(there.words(usize::MAX, (false, false)).is_empty(), "nobody asked");
        assert_eq!(here.words(usize::MAX, (false, true)), [InboxChange::ASK]);
        assert!((here.hears_of_inboxes(), here.hears_all()) == (true, false));
        assert_eq!(there.hear(InboxChange::ASK), None);
        there.tell_inbox(&of_inbox);
        there.tell_inbox(&all_read);
        there.tell(&change(NotificationStatus::Queued), false);
        assert_eq!(say(&there, &here, false), [Heard::Inbox(of_inbox), Heard::Inbox(all_read)]);
        (0..=MOST).for_each(|_| there.tell_inbox(&of_inbox));
        assert_eq!(say(&there, &here, false), [Heard::InboxesMissed]);
        there.was_deaf();
        say(&there, &here, false);
        assert!(!here.hears_of_inboxes());
    }

    #[test]
    fn words_of_no_change_are_passed_over() {
        let node = Abroad::default();
        for word in [
            "",
            "look",
            "a,b",
            "00000000000000000000000000000000,,1,99,0,0",
            ",,,,,",
            "i,,,,",
            "i,x,0,,0",
            "i,0,9,,0",
        ] {
            assert_eq!(node.hear(word), None, "{word}");
        }
    }
}
