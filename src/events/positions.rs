//! The SQL of partition positions.

use diesel::prelude::*;

use crate::broker::{Partition, Position, Step};
use crate::db::AnyConnection;
use crate::db::schema::broker_position::dsl;
use crate::db::types::{Timestamp, TopicId};
use crate::error::Result;

/// Returns the positions of a topic's partitions.
///
/// # Errors
/// Those of the database.
pub fn of_topic(c: &mut AnyConnection, group: &str, topic: &str) -> Result<Vec<Position>> {
    let found: Vec<(i32, TopicId, i32, i64)> = dsl::broker_position
        .filter(dsl::consumer_group.eq(group))
        .filter(dsl::topic.eq(topic))
        .select((dsl::partition, dsl::topic_id, dsl::incarnation, dsl::next_offset))
        .load(c)?;
    let position = |(number, topic_id, incarnation, next): (i32, TopicId, i32, i64)| Position {
        partition: Partition { group: group.to_owned(), topic: topic.to_owned(), number },
        topic_id: *topic_id.0.as_bytes(),
        incarnation,
        next,
    };
    Ok(found.into_iter().map(position).collect())
}

/// Stores the first positions of partitions; existing ones stay.
///
/// # Errors
/// Those of the database.
pub fn begin(c: &mut AnyConnection, positions: &[Position], now: Timestamp) -> Result<()> {
    for position in positions {
        let row = (
            dsl::consumer_group.eq(&position.partition.group),
            dsl::topic.eq(&position.partition.topic),
            dsl::partition.eq(position.partition.number),
            dsl::topic_id.eq(TopicId(uuid::Uuid::from_bytes(position.topic_id))),
            dsl::incarnation.eq(position.incarnation),
            dsl::next_offset.eq(position.next),
            dsl::moved_at.eq(now),
        );
        let insert = diesel::insert_into(dsl::broker_position).values(row).on_conflict_do_nothing();
        match c {
            AnyConnection::Postgres(c) => insert.execute(c)?,
            AnyConnection::Sqlite(c) => insert.execute(c)?,
        };
    }
    Ok(())
}

/// Replaces a position; returns `false` if the stored one is no longer `was`.
///
/// # Errors
/// Those of the database.
pub fn replace(c: &mut AnyConnection, was: &Position, is: &Position, now: Timestamp) -> Result<bool> {
    let changed = diesel::update(dsl::broker_position)
        .filter(dsl::consumer_group.eq(&was.partition.group))
        .filter(dsl::topic.eq(&was.partition.topic))
        .filter(dsl::partition.eq(was.partition.number))
        .filter(dsl::incarnation.eq(was.incarnation))
        .filter(dsl::next_offset.eq(was.next))
        .set((
            dsl::topic_id.eq(TopicId(uuid::Uuid::from_bytes(is.topic_id))),
            dsl::incarnation.eq(is.incarnation),
            dsl::next_offset.eq(is.next),
            dsl::moved_at.eq(now),
        ))
        .execute(c)?;
    Ok(changed > 0)
}

/// Moves a position by a step; returns `false` if the stored one is not where the step begins. The row stays locked until
/// the transaction ends.
///
/// # Errors
/// Those of the database.
pub fn advance(c: &mut AnyConnection, step: &Step, now: Timestamp) -> Result<bool> {
    let changed = diesel::update(dsl::broker_position)
        .filter(dsl::consumer_group.eq(&step.partition.group))
        .filter(dsl::topic.eq(&step.partition.topic))
        .filter(dsl::partition.eq(step.partition.number))
        .filter(dsl::incarnation.eq(step.incarnation))
        .filter(dsl::next_offset.eq(step.from))
        .set((dsl::next_offset.eq(step.to), dsl::moved_at.eq(now)))
        .execute(c)?;
    Ok(changed > 0)
}
