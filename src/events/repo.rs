//! The SQL of events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Nullable, SmallInt, Text};

use super::intake::{NewRows, Order, SourceRecords};
use super::model::{Accepted, Event, Skipped, Source};
use super::plan::Person;
use super::target::Names;
use super::{positions, refused};
use crate::clients::model::Email;
use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::{client, event};
use crate::db::types::{ClientId, EventId, Id, Instant, Timestamp};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::idempotency::{self, Verdict};
use crate::mailings::recipient::{Profile, Recipient};
use crate::notifications;
use crate::notifications::model::Raw;
use crate::notifications::repo::Addresses;

/// A row of `event`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = event)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct EventRow {
    pub id: EventId,
    pub key: Option<String>,
    pub name: String,
    pub user_target: Option<String>,
    pub targets: Option<String>,
    pub payload: String,
    pub occurred_at: Option<Timestamp>,
    pub received_at: Timestamp,
    pub source: i16,
    pub skipped: Option<String>,
    pub fingerprint: Option<Vec<u8>>,
    pub namespace: i16,
}

impl TryFrom<EventRow> for Event {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self> {
        let skipped = skipped_of(row.skipped.as_deref())?;
        Ok(Self {
            event_id: row.id,
            id: row.key,
            event: row.name,
            user_target: Raw::stored(row.user_target)?,
            targets: Raw::stored(row.targets)?,
            payload: Raw::read(row.payload)?,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            source: Source::from_code(row.source)?,
            skipped,
        })
    }
}

/// The messages that were not made of an event, as they are stored.
///
/// # Errors
/// For what no version of this program stored.
pub fn skipped_of(stored: Option<&str>) -> Result<Vec<Skipped>> {
    let skipped = stored.map(serde_json::from_str).transpose();
    Ok(skipped.map_err(|e| Error::Internal(e.into()))?.unwrap_or_default())
}

/// What became of an event that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is there, with its messages.
    New,
    /// It was there before, by its sender's id.
    Known(Accepted),
    /// Its sender's id is another event's.
    Foreign,
}

/// The result of events that were handed in together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The result of each.
    Each(Vec<Stored>),
    /// Nothing was stored: their key is not this request's.
    Refused(Verdict),
    /// Nothing was stored: another node has moved the position of their partition.
    Fenced,
}

/// The reason why nothing of an order is stored.
enum Barred {
    Refused(Verdict),
    Fenced,
}

/// The reason of an event whose id belongs to another event.
pub const FOREIGN: &str =
    "was used for another event; an equal event repeats it, a new one needs an id of its own";

/// Stores what was handed in, no two of which have one key.
///
/// # Errors
/// Those of the database: then nothing of any of them is stored.
pub fn take(c: &mut AnyConnection, orders: &[Arc<Order>], now: Timestamp) -> Result<Vec<Handed>> {
    let verdicts = idempotency::take_each(c, orders.iter().map(|order| order.claim.as_ref()), now)?;
    let mut barred: Vec<Option<Barred>> =
        verdicts.into_iter().map(|verdict| verdict.map(Barred::Refused)).collect();
    advance(c, orders, &mut barred, now)?;
    let own = orders.iter().zip(&barred).filter(|(_, barred)| barred.is_none());
    let events: Vec<&NewRows> = own.flat_map(|(order, _)| &order.events).collect();
    let mut stored = store(c, &events, now)?.into_iter();
    let mut handed = Vec::with_capacity(orders.len());
    for (order, barred) in orders.iter().zip(barred) {
        match barred {
            Some(Barred::Refused(verdict)) => {
                handed.push(Handed::Refused(verdict));
                continue;
            }
            Some(Barred::Fenced) => {
                handed.push(Handed::Fenced);
                continue;
            }
            None => {}
        }
        let stored: Vec<Stored> = stored.by_ref().take(order.events.len()).collect();
        if let Some(source) = &order.source {
            keep_refused(c, source, &stored, now)?;
        }
        if let Some(claim) = &order.claim
            && stored.iter().any(|stored| *stored != Stored::New)
        {
            // the claim has the answer for events that are all new
            match (order.answer)(&stored) {
                Ok(answer) => idempotency::answer(c, &claim.key.key, &answer)?,
                Err(Error::Invalid(_)) => idempotency::release(c, &claim.key.key)?,
                Err(other) => return Err(other),
            }
        }
        handed.push(Handed::Each(stored));
    }
    Ok(handed)
}

