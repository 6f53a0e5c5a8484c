//! Events from a broker: parsed as the API parses them, and kept or stored as dead letters when refused.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use serde::Deserialize;

use super::schema::EventBody;
use crate::broker::{EventResult, Incoming, Intake, Position, Positions, Step, digest_of};
use crate::clock::Clock;
use crate::db::Db;
use crate::dead_letters::model::{DeadEvent, NewDeadEvent};
use crate::dead_letters::usecase::{AcceptEvent, store_event};
use crate::error::{Error, FieldError, Result, shortened};
use crate::events::model::{Source, key};
use crate::events::positions;
use crate::events::refused::{RefusedRow, SourceRecord, escaped, letter_of, line};
use crate::events::usecase::{self, AcceptOutcome, Events, ParsedEvent};
use crate::http::json::parse_object;

/// The longest subject or event type that is stored with a refused event, in characters. No valid one is as long.
const LONGEST_NAME: usize = 500;

/// Takes the events of a broker, and its dead letters when they are replayed. Cheap to clone.
#[derive(Clone)]
pub struct FromBroker {
    events: Arc<Events>,
    db: Db,
    clock: Clock,
    /// The number of tries after which a Kafka record becomes a dead letter.
    most_tries: u64,
}

impl FromBroker {
    /// Creates an intake into these events. After `most_tries` a Kafka record becomes a dead letter.
    pub fn new(events: Arc<Events>, db: Db, clock: Clock, most_tries: u64) -> Self {
        Self { events, db, clock, most_tries }
    }

    /// Takes the records of a partition.
    async fn take_records(&self, events: Vec<Incoming>, step: Step) -> Result<Option<Vec<EventResult>>> {
        let wanted = |mut event: Incoming| {
            if let Err(why) = key(event.key.clone()) {
                event.fault.get_or_insert(format!("its id header {why}"));
            }
            let name = BrokerNames { subject: &event.subject, key: &event.key, event: event.name.as_deref() };
            let wanted = match &event.fault {
                Some(fault) => Err(vec![FieldError::new("record", fault.clone())]),
                None => read(&name, &event.body),
            };
            let Incoming { subject, key, name, body, fault, .. } = storable(event);
            // a slice would keep the whole fetched buffer in memory
            let body = if wanted.is_err() { Bytes::copy_from_slice(&body) } else { body };
            (wanted, SourceRecord { subject, key, name, body, fault, most_tries: self.most_tries })
        };
        let records = events.into_iter().map(wanted).collect();
        self.events.accept_records(records, step).await.map_err(busy_is_away)
    }
}

/// Converts [`Error::Busy`] to an outage, so that the reader retries.
fn busy_is_away(error: Error) -> Error {
    match error {
        Error::Busy(why) => Error::Unavailable(why.into()),
        other => other,
    }
}

/// Replaces names that cannot be stored. Publishers choose them freely: PostgreSQL refuses some characters, and a header
/// may be megabytes long.
fn storable(event: Incoming) -> Incoming {
    let key = if key(event.key.clone()).is_ok() {
        event.key
    } else {
        // the same id again for the same header, so that a dead letter is still replayed once
        format!("sha256:{}", digest_of(&event.key))
    };
    let name = event.name.map(|name| printable(&name));
    Incoming { key, name, subject: printable(&event.subject), ..event }
}

/// Escapes control characters and cuts the text short.
fn printable(text: &str) -> String {
    shortened(escaped(text).into_owned(), LONGEST_NAME)
}

/// The names that a broker gives to an event.
struct BrokerNames<'a> {
    /// The subject, or the place of the record.
    subject: &'a str,
    /// The id. If it equals the subject, an id in the body replaces it.
    key: &'a str,
    /// The type from a header, if there is one.
    event: Option<&'a str>,
}

