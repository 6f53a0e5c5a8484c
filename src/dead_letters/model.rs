//! Dead letters and their replays, with their JSON form in the API.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::types::{EventId, MailingId, MessageId, ReplayId, Timestamp};
use crate::kinds::{ChannelKind, ErrorClass, coded_enum};
use crate::messages::model::MessageWithAttempts;

coded_enum! {
    /// The kind of a dead letter.
    LetterKind {
        /// A message that failed.
        Message = 1 "message",
        /// An event that could not be accepted.
        Event = 2 "event",
    }
}

coded_enum! {
    /// The reason why a dead letter can no longer be replayed.
    Closed {
        /// A caller dropped it.
        Dropped = 1 "dropped",
        /// Its retention ended.
        Expired = 2 "expired",
    }
}

coded_enum! {
    /// The status of a replay by filter.
    ReplayStatus {
        /// It has not processed all of its dead letters.
        Running = 1 "running",
        /// It has processed all of its dead letters.
        Finished = 2 "finished",
        /// A caller cancelled it; the messages that it replayed are unaffected.
        Cancelled = 3 "cancelled",
    }
}

coded_enum! {
    /// The reason why a dead letter cannot be replayed now.
    Refusal {
        /// The window of its mailing has closed.
        WindowClosed = 1 "window_closed",
        /// Its mailing was cancelled.
        Cancelled = 2 "cancelled",
        /// The notification's `expires_at` has passed.
        Expired = 3 "expired",
        /// The client was deleted, or still has no address on the channel.
        Unreachable = 4 "unreachable",
        /// The event was refused again.
        Event = 5 "event",
    }
}

impl Refusal {
    /// Returns the reason as a clause for a problem's detail.
    pub fn why(self) -> &'static str {
        match self {
            Self::WindowClosed => "the window of its mailing has closed",
            Self::Cancelled => "its mailing was cancelled",
            Self::Expired => "its expires_at has passed",
            Self::Unreachable => "its client was deleted, or still has no address on the channel",
            Self::Event => "the event was refused again",
        }
    }
}

/// A message that failed, or an event that could not be accepted.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// The message's id. The dead letter of an event has an id of its own.
    pub id: MessageId,
    /// A message or an event.
    pub kind: LetterKind,
    /// The class of the failure.
    pub class: ErrorClass,
    /// The reason of the failure.
    #[schema(example = "the provider returned 400 Bad Request")]
    pub error: String,
    /// The time of the failure.
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: Timestamp,
    /// The channel of the message; null for an event.
    pub channel: Option<ChannelKind>,
    /// The mailing that the message belongs to.
    pub mailing_id: Option<MailingId>,
    /// The event that caused the message.
    pub event_id: Option<EventId>,
}

impl DeadLetter {
    /// Returns its position in lists, which are ordered by the time of the failure.
    pub fn place(&self) -> DeadLetterPosition {
        DeadLetterPosition { at: self.failed_at, id: self.id }
    }
}

/// A dead letter with its message or event, and its replays.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadLetterDetails {
    /// The dead letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The message with its attempts; null for an event.
    pub message: Option<MessageWithAttempts>,
    /// The event; null for a message.
    pub event: Option<DeadEvent>,
    /// Its previous replays, the oldest first.
    pub replays: Vec<ReplayOfOne>,
}

/// One replay of a message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReplayOfOne {
    /// The time of the replay.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The number of attempts before the replay.
    #[schema(minimum = 0)]
    pub attempts: i16,
    /// The replay by filter that it was part of.
    pub replay_id: Option<ReplayId>,
}

/// An event that could not be accepted.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadEvent {
    /// The id of its dead letter.
    #[serde(skip)]
    pub id: MessageId,
    /// The code of the event's source.
    #[serde(skip)]
    pub source: i16,
    /// The NATS subject, or the topic, partition and offset of the Kafka record.
    #[schema(example = "orders.created")]
    pub subject: String,
    /// The sender's id of the event.
    pub key: Option<String>,
    /// The event's type, if a header of the broker's record names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// The event's body. Bytes that are not UTF-8 are replaced by U+FFFD.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub body: Vec<u8>,
    /// The number of tries.
    #[schema(minimum = 0)]
    pub tries: i32,
    /// The time at which it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
}

