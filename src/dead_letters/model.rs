//! Dead letters and their replays, as the API shows them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::types::{EventId, MailingId, MessageId, ReplayId, Timestamp};
use crate::kinds::{ChannelKind, ErrorClass, coded_enum};
use crate::messages::model::MessageWithAttempts;

coded_enum! {
    /// What a dead letter is.
    LetterKind {
        /// A message that failed.
        Message = 1 "message",
        /// An event that could not be taken.
        Event = 2 "event",
    }
}

coded_enum! {
    /// Why nobody can replay a letter any more.
    Closed {
        /// Somebody dropped it.
        Dropped = 1 "dropped",
        /// It was kept for long enough.
        Expired = 2 "expired",
    }
}

coded_enum! {
    /// Where a replay of many is.
    ReplayStatus {
        /// Some letters are still to be replayed.
        Running = 1 "running",
        /// It came to the end.
        Finished = 2 "finished",
        /// Somebody stopped it; what was replayed stays so.
        Cancelled = 3 "cancelled",
    }
}

coded_enum! {
    /// Why a letter cannot be replayed now.
    Refusal {
        /// The window of its mailing has closed.
        WindowClosed = 1 "window_closed",
        /// Its mailing was cancelled.
        Cancelled = 2 "cancelled",
        /// The notification's `expires_at` has passed.
        Expired = 3 "expired",
        /// The client is gone, or still has no address on the channel.
        Unreachable = 4 "unreachable",
        /// The event still cannot be taken.
        Event = 5 "event",
    }
}

impl Refusal {
    /// The same as a sentence.
    pub fn why(self) -> &'static str {
        match self {
            Self::WindowClosed => "the window of its mailing has closed, and nothing is sent outside it",
            Self::Cancelled => "its mailing was cancelled",
            Self::Expired => "its expires_at has passed",
            Self::Unreachable => "its client is gone, or still has no address on the channel",
            Self::Event => "the event still cannot be taken",
        }
    }
}

/// A message that failed, or an event that could not be taken.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// The message's id; an event's letter has one of its own.
    pub id: MessageId,
    /// What it is.
    pub kind: LetterKind,
    /// Why it failed.
    pub class: ErrorClass,
    /// The same in words.
    #[schema(example = "the provider refused it (HTTP 400)")]
    pub error: String,
    /// When it failed.
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: Timestamp,
    /// How the message was to go out; null for an event.
    pub channel: Option<ChannelKind>,
    /// The mailing that the message is of.
    pub mailing_id: Option<MailingId>,
    /// The event that caused the message.
    pub event_id: Option<EventId>,
}

impl DeadLetter {
    /// Its place in the order in which letters failed.
    pub fn place(&self) -> Place {
        Place { at: self.failed_at, id: self.id }
    }
}

/// A letter with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadLetterDetails {
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The message with all its attempts; null for an event.
    pub message: Option<MessageWithAttempts>,
    /// What the event said; null for a message.
    pub event: Option<DeadEvent>,
    /// When it was replayed before, the first time first.
    pub replays: Vec<ReplayOfOne>,
}

/// A time that a message was replayed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReplayOfOne {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How many attempts had been made.
    #[schema(minimum = 0)]
    pub attempts: i16,
    /// The replay of many that it was a part of.
    pub replay_id: Option<ReplayId>,
}

/// An event that could not be taken.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadEvent {
    /// The id of its letter.
    #[serde(skip)]
    pub id: MessageId,
    /// Where it came from: the code of the event's source.
    #[serde(skip)]
    pub source: i16,
    /// What it was published under.
    #[schema(example = "orders.created")]
    pub subject: String,
    /// The sender's own id for it.
    pub key: Option<String>,
    /// Its type, where a header of the broker named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// What it said; bytes that are no UTF-8 are shown as U+FFFD.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub body: Vec<u8>,
    /// How many times it was tried.
    #[schema(minimum = 0)]
    pub tries: i32,
    /// When it came in.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
}

fn as_text<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// An event to be kept as a dead letter.
#[derive(Debug, Clone)]
pub struct NewDeadEvent {
    /// The same whenever the same event is given up: it is kept once.
    pub id: MessageId,
    /// The code of the event's source.
    pub source: i16,
    /// What it was published under.
    pub subject: String,
    /// The sender's own id for it.
    pub key: Option<String>,
    /// Its type, where a header of the broker named it.
    pub name: Option<String>,
    /// What it said.
    pub body: Vec<u8>,
    /// How many times it was tried.
    pub tries: i32,
    /// Why it could not be taken, in words that repeat nothing of it.
    pub error: String,
    /// When it came in.
    pub received_at: Timestamp,
}

/// A letter that was replayed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReplayedLetter {
    /// The letter's id.
    pub id: MessageId,
    /// What it was.
    pub kind: LetterKind,
    /// The message, which waits again; null for an event.
    pub message: Option<MessageWithAttempts>,
}

/// Which letters; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LetterFilter {
    /// Of this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel: Option<ChannelKind>,
    /// That failed for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub class: Option<ErrorClass>,
    /// Of this mailing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mailing_id: Option<MailingId>,
    /// That this event caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<EventId>,
    /// Messages, or events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<LetterKind>,
    /// That failed at this time or later.
    #[serde(default, deserialize_with = "stored_time", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub failed_after: Option<Timestamp>,
    /// That failed before this time.
    #[serde(default, deserialize_with = "stored_time", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub failed_before: Option<Timestamp>,
}

