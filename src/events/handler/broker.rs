//! Events from a broker: read as the API reads them, kept or buried when they cannot be taken.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use serde::Deserialize;

use super::schema::EventBody;
use crate::broker::{Incoming, Intake, Position, Positions, Step, Taken};
use crate::clock::Clock;
use crate::db::Db;
use crate::dead_letters::model::{DeadEvent, NewDeadEvent};
use crate::dead_letters::usecase::{TakeEvent, bury};
use crate::error::{Error, FieldError, Result};
use crate::events::model::{Source, key};
use crate::events::positions;
use crate::events::refused::{Record, RefusedRow, letter_of, line};
use crate::events::usecase::{self, Events, Outcome, Wanted};
use crate::http::json::parse_object;

/// Takes what a broker delivers, and what of it was buried and is replayed; cloning it is cheap.
#[derive(Clone)]
pub struct FromBroker {
    events: Arc<Events>,
    db: Db,
    clock: Clock,
    /// Tries of a record of Kafka.
    most_tries: u64,
}

impl FromBroker {
    /// Into these events; a record that is read at an offset has so many tries.
    pub fn new(events: Arc<Events>, (db, clock): (Db, Clock), most_tries: u64) -> Self {
        Self { events, db, clock, most_tries }
    }

    /// Takes records of a partition.
    async fn take_placed(&self, events: Vec<Incoming>, step: Step) -> Result<Option<Vec<Taken>>> {
        let wanted = |event: Incoming| {
            let name = Name { subject: &event.subject, key: &event.key, event: event.name.as_deref() };
            let wanted = match &event.fault {
                Some(fault) => Err(vec![FieldError::new("body", fault.clone())]),
                None => read(&name, &event.body),
            };
            let Incoming { subject, key, name, body, fault, .. } = event;
            // a slice of what was fetched would keep all of it in memory
            let body = if wanted.is_err() { Bytes::copy_from_slice(&body) } else { body };
            (wanted, Record { subject, key, name, body, fault, most_tries: self.most_tries })
        };
        let records = events.into_iter().map(wanted).collect();
        self.events.accept_placed(records, step).await.map_err(busy_is_away)
    }
}

/// Makes [`Error::Busy`] an outage: there will be room.
fn busy_is_away(error: Error) -> Error {
    match error {
        Error::Busy(why) => Error::Unavailable(why.into()),
        other => other,
    }
}

/// How a broker names an event.
struct Name<'a> {
    /// Where it was published.
    subject: &'a str,
    /// Its id; where that is the subject, the body's own goes before it.
    key: &'a str,
    /// Its type, where a header names it.
    event: Option<&'a str>,
}

/// An event as the API takes it, under the key that the broker knows it by.
fn read(name: &Name<'_>, body: &[u8]) -> Wanted {
    let read = || {
        let id = key(name.key.to_owned()).map_err(|why| Error::invalid("the header of its id", why))?;
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

/// The body with the type that a header names.
fn named<'a>(event: &str, body: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    #[derive(Deserialize)]
    struct Peek {
        event: Option<String>,
    }
    // what is no object is refused by whoever reads it as a whole
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

/// Reads a record that was refused before.
pub fn read_again(row: &RefusedRow) -> Wanted {
    read(&Name { subject: &row.subject, key: &row.key, event: row.name.as_deref() }, &row.body)
}

impl Intake for FromBroker {
    fn take(&self, events: Vec<Incoming>, step: Option<Step>) -> BoxFuture<'_, Result<Option<Vec<Taken>>>> {
        if let Some(step) = step {
            return Box::pin(self.take_placed(events, step));
        }
        Box::pin(async move {
            let read = |event: Incoming| {
                let name = Name { subject: &event.subject, key: &event.key, event: event.name.as_deref() };
                read(&name, &event.body)
            };
            let wanted = events.into_iter().map(read).collect();
            let outcome = self.events.accept_all(wanted, Source::Broker, None).await.map_err(busy_is_away)?;
            let became = |taken: usecase::Taken| match taken {
                Ok(_) => Taken::Stored,
                Err(wrong) => Taken::Refused(line(&wrong)),
            };
            match outcome {
                Outcome::Taken(taken) => Ok(Some(taken.into_iter().map(became).collect())),
                Outcome::Before(_) => Err(Error::internal("events of the broker have no key of a request")),
            }
        })
    }

    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>> {
        let now = self.clock.now();
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
        Box::pin(bury(&self.db, dead, now))
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

impl TakeEvent for FromBroker {
    fn take(&self, event: DeadEvent) -> BoxFuture<'static, Result<()>> {
        let this = self.clone();
        Box::pin(async move {
            let id = event.key.unwrap_or_else(|| event.id.to_string());
            let name = Name { subject: &event.subject, key: &id, event: event.name.as_deref() };
            let event = read(&name, &event.body).map_err(Error::Invalid)?;
            this.events.accept(event, Source::Broker, None).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(key: &str) -> Name<'_> {
        Name { subject: "orders/0/7", key, event: None }
    }

    #[test]
    fn an_event_is_known_by_the_brokers_key_and_by_no_other() {
        let body = br#"{"event": "order.shipped", "id": "own", "targets": {"buyer": "b-1"}}"#;
        assert_eq!(read(&named_by("k-1"), body).unwrap().key.as_deref(), Some("k-1"));
        assert_eq!(letter_of("k-1"), letter_of("k-1"));
        assert_ne!(letter_of("k-1"), letter_of("k-2"));
    }

    #[test]
    fn before_a_place_the_bodys_own_id_goes() {
        let id = |body: &[u8]| read(&named_by("orders/0/7"), body).unwrap().key;
        assert_eq!(id(br#"{"event": "order.shipped", "id": "own"}"#).as_deref(), Some("own"));
        assert_eq!(id(br#"{"event": "order.shipped"}"#).as_deref(), Some("orders/0/7"));
    }

    #[test]
    fn a_header_may_name_the_type() {
        let read = |body: &str| read(&Name { event: Some("order.paid"), ..named_by("k") }, body.as_bytes());
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
    fn what_is_wrong_is_told_in_one_line() {
        for (key, body, says) in [
            ("k", "nonsense", "body: "),
            ("k", "[]", "body: "),
            ("k", "{}", "event: "),
            ("k", r#"{"event": "a", "colour": 1}"#, "colour: "),
            ("two words", r#"{"event": "a"}"#, "the header of its id: "),
        ] {
            let wrong = read(&named_by(key), body.as_bytes()).unwrap_err();
            assert!(line(&wrong).starts_with(says), "{body}: {}", line(&wrong));
        }
    }
}