/// Moves the positions of orders that have one, and bars the orders whose position another node has moved. The partitions are
/// sorted, so that two transactions never deadlock.
fn advance(
    c: &mut AnyConnection,
    orders: &[Arc<Order>],
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

/// Keeps the records that are not events, and those with an id of another event.
fn keep_refused(
    c: &mut AnyConnection,
    source: &SourceRecords,
    stored: &[Stored],
    now: Timestamp,
) -> Result<()> {
    for refusal in &source.refused {
        refused::keep(c, refusal, now)?;
    }
    for (record, stored) in source.records.iter().zip(stored) {
        if *stored == Stored::Foreign {
            let (record, reason) = (record.clone(), format!("id: {FOREIGN}"));
            refused::keep(c, &refused::Refusal { record, reason, is_final: false }, now)?;
        }
    }
    Ok(())
}

/// Stores events with their messages; one whose sender's id is known makes nothing.
fn store(c: &mut AnyConnection, events: &[&NewRows], now: Timestamp) -> Result<Vec<Stored>> {
    // in one order of their keys, so that two transactions never wait for each other
    let mut rows: Vec<&EventRow> = events.iter().map(|new| &new.event).collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let new: HashSet<EventId> = insert(c, &rows)?;
    let keys: Vec<&str> =
        rows.iter().filter(|row| !new.contains(&row.id)).filter_map(|row| row.key.as_deref()).collect();
    let known = known(c, &keys)?;
    let fresh = events.iter().filter(|event| new.contains(&event.event.id));
    let messages = fresh.flat_map(|event| event.rows.iter().cloned()).collect();
    let messages = notifications::repo::NewRows { rows: messages, batch: None, claim: None };
    notifications::repo::store(c, &[messages], now)?;
    failpoint::reach("event-before-commit");
    let became = |handed: &&NewRows| {
        if new.contains(&handed.event.id) {
            return Ok(Stored::New);
        }
        let event = &handed.event;
        let known = event.key.clone().and_then(|key| known.get(&(key, event.namespace)));
        let known = known.ok_or_else(|| Error::internal("an event is neither new nor known"))?;
        Ok(known.to(event.fingerprint.as_deref()))
    };
    events.iter().map(became).collect()
}

/// An event that was taken before.
pub struct Known {
    accepted: Accepted,
    fingerprint: Option<Vec<u8>>,
}

impl Known {
    /// Compares it with an event that has the same id and this fingerprint. One from before there were fingerprints is taken for the
    /// same.
    pub fn to(&self, fingerprint: Option<&[u8]>) -> Stored {
        let is_another = self.fingerprint.as_deref().is_some_and(|known| Some(known) != fingerprint);
        if is_another { Stored::Foreign } else { Stored::Known(self.accepted.clone()) }
    }
}

/// The events that have these ids of their senders', by id and namespace.
///
/// # Errors
/// Those of the database.
pub fn known(c: &mut AnyConnection, keys: &[&str]) -> Result<HashMap<(String, i16), Known>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    type Found = (Option<String>, i16, EventId, Timestamp, Option<String>, Option<Vec<u8>>);
    let columns =
        (event::key, event::namespace, event::id, event::received_at, event::skipped, event::fingerprint);
    let found: Vec<Found> = event::table.filter(event::key.eq_any(keys)).select(columns).load(c)?;
    let mut known = HashMap::with_capacity(found.len());
    for (key, namespace, id, received_at, skipped, fingerprint) in found {
        let skipped = skipped_of(skipped.as_deref())?;
        let accepted = Accepted { id, received_at, skipped, is_known: true };
        known.extend(key.map(|key| ((key, namespace), Known { accepted, fingerprint })));
    }
    Ok(known)
}

struct InsertEvents;

impl Statement for InsertEvents {
    const TEXT: &'static str = "INSERT INTO event (id, key, name, user_target, targets, payload, occurred_at, \
        received_at, source, skipped, fingerprint, namespace) SELECT * FROM unnest($columns) ON CONFLICT DO NOTHING RETURNING id";
    type Row = Id;
}

impl Insert for InsertEvents {
    const HEAD: &'static str = "INSERT INTO event (id, key, name, user_target, targets, payload, occurred_at, \
        received_at, source, skipped, fingerprint, namespace) VALUES (";
    const TAIL: &'static str = ") ON CONFLICT DO NOTHING";
    type Row = EventRow;

    fn bind<'r>(row: &'r EventRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Id, _>(&row.id)?;
        values.bind::<Nullable<Text>, _>(&row.key)?;
        values.bind::<Text, _>(&row.name)?;
        values.bind_all::<Nullable<Text>, _, _>([&row.user_target, &row.targets])?;
        values.bind::<Text, _>(&row.payload)?;
        values.bind::<Nullable<Instant>, _>(&row.occurred_at)?;
        values.bind::<Instant, _>(&row.received_at)?;
        values.bind::<SmallInt, _>(&row.source)?;
        values.bind::<Nullable<Text>, _>(&row.skipped)?;
        values.bind::<Nullable<Binary>, _>(&row.fingerprint)?;
        values.bind::<SmallInt, _>(&row.namespace)
    }
}

