//! Exchanges changes of notifications and inboxes between nodes: the final states of notifications that callers wait
//! for, and every change while another node has subscribers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::event::Change;
use super::inboxes::InboxChange;
use crate::db::types::{BatchId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, NotificationStatus};

/// The largest number of changes that wait to be sent. If there are more, the other nodes are told that they missed
/// some.
const MOST: usize = 20_000;
/// The interval at which a node with subscribers asks the others for changes.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// The time for which the other nodes send changes after a request.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// The time after a request for which a node has received all changes. It is shorter than [`ASKED_FOR`] by the time
/// that a message may take.
const HEARD_FOR: Duration = Duration::from_secs(25);
/// The time within which a request reaches the other nodes.
pub const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The word of a node that was disconnected for a while: the nodes with subscribers have to ask again.
const HERE: &str = "here";

/// A change that is sent while another node asks for it.
trait PeerChange: Copy {
    /// The word that asks for these changes.
    const ASK: &str;
    /// The word for lost changes.
    const MISSED: &str;
    /// Returns the word for this change, without a space.
    fn word(&self) -> String;
}

impl PeerChange for Change {
    const ASK: &str = "watch";
    const MISSED: &str = "missed";

    /// Formats id, batch, channel, status, attempts and time, separated by commas.
    fn word(&self) -> String {
        let Change { id, batch, channel, status, attempts, at } = self;
        let batch = batch.map(|batch| batch.0.simple().to_string()).unwrap_or_default();
        let (channel, status) = (channel.code(), status.code());
        format!("{},{batch},{channel},{status},{attempts},{}", id.0.simple(), at.micros())
    }
}

impl PeerChange for InboxChange {
    const ASK: &str = "watch-inboxes";
    const MISSED: &str = "missed-inboxes";

    fn word(&self) -> String {
        self.to_string()
    }
}

/// The changes to send to the other nodes.
#[derive(Default)]
pub struct Peers {
    state: Mutex<PeerState>,
    /// Notified when there may be words to send.
    pub news: Notify,
}

#[derive(Default)]
struct PeerState {
    /// The final states of notifications that callers wait for.
    awaited: VecDeque<Change>,
    notifications: PeerTopic<Change>,
    inboxes: PeerTopic<InboxChange>,
    here: bool,
}

struct PeerTopic<C> {
    changes: VecDeque<C>,
    missed: bool,
    /// The time until which another node wants changes.
    wanted_until: Option<Instant>,
    asked_at: Option<Instant>,
    /// The time since which this node has asked without a break.
    since: Option<Instant>,
}

impl<C> Default for PeerTopic<C> {
    fn default() -> Self {
        Self { changes: VecDeque::new(), missed: false, wanted_until: None, asked_at: None, since: None }
    }
}

impl<C: PeerChange> PeerTopic<C> {
    /// Queues a change if another node wants it. Returns true if there is a word to send.
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
        // changes are sent only while another node asks for them
        self.missed |= self.wanted_until.is_some();
        self.asked_at = None;
    }

    fn hears_all(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() <= HEARD_FOR)
    }

    /// Adds the words that come before the changes.
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

/// The words of one payload.
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

    /// Takes changes from the front while they fit.
    fn drain<C: PeerChange>(&mut self, changes: &mut VecDeque<C>) {
        while let Some(change) = changes.front()
            && self.add(change.word())
        {
            changes.pop_front();
        }
    }
}

/// A word of another node.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The status of a notification changed.
    Change(Change),
    /// Changes of notifications were lost.
    Missed,
    /// A user's inbox changed.
    Inbox(InboxChange),
    /// Changes of inboxes were lost.
    InboxesMissed,
}

