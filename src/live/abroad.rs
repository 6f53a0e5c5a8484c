//! What nodes tell each other of notifications: how one ended that somebody waits for, and every change while another
//! node has watchers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::Change;
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

/// Watchers here want to be told of changes.
const ASK: &str = "watch";
/// This node did not hear the others for a while: who has watchers is to ask anew.
const HERE: &str = "here";
/// Changes were lost on their way.
const MISSED: &str = "missed";

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
    changes: VecDeque<Change>,
    missed: bool,
    here: bool,
    /// Until when another node wants to be told of changes.
    wanted_until: Option<Instant>,
    asked_at: Option<Instant>,
}

/// A word of another node.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A notification came to another state.
    Change(Change),
    /// Changes were lost.
    Missed,
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
        } else if state.wanted_until.is_none_or(|until| until < Instant::now()) {
            return;
        } else if state.changes.len() < MOST {
            state.changes.push_back(*change);
        } else {
            state.changes.clear();
            state.missed = true;
        }
        self.news.notify_one();
    }

    /// What was taken to be told did not arrive.
    pub fn failed(&self) {
        let mut state = self.state();
        state.missed = true;
        state.asked_at = None;
    }

    /// This node may have missed what others asked.
    pub fn was_deaf(&self) {
        let mut state = self.state();
        state.here = true;
        state.asked_at = None;
        self.news.notify_one();
    }

    /// Whether this node was told everything that happened until now, as far as somebody watched.
    pub fn hears_all(&self) -> bool {
        self.state().asked_at.is_some_and(|at| at.elapsed() <= HEARD_FOR)
    }

    /// Takes words up to a length in bytes; none when there is nothing to tell. `is_watched`: here are watchers.
    pub fn words(&self, length: usize, is_watched: bool) -> Vec<String> {
        let mut state = self.state();
        let mut words = Vec::new();
        if is_watched && state.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            state.asked_at = Some(Instant::now());
            words.push(ASK.to_owned());
        }
        let mut flag = |is_set: &mut bool, word: &str| {
            if std::mem::take(is_set) {
                words.push(word.to_owned());
            }
        };
        flag(&mut state.here, HERE);
        flag(&mut state.missed, MISSED);
        let mut left = length.saturating_sub(words.iter().map(|word| word.len() + 1).sum());
        while let Some(change) = state.awaited.front().or(state.changes.front()) {
            let word = word(change);
            let Some(rest) = left.checked_sub(word.len() + 1) else { break };
            left = rest;
            words.push(word);
            if state.awaited.pop_front().is_none() {
                state.changes.pop_front();
            }
        }
        words
    }

    /// Understands a word of another node; none when it is for this node alone, or not of these.
    pub fn hear(&self, word: &str) -> Option<Heard> {
        match word {
            ASK => self.state().wanted_until = Some(Instant::now() + ASKED_FOR),
            HERE => {
                self.state().asked_at = None;
                self.news.notify_one();
            }
            MISSED => return Some(Heard::Missed),
            _ => return change(word).map(Heard::Change),
        }
        None
    }
}

/// Id, batch, channel, status, attempts and time with commas between.
fn word(change: &Change) -> String {
    let Change { id, batch, channel, status, attempts, at } = change;
    let batch = batch.map(|batch| batch.0.simple().to_string()).unwrap_or_default();
    let (channel, status) = (channel.code(), status.code());
    format!("{},{batch},{channel},{status},{attempts},{}", id.0.simple(), at.micros())
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

    fn change(status: NotificationStatus) -> Change {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let batch = Some(BatchId(Uuid::now_v7()));
        Change { id: MessageId::new(), batch, channel: ChannelKind::InApp, status, attempts: 3, at }
    }

    fn say(from: &Abroad, to: &Abroad, is_watched: bool) -> Vec<Heard> {
        from.words(usize::MAX, is_watched).iter().filter_map(|word| to.hear(word)).collect()
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
        assert!(here.words(usize::MAX, true).is_empty(), "it has asked just now");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_watchers_asks_again_and_who_has_none_is_told_nothing_after_a_while() {
        let (here, there) = (Abroad::default(), Abroad::default());
        say(&here, &there, true);
        tokio::time::advance(ASK_EVERY).await;
        assert_eq!(here.words(usize::MAX, true), [ASK]);
        tokio::time::advance(HEARD_FOR + Duration::from_millis(1)).await;
        assert!(!here.hears_all());
        tokio::time::advance(ASKED_FOR).await;
        there.tell(&change(NotificationStatus::Queued), false);
        assert!(there.words(usize::MAX, false).is_empty());
    }

    #[test]
    fn a_node_that_was_deaf_is_asked_again() {
        let (here, there) = (Abroad::default(), Abroad::default());
        assert_eq!(here.words(usize::MAX, true), [ASK]);
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
            let words = there.words(1000, false);
            assert!(words.iter().map(|word| word.len() + 1).sum::<usize>() <= 1000);
            if words.is_empty() {
                break;
            }
            told += words.len();
        }
        assert_eq!(told, 100);
    }

    #[test]
    fn words_of_no_change_are_passed_over() {
        let node = Abroad::default();
        for word in ["", "look", "a,b", "00000000000000000000000000000000,,1,99,0,0", ",,,,,"] {
            assert_eq!(node.hear(word), None, "{word}");
        }
    }
}
