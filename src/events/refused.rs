//! Refused records of a broker: kept, retried, and stored as dead letters after their last try.

use std::borrow::Cow;
use std::time::Duration;

use diesel::prelude::*;
use hyper::body::Bytes;
use ring::digest::{SHA256, digest};

use super::model::Source;
use crate::broker;
use crate::db::AnyConnection;
use crate::db::schema::refused_event;
use crate::db::types::{MessageId, Timestamp};
use crate::dead_letters::model::NewDeadEvent;
use crate::dead_letters::repo::bury_event;
use crate::error::{FieldError, Result};

/// The delay before the second try; it doubles each time, up to five minutes.
pub const FIRST_DELAY: Duration = Duration::from_secs(1);

/// A record as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// The unique place, `topic/partition/offset`.
    pub subject: String,
    /// The event id: the publisher's, or the place.
    pub key: String,
    /// The event type from a header, if there is one.
    pub name: Option<String>,
    /// The published bytes.
    pub body: Bytes,
    /// The reason why no retry can succeed.
    pub fault: Option<String>,
    /// The number of tries after which it becomes a dead letter.
    pub most_tries: u64,
}

/// A record that was refused at its first try.
#[derive(Debug, Clone)]
pub struct RefusedRecord {
    /// The record.
    pub record: SourceRecord,
    /// The reason.
    pub reason: String,
    /// No retry can succeed.
    pub is_final: bool,
}

impl RefusedRecord {
    /// Returns `true` if it becomes a dead letter without a retry.
    pub fn is_dead(&self) -> bool {
        self.is_final || self.record.most_tries <= 1
    }
}

/// A row of `refused_event`.
#[derive(Debug, Clone, PartialEq, Insertable, Queryable, Selectable)]
#[diesel(table_name = refused_event)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct RefusedRow {
    pub id: MessageId,
    pub subject: String,
    pub key: String,
    pub name: Option<String>,
    pub body: Vec<u8>,
    pub tries: i32,
    pub due_at: Timestamp,
    pub error: String,
    pub received_at: Timestamp,
}

impl RefusedRow {
    /// Converts it to a dead letter.
    fn into_letter(self) -> NewDeadEvent {
        NewDeadEvent {
            id: self.id,
            source: Source::Broker.code(),
            subject: self.subject,
            key: Some(self.key),
            name: self.name,
            body: self.body,
            tries: self.tries,
            error: self.error,
            received_at: self.received_at,
        }
    }
}

/// Joins the complaints about an event into one line. They may repeat any character of the body.
pub fn line(wrong: &[FieldError]) -> String {
    let each = wrong.iter().map(|field| format!("{}: {}", escaped(&field.field), escaped(&field.reason)));
    each.collect::<Vec<_>>().join("; ")
}

/// Escapes control characters: PostgreSQL stores no NUL in a text.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Derives the id of a record's dead letter from its place, so that the same record never has two.
pub fn letter_of(place: &str) -> MessageId {
    let digest = digest(&SHA256, place.as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    MessageId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Stores a record that was refused at its first try, for a retry or as a dead letter.
///
/// # Errors
/// Those of the database.
pub fn keep(c: &mut AnyConnection, refusal: &RefusedRecord, now: Timestamp) -> Result<()> {
    let RefusedRecord { record, reason, .. } = refusal;
    let row = RefusedRow {
        id: letter_of(&record.subject),
        subject: record.subject.clone(),
        key: record.key.clone(),
        name: record.name.clone(),
        body: record.body.to_vec(),
        tries: 1,
        due_at: now.plus(broker::delay(FIRST_DELAY, 1)),
        error: reason.clone(),
        received_at: now,
    };
    if refusal.is_dead() {
        return bury_event(c, &row.into_letter(), now).map(drop);
    }
    let insert = diesel::insert_into(refused_event::table).values(row).on_conflict_do_nothing();
    match c {
        AnyConnection::Postgres(c) => insert.execute(c)?,
        AnyConnection::Sqlite(c) => insert.execute(c)?,
    };
    Ok(())
}

/// Returns up to `limit` due records, the longest due first.
///
/// # Errors
/// Those of the database.
pub fn due(c: &mut AnyConnection, now: Timestamp, limit: i64) -> Result<Vec<RefusedRow>> {
    let due = refused_event::table.filter(refused_event::due_at.le(now)).order(refused_event::due_at);
    Ok(due.limit(limit).select(RefusedRow::as_select()).load(c)?)
}

/// Claims a record for its next try and schedules the one after it; returns `false` if another node was first.
///
/// # Errors
/// Those of the database.
pub fn claim(c: &mut AnyConnection, row: &RefusedRow, now: Timestamp) -> Result<bool> {
    let tries = row.tries + 1;
    let delay = broker::delay(FIRST_DELAY, u64::try_from(tries).unwrap_or(1));
    let claimed = diesel::update(refused_event::table.find(row.id))
        .filter(refused_event::tries.eq(row.tries))
        .set((refused_event::tries.eq(tries), refused_event::due_at.eq(now.plus(delay))))
        .execute(c)?;
    Ok(claimed > 0)
}

/// Deletes a record, once its event is stored.
///
/// # Errors
/// Those of the database.
pub fn forget(c: &mut AnyConnection, id: MessageId) -> Result<()> {
    diesel::delete(refused_event::table.find(id)).execute(c)?;
    Ok(())
}

/// Stores why a record was refused again, or makes it a dead letter after its last try; returns `true` if it did.
///
/// # Errors
/// Those of the database.
pub fn refuse(c: &mut AnyConnection, row: &RefusedRow, most_tries: u64, now: Timestamp) -> Result<bool> {
    if u64::try_from(row.tries).is_ok_and(|tries| tries < most_tries) {
        diesel::update(refused_event::table.find(row.id))
            .set(refused_event::error.eq(&row.error))
            .execute(c)?;
        return Ok(false);
    }
    bury_event(c, &row.clone().into_letter(), now)?;
    forget(c, row.id)?;
    Ok(true)
}