impl Peers {
    fn state(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a change if another node wants it.
    pub fn tell(&self, change: &Change, is_awaited: bool) {
        let mut state = self.state();
        if is_awaited && change.status.is_final() {
            state.awaited.push_back(*change);
        } else if !state.notifications.tell(change) {
            return;
        }
        self.news.notify_one();
    }

    /// Queues a change of an inbox if another node wants it.
    pub fn tell_inbox(&self, change: &InboxChange) {
        if self.state().inboxes.tell(change) {
            self.news.notify_one();
        }
    }

    /// Handles the loss of the words taken last.
    pub fn failed(&self) {
        let mut state = self.state();
        state.notifications.failed();
        state.inboxes.failed();
    }

    /// Handles a reconnection: this node may have missed requests of other nodes.
    pub fn was_deaf(&self) {
        let mut state = self.state();
        state.here = true;
        state.notifications.asked_at = None;
        state.inboxes.asked_at = None;
        self.news.notify_one();
    }

    /// Returns true if this node has received all changes of notifications since its subscribers asked for them.
    pub fn hears_all(&self) -> bool {
        self.state().notifications.hears_all()
    }

    /// Returns true if this node has received all changes of inboxes since its subscribers asked for them.
    pub fn hears_of_inboxes(&self) -> bool {
        self.state().inboxes.hears_all()
    }

    /// Returns true if this has been so for [`SETTLED_AFTER`], within which the request reaches the other nodes.
    pub fn is_settled_on_inboxes(&self) -> bool {
        let state = self.state();
        state.inboxes.hears_all() && state.inboxes.since.is_some_and(|since| since.elapsed() >= SETTLED_AFTER)
    }

    /// Takes words up to a length in bytes; empty if there are none. `watched` is true if this node has subscribers to
    /// notifications, and to inboxes.
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

    /// Handles a word of another node. Returns `None` if it contains no change, or is unknown.
    pub fn hear(&self, word: &str) -> Option<PeerEvent> {
        match word {
            Change::ASK => self.state().notifications.want(),
            InboxChange::ASK => self.state().inboxes.want(),
            HERE => {
                let mut state = self.state();
                state.notifications.asked_at = None;
                state.inboxes.asked_at = None;
                self.news.notify_one();
            }
            Change::MISSED => return Some(PeerEvent::Missed),
            InboxChange::MISSED => return Some(PeerEvent::InboxesMissed),
            _ => {
                let of_inbox = || word.parse().ok().map(PeerEvent::Inbox);
                return change(word).map(PeerEvent::Change).or_else(of_inbox);
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
    use crate::live::inboxes::{InboxChangeKind, UserKey};

    fn change(status: NotificationStatus) -> Change {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let batch = Some(BatchId(Uuid::now_v7()));
        Change { id: MessageId::new(), batch, channel: ChannelKind::InApp, status, attempts: 3, at }
    }

    fn say(from: &Peers, to: &Peers, is_watched: bool) -> Vec<PeerEvent> {
        from.words(usize::MAX, (is_watched, false)).iter().filter_map(|word| to.hear(word)).collect()
    }

    #[test]
    fn changes_go_to_nodes_that_asked_and_final_states_to_waiting_callers() {
        let (here, there) = (Peers::default(), Peers::default());
        let (sent, queued) = (change(NotificationStatus::Sent), change(NotificationStatus::Queued));
        there.tell(&sent, false);
        there.tell(&queued, true);
        assert_eq!(say(&there, &here, false), [], "no node asked, and callers wait only for final states");
        there.tell(&sent, true);
        assert_eq!(say(&there, &here, false), [PeerEvent::Change(sent)]);
        assert!(!here.hears_all());
        assert_eq!(say(&here, &there, true), []);
        assert!(here.hears_all());
        let alone = Change { batch: None, ..queued };
        there.tell(&queued, false);
        there.tell(&alone, false);
        there.tell(&sent, true);
        assert_eq!(
            say(&there, &here, false),
            [PeerEvent::Change(sent), PeerEvent::Change(queued), PeerEvent::Change(alone)]
        );
        assert!(here.words(usize::MAX, (true, false)).is_empty(), "it has just asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_with_subscribers_asks_again_and_one_without_gets_no_changes_after_a_while() {
        let (here, there) = (Peers::default(), Peers::default());
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
    fn a_node_that_reconnected_is_asked_again() {
        let (here, there) = (Peers::default(), Peers::default());
        assert_eq!(here.words(usize::MAX, (true, false)), [Change::ASK]);
        there.was_deaf();
        assert_eq!(say(&there, &here, false), []);
        assert_eq!(say(&here, &there, true), []);
        there.tell(&change(NotificationStatus::Queued), false);
        assert_eq!(say(&there, &here, false).len(), 1);
    }

    #[test]
    fn too_many_changes_are_dropped_and_reported_as_missed() {
        let (here, there) = (Peers::default(), Peers::default());
        say(&here, &there, true);
        let sent = change(NotificationStatus::Sent);
        (0..=MOST).for_each(|_| there.tell(&sent, false));
        there.tell(&sent, true);
        assert_eq!(say(&there, &here, false), [PeerEvent::Missed, PeerEvent::Change(sent)]);
        there.failed();
        assert_eq!(say(&there, &here, false), [PeerEvent::Missed]);
    }

    #[test]
    fn a_payload_keeps_its_length_limit() {
        let (here, there) = (Peers::default(), Peers::default());
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
    fn inboxes_are_exchanged_separately() {
        let (here, there) = (Peers::default(), Peers::default());
        let of_inbox = InboxChange {
            user: UserKey::of("u1"),
            what: InboxChangeKind::Delivered,
            message: Some(MessageId::new()),
            at: Timestamp::from_micros(1_700_000_000_123_456),
        };
        let all_read = InboxChange { what: InboxChangeKind::AllRead, message: None, ..of_inbox };
        there.tell_inbox(&of_inbox);
        assert!(there.words(usize::MAX, (false, false)).is_empty(), "no node asked");
        assert_eq!(here.words(usize::MAX, (false, true)), [InboxChange::ASK]);
        assert!((here.hears_of_inboxes(), here.hears_all()) == (true, false));
        assert_eq!(there.hear(InboxChange::ASK), None);
        there.tell_inbox(&of_inbox);
        there.tell_inbox(&all_read);
        there.tell(&change(NotificationStatus::Queued), false);
        assert_eq!(say(&there, &here, false), [PeerEvent::Inbox(of_inbox), PeerEvent::Inbox(all_read)]);
        (0..=MOST).for_each(|_| there.tell_inbox(&of_inbox));
        assert_eq!(say(&there, &here, false), [PeerEvent::InboxesMissed]);
        there.was_deaf();
        say(&there, &here, false);
        assert!(!here.hears_of_inboxes());
    }

    #[test]
    fn words_without_a_change_are_ignored() {
        let node = Peers::default();
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
