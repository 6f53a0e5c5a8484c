//! Records as events.

use krafka::consumer::ConsumerRecord;

use crate::broker::{Incoming, Position, digest_of};

/// The header with the event's type.
const TYPE: &str = "event";
/// The header with the event's id.
const ID: &str = "id";
/// The longest topic name that is part of an id as it is; an id has at most 200 characters.
const LONGEST_TOPIC: usize = 150;

/// Converts a record to an event. Returns `None` for a tombstone.
pub(super) fn event(record: ConsumerRecord, position: &Position) -> Option<Incoming> {
    // a value that is not UTF-8 is refused by the intake, since no id and no type may contain the replacement character
    let header = |name: &str| {
        let value = record.header(name).flatten().filter(|value| !value.is_empty());
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let (id, name) = (header(ID), header(TYPE));
    let body = record.value?;
    let offset = record.offset;
    let place = place(position, offset);
    Some(Incoming {
        key: id.unwrap_or_else(|| place.clone()),
        subject: place,
        name,
        offset,
        body,
        tries: 1,
        fault: None,
    })
}

/// Returns the place of a record, `topic/partition/offset`. Places in a recreated topic differ from those before.
pub(super) fn place(position: &Position, offset: i64) -> String {
    let (topic, partition) = (&position.partition.topic, position.partition.number);
    let mut name = topic.clone();
    if name.len() > LONGEST_TOPIC {
        name = format!("{}:{digest}", topic.chars().take(80).collect::<String>(), digest = digest_of(topic));
    }
    match position.incarnation {
        0 => format!("{name}/{partition}/{offset}"),
        // a topic name has no tilde, so this is never another topic's place
        again => format!("{name}~{again}/{partition}/{offset}"),
    }
}
