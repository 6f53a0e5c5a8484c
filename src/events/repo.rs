//! The SQL of events.

pub mod row;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;

use self::row::{InsertEvents, PersonRow, skipped_of};
use super::model::{AcceptedEvent, Event};
use super::order::{EventOrder, EventStoreResult, IntakeResult, SourceRecords};
use super::plan::Person;
use super::target::ClientNames;
use super::{positions, refused};
use crate::clients::model::Email;
use crate::db::AnyConnection;
use crate::db::schema::{client, event};
use crate::db::types::{EventId, Timestamp};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::idempotency::{self, ClaimResult};
use crate::notifications;

pub use row::{EventRow, NewEventRows};

/// The reason why nothing of an order is stored.
enum Barred {
    Refused(ClaimResult),
    Fenced,
}

/// The reason for refusing an event whose id belongs to another event.
pub const FOREIGN: &str = "was used for another event; a new event needs a new id";

/// Stores orders, no two of which have the same idempotency key.
///
/// # Errors
/// Database errors, after which nothing of any order is stored.
pub fn take(c: &mut AnyConnection, orders: &[Arc<EventOrder>], now: Timestamp) -> Result<Vec<IntakeResult>> {
    let verdicts = idempotency::claim_each(c, orders.iter().map(|order| order.claim.as_ref()), now)?;
    let mut barred: Vec<Option<Barred>> =
        verdicts.into_iter().map(|verdict| verdict.map(Barred::Refused)).collect();
    advance(c, orders, &mut barred, now)?;
    let own = orders.iter().zip(&barred).filter(|(_, barred)| barred.is_none());
    let events: Vec<&NewEventRows> = own.flat_map(|(order, _)| &order.events).collect();
    let mut stored = store(c, &events, now)?.into_iter();
    let mut handed = Vec::with_capacity(orders.len());
    for (order, barred) in orders.iter().zip(barred) {
        match barred {
            Some(Barred::Refused(verdict)) => {
                handed.push(IntakeResult::Refused(verdict));
                continue;
            }
            Some(Barred::Fenced) => {
                handed.push(IntakeResult::Fenced);
                continue;
            }
            None => {}
        }
        let stored: Vec<EventStoreResult> = stored.by_ref().take(order.events.len()).collect();
        if let Some(source) = &order.source {
            keep_refused(c, source, &stored, now)?;
        }
        if let Some(claim) = &order.claim
            && stored.iter().any(|stored| *stored != EventStoreResult::New)
        {
            // the claim has the response for events that are all new
            match (order.answer)(&stored) {
                Ok(answer) => idempotency::answer(c, &claim.key.key, &answer)?,
                Err(Error::Invalid(_)) => idempotency::release(c, &claim.key.key)?,
                Err(other) => return Err(other),
            }
        }
        handed.push(IntakeResult::Each(stored));
    }
    Ok(handed)
}

/// Moves the positions of orders from a partition, and refuses the orders whose position another node has moved. The
/// partitions are sorted, so that two transactions never deadlock.
fn advance(
    c: &mut AnyConnection,
    orders: &[Arc<EventOrder>],
    barred: &mut [Option<Barred>],
    now: Timestamp,
) -> Result<()> {
    let steps = orders.iter().zip(barred).filter_map(|(order, barred)| {
        let source = order.source.as_ref()?;
        Some((&source.step, barred))
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by(|(a, _), (b, _)| a.partition.cmp(&b.partition));
    for (step, barred) in steps {
        if !positions::advance(c, step, now)? {
            *barred = Some(Barred::Fenced);
        }
    }
    Ok(())
}

/// Stores the refused records: records that are not events, and records with the id of another event.
fn keep_refused(
    c: &mut AnyConnection,
    source: &SourceRecords,
    stored: &[EventStoreResult],
    now: Timestamp,
) -> Result<()> {
    for refusal in &source.refused {
        refused::keep(c, refusal, now)?;
    }
    for (record, stored) in source.records.iter().zip(stored) {
        if *stored == EventStoreResult::Foreign {
            let (record, reason) = (record.clone(), format!("id: {FOREIGN}"));
            refused::keep(c, &refused::RefusedRecord { record, reason, is_final: false }, now)?;
        }
    }
    Ok(())
}

/// Stores events with their messages. An event with a known sender's id stores nothing.
fn store(c: &mut AnyConnection, events: &[&NewEventRows], now: Timestamp) -> Result<Vec<EventStoreResult>> {
    // in the order of their keys, so that two transactions never deadlock
    let mut rows: Vec<&EventRow> = events.iter().map(|new| &new.event).collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let new: HashSet<EventId> = insert(c, &rows)?;
    let keys: Vec<&str> =
        rows.iter().filter(|row| !new.contains(&row.id)).filter_map(|row| row.key.as_deref()).collect();
    let known = known(c, &keys)?;
    let fresh = events.iter().filter(|event| new.contains(&event.event.id));
    let messages = fresh.flat_map(|event| event.rows.iter().cloned()).collect();
    let messages = notifications::repo::NewNotificationRows { rows: messages, batch: None, claim: None };
    notifications::repo::store(c, &[messages], now)?;
    failpoint::reach("event-before-commit");
    let became = |handed: &&NewEventRows| {
        if new.contains(&handed.event.id) {
            return Ok(EventStoreResult::New);
        }
        let event = &handed.event;
        let known = event.key.clone().and_then(|key| known.get(&(key, event.namespace)));
        let known = known.ok_or_else(|| Error::internal("an event is neither new nor known"))?;
        Ok(known.to(event.fingerprint.as_deref()))
    };
    events.iter().map(became).collect()
}

/// A stored event with the same sender's id.
pub struct KnownEvent {
    accepted: AcceptedEvent,
    fingerprint: Option<Vec<u8>>,
}

impl KnownEvent {
    /// Compares it with an event that has the same sender's id and this fingerprint. A stored event without a
    /// fingerprint, from an earlier version, counts as equal.
    pub fn to(&self, fingerprint: Option<&[u8]>) -> EventStoreResult {
        let is_another = self.fingerprint.as_deref().is_some_and(|known| Some(known) != fingerprint);
        if is_another { EventStoreResult::Foreign } else { EventStoreResult::Known(self.accepted.clone()) }
    }
}

/// Returns the stored events with these sender's ids, by id and namespace.
///
/// # Errors
/// Database errors.
pub fn known(c: &mut AnyConnection, keys: &[&str]) -> Result<HashMap<(String, i16), KnownEvent>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    type KnownColumns = (Option<String>, i16, EventId, Timestamp, Option<String>, Option<Vec<u8>>);
    let columns =
        (event::key, event::namespace, event::id, event::received_at, event::skipped, event::fingerprint);
    let found: Vec<KnownColumns> = event::table.filter(event::key.eq_any(keys)).select(columns).load(c)?;
    let mut known = HashMap::with_capacity(found.len());
    for (key, namespace, id, received_at, skipped, fingerprint) in found {
        let skipped = skipped_of(skipped.as_deref())?;
        let accepted = AcceptedEvent { id, received_at, skipped, is_known: true };
        known.extend(key.map(|key| ((key, namespace), KnownEvent { accepted, fingerprint })));
    }
    Ok(known)
}

/// Inserts events, and returns the ids of the new ones.
fn insert(c: &mut AnyConnection, rows: &[&EventRow]) -> Result<HashSet<EventId>> {
    Ok(InsertEvents::insert(c, rows)?.into_iter().collect())
}

/// An id in a request, which is a sender's id or an event's id.
#[derive(Debug, Clone)]
pub struct EventRef {
    /// The id as a sender's id.
    pub key: String,
    /// The id as an event's id, if it is a UUID.
    pub id: Option<EventId>,
}

/// Returns the event with this sender's id, or with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, handle: &EventRef) -> Result<Option<Event>> {
    let by_key =
        event::table.filter(event::key.eq(&handle.key)).select(EventRow::as_select()).order(event::namespace);
    let mut row: Option<EventRow> = by_key.first(c).optional()?;
    if let (None, Some(id)) = (&row, handle.id) {
        row = event::table.find(id).select(EventRow::as_select()).first(c).optional()?;
    }
    row.map(Event::try_from).transpose()
}