/// As [`Timestamp`] writes itself.
fn stored_time<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Timestamp>, D::Error> {
    let at = Option::<chrono::DateTime<chrono::Utc>>::deserialize(reader)?;
    Ok(at.map(Timestamp::from_datetime))
}

/// A part of the letters that a filter lets through, which stand together in the order of their failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Whatever their channel and class.
    All,
    /// Messages of this channel that failed for this reason.
    Kind(ChannelKind, ErrorClass),
    /// Events.
    Events,
}

impl LetterFilter {
    /// Where to look for them, each part a walk along an index: those of one mailing or event stand together, those of one
    /// channel or class do so for each pair of both.
    pub fn walks(&self) -> Vec<Walk> {
        let of_messages = |class: &ErrorClass| *class != ErrorClass::Poison;
        let may_be_event = self.kind != Some(LetterKind::Message)
            && self.channel.is_none()
            && self.class.is_none_or(|class| class == ErrorClass::Poison)
            && self.mailing_id.is_none()
            && self.event_id.is_none();
        let may_be_message = self.kind != Some(LetterKind::Event) && self.class != Some(ErrorClass::Poison);
        match (may_be_message, may_be_event) {
            (false, false) => return Vec::new(),
            (false, true) => return vec![Walk::Events],
            (true, _) => {}
        }
        let stands_together = self.mailing_id.is_some() || self.event_id.is_some();
        if stands_together || (self.channel.is_none() && self.class.is_none()) {
            return vec![Walk::All];
        }
        let channels: Vec<ChannelKind> =
            self.channel.map_or_else(|| ChannelKind::ALL.to_vec(), |channel| vec![channel]);
        let classes: Vec<ErrorClass> = self.class.map_or_else(
            || ErrorClass::ALL.iter().copied().filter(of_messages).collect(),
            |class| vec![class],
        );
        let pairs = channels.iter().flat_map(|channel| classes.iter().map(|class| (*channel, *class)));
        pairs.map(|(channel, class)| Walk::Kind(channel, class)).collect()
    }
}

/// A letter's place in the order in which letters failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it failed.
    pub at: Timestamp,
    /// Among those that failed then.
    pub id: MessageId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.micros(), self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        let at = Timestamp::from_micros(at.parse().map_err(|_| ())?);
        Ok(Self { at, id: id.parse().map_err(|_| ())? })
    }
}

/// Replays all that a filter lets through and that had failed when it was asked for, in the background.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Where it is.
    pub status: ReplayStatus,
    /// Which letters.
    pub filter: LetterFilter,
    /// How many a second at most.
    #[schema(example = 500.0)]
    pub rate_per_second: f64,
    /// How many wait again.
    #[schema(minimum = 0)]
    pub replayed: i64,
    /// How many could not be, and stay; the sum of `refusals`.
    #[schema(minimum = 0)]
    pub refused: i64,
    /// How many could not be, by the reason.
    #[schema(value_type = BTreeMap<String, i64>, example = json!({"window_closed": 12}))]
    pub refusals: BTreeMap<Refusal, i64>,
    /// When it was asked for: what fails later is no part of it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// What was dropped by a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct DroppedLetters {
    /// How many letters.
    #[schema(minimum = 0)]
    pub dropped: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_filter() -> impl Strategy<Value = LetterFilter> {
        let word = |count: usize| proptest::option::of(0..count);
        (word(ChannelKind::ALL.len()), word(ErrorClass::ALL.len()), word(2), any::<bool>(), any::<bool>())
            .prop_map(|(channel, class, kind, mailing, event)| LetterFilter {
                channel: channel.map(|i| ChannelKind::ALL[i]),
                class: class.map(|i| ErrorClass::ALL[i]),
                kind: kind.map(|i| LetterKind::ALL[i]),
                mailing_id: mailing.then(MailingId::new),
                event_id: event.then(EventId::new),
                failed_after: Some(Timestamp::from_micros(1)),
                failed_before: None,
            })
    }

    proptest! {
        /// Each letter that could pass the filter is found on exactly one of its walks.
        #[test]
        fn walks_cover_what_the_filter_lets_through_once(filter in any_filter(), channel in 0..6usize, class in 0..6usize) {
            let (channel, class) = (ChannelKind::ALL[channel], ErrorClass::ALL[class]);
            let is_event = class == ErrorClass::Poison;
            let passes = if is_event {
                filter.channel.is_none() && filter.mailing_id.is_none() && filter.event_id.is_none()
                    && filter.class.is_none_or(|c| c == class) && filter.kind != Some(LetterKind::Message)
            } else {
                filter.channel.is_none_or(|c| c == channel) && filter.class.is_none_or(|c| c == class)
                    && filter.kind != Some(LetterKind::Event)
            };
            let covers = |walk: &Walk| match walk {
                Walk::All => true,
                Walk::Kind(on, of) => !is_event && (*on, *of) == (channel, class),
                Walk::Events => is_event,
            };
            let found = filter.walks().iter().filter(|walk| covers(walk)).count();
            prop_assert!(if passes { found == 1 } else { found <= 1 }, "{filter:?} {channel} {class}: {found}");
        }
    }

    #[test]
    fn a_filter_and_a_place_read_back_as_they_were_written() {
        let filter = LetterFilter {
            class: Some(ErrorClass::Gone),
            failed_before: Some(Timestamp::from_micros(1_790_000_000_123_456)),
            ..LetterFilter::default()
        };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<LetterFilter>(&text).unwrap(), filter);
        let place = Place { at: Timestamp::from_micros(1_790_000_000_123_456), id: MessageId::new() };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!("nope".parse::<Place>().is_err() && "1.2".parse::<Place>().is_err());
    }
}