fn as_text<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// An event to store as a dead letter.
#[derive(Debug, Clone)]
pub struct NewDeadEvent {
    /// The id, which is derived from the event, so that the same event is stored once.
    pub id: MessageId,
    /// The code of the event's source.
    pub source: i16,
    /// The NATS subject, or the topic, partition and offset of the Kafka record.
    pub subject: String,
    /// The sender's id of the event.
    pub key: Option<String>,
    /// The event's type, if a header of the broker's record names it.
    pub name: Option<String>,
    /// The event's body.
    pub body: Vec<u8>,
    /// The number of tries.
    pub tries: i32,
    /// The reason why it could not be accepted.
    pub error: String,
    /// The time at which it was received.
    pub received_at: Timestamp,
}

/// A replayed dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReplayedLetter {
    /// The id of the dead letter.
    pub id: MessageId,
    /// A message or an event.
    pub kind: LetterKind,
    /// The message, which is queued again; null for an event.
    pub message: Option<MessageWithAttempts>,
}

/// A filter of dead letters; all given conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LetterFilter {
    /// Messages of this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel: Option<ChannelKind>,
    /// Dead letters of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub class: Option<ErrorClass>,
    /// Messages of this mailing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mailing_id: Option<MailingId>,
    /// Messages that this event caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<EventId>,
    /// Only messages, or only events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<LetterKind>,
    /// Failures at this time or later.
    #[serde(default, deserialize_with = "stored_time", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub failed_after: Option<Timestamp>,
    /// Failures before this time.
    #[serde(default, deserialize_with = "stored_time", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub failed_before: Option<Timestamp>,
}

/// Deserializes a time in the form in which [`Timestamp`] is serialized.
fn stored_time<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Timestamp>, D::Error> {
    let at = Option::<chrono::DateTime<chrono::Utc>>::deserialize(reader)?;
    Ok(at.map(Timestamp::from_datetime))
}

/// A part of the dead letters that match a filter. An index holds each part in the order of the failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Dead letters of every channel and class.
    All,
    /// Messages of this channel and class.
    Kind(ChannelKind, ErrorClass),
    /// Events.
    Events,
}

impl LetterFilter {
    /// Returns the index walks that find the matching dead letters. The dead letters of one mailing or event are
    /// adjacent in an index. The dead letters of one channel or class are adjacent for each pair of a channel and a
    /// class.
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

/// The position of a dead letter in the order of the failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterPosition {
    /// The time of the failure.
    pub at: Timestamp,
    /// The id, which orders dead letters of the same time.
    pub id: MessageId,
}

impl fmt::Display for DeadLetterPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.micros(), self.id)
    }
}

impl FromStr for DeadLetterPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        let at = Timestamp::from_micros(at.parse().map_err(|_| ())?);
        Ok(Self { at, id: id.parse().map_err(|_| ())? })
    }
}

/// A replay by filter. It replays, in the background, the matching dead letters that existed when it was created.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Replay {
    /// The id.
    pub id: ReplayId,
    /// The status.
    pub status: ReplayStatus,
    /// The dead letters to replay.
    pub filter: LetterFilter,
    /// The highest rate, in dead letters per second.
    #[schema(example = 500.0)]
    pub rate_per_second: f64,
    /// The number of dead letters that were replayed.
    #[schema(minimum = 0)]
    pub replayed: i64,
    /// The number of dead letters that could not be replayed and remain: the sum of `refusals`.
    #[schema(minimum = 0)]
    pub refused: i64,
    /// The number of dead letters that could not be replayed, by the reason.
    #[schema(value_type = BTreeMap<String, i64>, example = json!({"window_closed": 12}))]
    pub refusals: BTreeMap<Refusal, i64>,
    /// The time of its creation. Later failures are not part of it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time at which it finished or was cancelled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// The result of dropping dead letters by a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct DroppedLetters {
    /// The number of dropped dead letters.
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
        /// Checks that exactly one walk finds each dead letter that may match the filter.
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
        let place =
            DeadLetterPosition { at: Timestamp::from_micros(1_790_000_000_123_456), id: MessageId::new() };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!(
            "nope".parse::<DeadLetterPosition>().is_err() && "1.2".parse::<DeadLetterPosition>().is_err()
        );
    }
}