/// The filter of the list.
#[derive(Debug, Clone, Default)]
pub struct EventListFilter {
    /// Selects a type.
    pub name: Option<String>,
    /// The earliest time of acceptance.
    pub from: Option<Timestamp>,
    /// The latest time of acceptance.
    pub to: Option<Timestamp>,
    /// The last event of the previous page.
    pub before: Option<EventId>,
}

/// Returns up to `limit` events that match the filter, the newest first.
///
/// # Errors
/// Database errors.
pub fn list(c: &mut AnyConnection, filter: &EventListFilter, limit: i64) -> Result<Vec<Event>> {
    let mut query =
        event::table.select(EventRow::as_select()).order(event::id.desc()).limit(limit).into_boxed();
    if let Some(name) = &filter.name {
        query = query.filter(event::name.eq(name));
    }
    if let Some(from) = filter.from {
        query = query.filter(event::id.ge(EventId::first_of(from)));
    }
    if let Some(to) = filter.to {
        query = query.filter(event::id.le(EventId::last_of(to)));
    }
    if let Some(before) = filter.before {
        query = query.filter(event::id.lt(before));
    }
    let rows: Vec<EventRow> = query.load(c)?;
    rows.into_iter().map(Event::try_from).collect()
}

/// Returns the client for each set of names, in the same order. An id has precedence over an external id, and that over
/// an address. Of several clients with the same e-mail address it returns the one that was created first.
///
/// # Errors
/// Database errors.
pub fn people(c: &mut AnyConnection, names: &[ClientNames]) -> Result<Vec<Option<Person>>> {
    macro_rules! load {
        ($column:expr, $wanted:expr) => {{
            let wanted: Vec<_> = $wanted;
            let rows: Vec<PersonRow> = if wanted.is_empty() {
                Vec::new()
            } else {
                client::table
                    .filter($column.eq_any(wanted))
                    .order(client::id)
                    .select(PersonRow::as_select())
                    .load(c)?
            };
            rows.into_iter().map(Person::from).collect::<Vec<Person>>()
        }};
    }
    // each name has its own index, which is read only for clients that the previous names did not find
    let mut found: Vec<Option<Person>> = names.iter().map(|_| None).collect();
    macro_rules! find {
        ($column:expr, $name:ident, $of:expr) => {{
            let open = || names.iter().zip(&found).filter(|(_, found)| found.is_none());
            let people = load!($column, open().filter_map(|(names, _)| names.$name.clone()).collect());
            for (names, found) in names.iter().zip(&mut found) {
                if let (None, Some(name)) = (&found, &names.$name) {
                    *found = people.iter().find(|person| $of(person).as_ref() == Some(name)).cloned();
                }
            }
        }};
    }
    find!(client::id, id, |person: &Person| Some(person.id));
    find!(client::external_id, external_id, |person: &Person| person.addresses.external_id.clone());
    find!(client::email_key, email, |person: &Person| {
        let email: Option<Email> = person.addresses.email.as_ref()?.parse().ok();
        email.map(|email| email.key())
    });
    find!(client::phone_number, phone_number, |person: &Person| person.addresses.phone_number);
    Ok(found)
}