/// Parses an event as the API does, with the id that the broker gives it.
fn read(name: &BrokerNames<'_>, body: &[u8]) -> ParsedEvent {
    let read = || {
        let id = key(name.key.to_owned()).map_err(|why| Error::invalid("id header", why))?;
        let body = match name.event {
            Some(event) => named(event, body)?,
            None => Cow::Borrowed(body),
        };
        let mut body: EventBody = parse_object(&body)?;
        if body.id.is_none() || name.key != name.subject {
            body.id = Some(id);
        }
        body.into_new()
    };
    read().map_err(|error| match error {
        Error::Invalid(fields) => fields,
        other => vec![FieldError::new("body", other.to_string())],
    })
}

/// Adds the type of a header to the body, if the body has none.
fn named<'a>(event: &str, body: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    #[derive(Deserialize)]
    struct Peek {
        event: Option<String>,
    }
    // anything but an object is refused by the parser that follows
    let Ok(Peek { event: own }) = serde_json::from_slice(body) else { return Ok(Cow::Borrowed(body)) };
    if let Some(own) = own {
        let is_same = own == event;
        let differs = || Error::invalid("event", format!("is `{own}`, and `{event}` in the header"));
        return if is_same { Ok(Cow::Borrowed(body)) } else { Err(differs()) };
    }
    let Some(begin) = body.iter().position(|byte| *byte == b'{') else { return Ok(Cow::Borrowed(body)) };
    let (before, rest) = body.split_at(begin + 1);
    let is_empty = rest.trim_ascii_start().starts_with(b"}");
    let value = serde_json::to_vec(event).map_err(|e| Error::Internal(e.into()))?;
    let comma: &[u8] = if is_empty { b"" } else { b"," };
    Ok(Cow::Owned([before, br#""event":"#, &value, comma, rest].concat()))
}

/// Parses a refused record again.
pub fn read_again(row: &RefusedRow) -> ParsedEvent {
    read(&BrokerNames { subject: &row.subject, key: &row.key, event: row.name.as_deref() }, &row.body)
}

impl Intake for FromBroker {
    fn take(
        &self,
        events: Vec<Incoming>,
        step: Option<Step>,
    ) -> BoxFuture<'_, Result<Option<Vec<EventResult>>>> {
        if let Some(step) = step {
            return Box::pin(self.take_records(events, step));
        }
        Box::pin(async move {
            let read = |event: Incoming| {
                let name =
                    BrokerNames { subject: &event.subject, key: &event.key, event: event.name.as_deref() };
                read(&name, &event.body)
            };
            let wanted = events.into_iter().map(read).collect();
            let outcome = self.events.accept_all(wanted, Source::Broker, None).await.map_err(busy_is_away)?;
            let result = |taken: usecase::AcceptResult| match taken {
                Ok(_) => EventResult::Stored,
                Err(wrong) => EventResult::Refused(line(&wrong)),
            };
            match outcome {
                AcceptOutcome::Accepted(taken) => Ok(Some(taken.into_iter().map(result).collect())),
                AcceptOutcome::Before(_) => {
                    Err(Error::internal("events of the broker have no key of a request"))
                }
            }
        })
    }

    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>> {
        let now = self.clock.now();
        let event = storable(event);
        let dead = NewDeadEvent {
            id: letter_of(&event.key),
            source: Source::Broker.code(),
            subject: event.subject,
            key: Some(event.key),
            name: event.name,
            body: event.body.to_vec(),
            tries: i32::try_from(event.tries).unwrap_or(i32::MAX),
            error: reason,
            received_at: now,
        };
        Box::pin(store_event(&self.db, dead, now))
    }
}

impl Positions for FromBroker {
    fn of_topic(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Vec<Position>>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        Box::pin(self.db.read(move |c| positions::of_topic(c, &group, &topic)))
    }

    fn begin(&self, new: Vec<Position>) -> BoxFuture<'_, Result<()>> {
        let now = self.clock.now();
        Box::pin(self.db.write(move |c| positions::begin(c, &new, now)))
    }

    fn replace(&self, was: Position, is: Position) -> BoxFuture<'_, Result<bool>> {
        let now = self.clock.now();
        Box::pin(self.db.write(move |c| positions::replace(c, &was, &is, now)))
    }
}

