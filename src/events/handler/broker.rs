//! Events from a broker: read as the API reads them, and buried among the dead letters when they cannot be taken.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ring::digest::{SHA256, digest};

use super::schema::EventBody;
use crate::broker::{Incoming, Intake, Taken};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::MessageId;
use crate::dead_letters::model::{DeadEvent, NewDeadEvent};
use crate::dead_letters::usecase::{TakeEvent, bury};
use crate::error::{Error, FieldError, Result};
use crate::events::model::{Source, key};
use crate::events::usecase::{self, Events, Outcome, Wanted};
use crate::http::json::parse_object;

/// Takes what a broker delivers, and what of it was buried and is replayed; cloning it is cheap.
#[derive(Clone)]
pub struct FromBroker {
    events: Arc<Events>,
    db: Db,
    clock: Clock,
}

impl FromBroker {
    /// Into these events.
    pub fn new(events: Arc<Events>, db: Db, clock: Clock) -> Self {
        Self { events, db, clock }
    }
}

/// An event as the API takes it, under the key that the broker knows it by.
fn read(name: String, body: &[u8]) -> Wanted {
    let read = || {
        let name = key(name).map_err(|why| Error::invalid("Nats-Msg-Id", why))?;
        let mut body: EventBody = parse_object(body)?;
        body.id = Some(name);
        body.into_new()
    };
    read().map_err(|error| match error {
        Error::Invalid(fields) => fields,
        other => vec![FieldError::new("body", other.to_string())],
    })
}

/// What is wrong with an event, in one line.
fn line(wrong: &[FieldError]) -> String {
    let each = wrong.iter().map(|field| format!("{}: {}", field.field, field.reason));
    each.collect::<Vec<_>>().join("; ")
}

/// The id of an event's dead letter: the same whenever the same event is buried.
fn letter_of(key: &str) -> MessageId {
    let digest = digest(&SHA256, key.as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    MessageId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Intake for FromBroker {
    fn take(&self, events: Vec<Incoming>) -> BoxFuture<'_, Result<Vec<Taken>>> {
        Box::pin(async move {
            let wanted = events.into_iter().map(|event| read(event.key, &event.body)).collect();
            let outcome =
                self.events.accept_all(wanted, Source::Broker, None).await.map_err(|error| match error {
                    // there will be room
                    Error::Busy(why) => Error::Unavailable(why.into()),
                    other => other,
                })?;
            let became = |taken: usecase::Taken| match taken {
                Ok(_) => Taken::Stored,
                Err(wrong) => Taken::Refused(line(&wrong)),
            };
            match outcome {
                Outcome::Taken(taken) => Ok(taken.into_iter().map(became).collect()),
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
            body: event.body.to_vec(),
            tries: i32::try_from(event.tries).unwrap_or(i32::MAX),
            error: reason,
            received_at: now,
        };
        Box::pin(bury(&self.db, dead, now))
    }
}

impl TakeEvent for FromBroker {
    fn take(&self, event: DeadEvent) -> BoxFuture<'static, Result<()>> {
        let this = self.clone();
        Box::pin(async move {
            let name = event.key.unwrap_or_else(|| event.id.to_string());
            let event = read(name, &event.body).map_err(Error::Invalid)?;
            this.events.accept(event, Source::Broker, None).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_the_brokers_key_and_by_no_other() {
        let body = br#"{"event": "order.shipped", "id": "own", "targets": {"buyer": "b-1"}}"#;
        assert_eq!(read("k-1".into(), body).unwrap().key.as_deref(), Some("k-1"));
        assert_eq!(letter_of("k-1"), letter_of("k-1"));
        assert_ne!(letter_of("k-1"), letter_of("k-2"));
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        for (key, body, says) in [
            ("k", "nonsense", "body: "),
            ("k", "[]", "body: "),
            ("k", "{}", "event: "),
            ("k", r#"{"event": "a", "colour": 1}"#, "colour: "),
            ("two words", r#"{"event": "a"}"#, "Nats-Msg-Id: "),
        ] {
            let wrong = read(key.to_owned(), body.as_bytes()).unwrap_err();
            assert!(line(&wrong).starts_with(says), "{body}: {}", line(&wrong));
        }
    }
}