/// Inserts events; answers which were new.
fn insert(c: &mut AnyConnection, rows: &[&EventRow]) -> Result<HashSet<EventId>> {
    fn column<'r, T>(rows: &[&'r EventRow], value: impl Fn(&'r EventRow) -> T) -> Vec<T> {
        rows.iter().copied().map(value).collect()
    }
    match c {
        AnyConnection::Postgres(_) if rows.is_empty() => Ok(HashSet::new()),
        AnyConnection::Postgres(c) => {
            let columns = (
                column(rows, |r| r.id).into_sql::<Array<Id>>(),
                column(rows, |r| r.key.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.name.as_str()).into_sql::<Array<Text>>(),
                column(rows, |r| r.user_target.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.targets.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.payload.as_str()).into_sql::<Array<Text>>(),
                column(rows, |r| r.occurred_at).into_sql::<Array<Nullable<Instant>>>(),
                column(rows, |r| r.received_at).into_sql::<Array<Instant>>(),
                column(rows, |r| r.source).into_sql::<Array<SmallInt>>(),
                column(rows, |r| r.skipped.as_deref()).into_sql::<Array<Nullable<Text>>>(),
                column(rows, |r| r.fingerprint.as_deref()).into_sql::<Array<Nullable<Binary>>>(),
                column(rows, |r| r.namespace).into_sql::<Array<SmallInt>>(),
            );
            Ok(Bulk::of(InsertEvents, columns).load::<EventId>(c)?.into_iter().collect())
        }
        AnyConnection::Sqlite(c) => {
            let mut new = HashSet::with_capacity(rows.len());
            for row in rows {
                if Insertion::of(InsertEvents, *row).execute(c)? > 0 {
                    new.insert(row.id);
                }
            }
            Ok(new)
        }
    }
}

/// By what an event is asked for.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its sender's id.
    pub key: String,
    /// Its own.
    pub id: Option<EventId>,
}

/// The event with this id of its sender's, or with this id.
///
/// # Errors
/// Those of the database.
pub fn find(c: &mut AnyConnection, handle: &Handle) -> Result<Option<Event>> {
    let by_key =
        event::table.filter(event::key.eq(&handle.key)).select(EventRow::as_select()).order(event::namespace);
    let mut row: Option<EventRow> = by_key.first(c).optional()?;
    if let (None, Some(id)) = (&row, handle.id) {
        row = event::table.find(id).select(EventRow::as_select()).first(c).optional()?;
    }
    row.map(Event::try_from).transpose()
}

/// Which events a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub name: Option<String>,
    /// Taken at this time or later.
    pub from: Option<Timestamp>,
    /// Taken at this time or earlier.
    pub to: Option<Timestamp>,
    /// Made before this one.
    pub before: Option<EventId>,
}

/// Up to `limit` events, the latest first.
///
/// # Errors
/// Those of the database.
pub fn list(c: &mut AnyConnection, filter: &Filter, limit: i64) -> Result<Vec<Event>> {
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

#[derive(Queryable, Selectable)]
#[diesel(table_name = client)]
struct PersonRow {
    id: ClientId,
    #[diesel(embed)]
    addresses: Addresses,
    mobile_operator_code: Option<String>,
    tag: Option<String>,
    more_tags: Option<String>,
    timezone: Option<String>,
    updated_at: Timestamp,
}

impl From<PersonRow> for Person {
    fn from(row: PersonRow) -> Self {
        let profile = Profile {
            mobile_operator_code: row.mobile_operator_code,
            tag: row.tag,
            more_tags: row.more_tags,
            timezone: row.timezone,
            locale: row.addresses.locale.clone(),
            email: row.addresses.email.clone(),
            external_id: row.addresses.external_id.clone(),
            attributes: row.addresses.attributes.clone(),
        };
        let recipient = Recipient {
            client_id: row.id,
            phone_number: row.addresses.phone_number,
            address: None,
            profile: Some(Box::new(profile)),
            updated_at: row.updated_at,
        };
        Self { id: row.id, addresses: row.addresses, recipient }
    }
}

/// The clients that are known by these names, each at the place of its names. Of several clients with one e-mail address it
/// is the one that was made first; an id goes before an external id, that before an address.
///
/// # Errors
/// Those of the database.
pub fn people(c: &mut AnyConnection, names: &[Names]) -> Result<Vec<Option<Person>>> {
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
    // one index for each name, looked into only for those whom the names before did not find
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