impl AcceptEvent for FromBroker {
    fn take(&self, event: DeadEvent) -> BoxFuture<'static, Result<()>> {
        let this = self.clone();
        Box::pin(async move {
            let id = event.key.unwrap_or_else(|| event.id.to_string());
            let name = BrokerNames { subject: &event.subject, key: &id, event: event.name.as_deref() };
            let event = read(&name, &event.body).map_err(Error::Invalid)?;
            this.events.accept(event, Source::Broker, None).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(key: &str) -> BrokerNames<'_> {
        BrokerNames { subject: "orders/0/7", key, event: None }
    }

    #[test]
    fn the_key_of_the_broker_replaces_the_id_in_the_body() {
        let body = br#"{"event": "order.shipped", "id": "own", "targets": {"buyer": "b-1"}}"#;
        assert_eq!(read(&named_by("k-1"), body).unwrap().key.as_deref(), Some("k-1"));
        assert_eq!(letter_of("k-1"), letter_of("k-1"));
        assert_ne!(letter_of("k-1"), letter_of("k-2"));
    }

    #[test]
    fn an_id_in_the_body_replaces_a_place() {
        let id = |body: &[u8]| read(&named_by("orders/0/7"), body).unwrap().key;
        assert_eq!(id(br#"{"event": "order.shipped", "id": "own"}"#).as_deref(), Some("own"));
        assert_eq!(id(br#"{"event": "order.shipped"}"#).as_deref(), Some("orders/0/7"));
    }

    #[test]
    fn names_that_cannot_be_stored_are_replaced() {
        let event = |key: &str, name: &str| {
            let (subject, key, name) = ("orders/0/7".to_owned(), key.to_owned(), Some(name.to_owned()));
            let body = Bytes::new();
            storable(Incoming { subject, key, name, offset: 7, body, tries: 1, fault: None })
        };
        let kept = event("k-1", "order.paid");
        assert_eq!((kept.key.as_str(), kept.name.as_deref()), ("k-1", Some("order.paid")));
        for hostile in ["a\0b", "two words", "\u{fffd}", &"x".repeat(1_000_000)] {
            let replaced = event(hostile, hostile);
            assert!(key(replaced.key.clone()).is_ok() && replaced.key.starts_with("sha256:"), "{hostile:?}");
            assert_eq!(replaced.key, event(hostile, "").key);
            let name = replaced.name.unwrap();
            assert!(name.chars().count() <= LONGEST_NAME + 1 && !name.contains('\0'), "{hostile:?}");
        }
    }

    #[test]
    fn a_header_may_name_the_type() {
        let read =
            |body: &str| read(&BrokerNames { event: Some("order.paid"), ..named_by("k") }, body.as_bytes());
        for body in
            [" {}", r#"{"payload": {"event": 1}}"#, r#"{"event": "order.paid"}"#, r#"{"event": null}"#]
        {
            let event = read(body);
            match body.contains("null") {
                false => assert_eq!(event.unwrap().name.to_string(), "order.paid", "{body}"),
                // twice, and once without a value
                true => assert!(event.is_err()),
            }
        }
        let wrong = line(&read(r#"{"event": "order.lost"}"#).unwrap_err());
        assert_eq!(wrong, "event: is `order.lost`, and `order.paid` in the header");
        assert!(line(&read("[]").unwrap_err()).starts_with("body: "));
    }

    #[test]
    fn complaints_are_joined_into_one_line() {
        for (key, body, says) in [
            ("k", "nonsense", "body: "),
            ("k", "[]", "body: "),
            ("k", "{}", "event: "),
            ("k", r#"{"event": "a", "colour": 1}"#, "colour: "),
            ("two words", r#"{"event": "a"}"#, "id header: "),
        ] {
            let wrong = read(&named_by(key), body.as_bytes()).unwrap_err();
            assert!(line(&wrong).starts_with(says), "{body}: {}", line(&wrong));
        }
    }
}
