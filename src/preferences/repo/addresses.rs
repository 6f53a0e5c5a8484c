//! The addresses that a mailing goes to, so that it goes to each once.
//!
//! E-mail addresses are noted only if several clients share them, which an index of the clients tells. A row for every
//! recipient would change a page of the table at nearly each, and write more than all else that a mail costs.

use std::collections::{HashMap, HashSet};

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Integer};

use crate::address::normal;
use crate::db::AnyConnection;
use crate::db::bulk::{Bulk, Insert, Insertion, Statement, Values};
use crate::db::schema::{client, mailing, mailing_address};
use crate::db::types::{ClientId, Id, Timestamp};
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::suppressions::repo::Hasher;

/// Clients in pages or messages of a mailing, with the address of the message where it is recorded.
pub type Planned = HashMap<ClientId, Option<String>>;

/// Finds those of some clients that a mailing has planned.
pub type FindPlanned<'f> = &'f dyn Fn(&mut AnyConnection, &[ClientId]) -> Result<Planned>;

/// The mailing that a page belongs to.
#[derive(Clone, Copy)]
pub struct MailingOfPage<'f> {
    /// Its number.
    pub number: i32,
    /// A client that was changed before this time had its address when the mailing started; none: nobody is known to.
    pub since: Option<Timestamp>,
    /// Which clients were planned.
    pub find_planned: FindPlanned<'f>,
}

/// A client who has an address that another one has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    id: ClientId,
    updated_at: Timestamp,
}

/// Takes the addresses of a mailing for these clients, who are planned. Returns those whose address another client had
/// taken.
///
/// # Errors
/// Those of the database.
pub(super) fn duplicates(
    c: &mut AnyConnection,
    mailing: MailingOfPage<'_>,
    channel: ChannelKind,
    addressed: &[(ClientId, &str)],
    now: Timestamp,
) -> Result<HashSet<ClientId>> {
    let mut rows = match channel {
        ChannelKind::Email => shared(c, mailing, addressed, now)?,
        _ => all(c, mailing.number, channel, addressed, now)?,
    };
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    // in one order, so that two pages never wait for each other; of one address the first stays the first
    rows.sort_by(|a, b| a.address_key.cmp(&b.address_key));
    if insert_addresses(c, &rows)? == rows.len() {
        return Ok(HashSet::new());
    }
    let keys: Vec<&[u8]> = rows.iter().map(|row| row.address_key.as_slice()).collect();
    let owners: HashMap<Vec<u8>, ClientId> = mailing_address::table
        .filter(mailing_address::mailing_number.eq(mailing.number))
        .filter(mailing_address::address_key.eq_any(keys))
        .select((mailing_address::address_key, mailing_address::client_id))
        .load(c)?
        .into_iter()
        .collect();
    let is_duplicate = |row: &&AddressRow| owners.get(&row.address_key) != Some(&row.client_id);
    Ok(rows.iter().filter(is_duplicate).map(|row| row.client_id).collect())
}

/// A row for each client.
fn all(
    c: &mut AnyConnection,
    mailing_number: i32,
    channel: ChannelKind,
    addressed: &[(ClientId, &str)],
    now: Timestamp,
) -> Result<Vec<AddressRow>> {
    if addressed.is_empty() {
        return Ok(Vec::new());
    }
    let hasher = Hasher::of(c, now)?;
    let row = |(client_id, address): &(ClientId, &str)| AddressRow {
        mailing_number,
        address_key: hasher.key(channel, address),
        client_id: *client_id,
    };
    Ok(addressed.iter().map(row).collect())
}

/// A row for each client whose e-mail address others have too. Before it comes one for a client who was planned with the
/// address while nobody shared it, and so has no row.
fn shared(
    c: &mut AnyConnection,
    mailing: MailingOfPage<'_>,
    addressed: &[(ClientId, &str)],
    now: Timestamp,
) -> Result<Vec<AddressRow>> {
    let normal_forms: Vec<_> =
        addressed.iter().map(|(_, address)| normal(ChannelKind::Email, address)).collect();
    let holders = holders(c, &normal_forms)?;
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let own: HashSet<ClientId> = addressed.iter().map(|(id, _)| *id).collect();
    let is_changed = |holder: &Holder| mailing.since.is_none_or(|since| holder.updated_at >= since);
    let in_doubt = holders.values().filter(|holders| holders.iter().any(is_changed));
    let others: Vec<ClientId> =
        in_doubt.flatten().map(|holder| holder.id).filter(|id| !own.contains(id)).collect();
    let planned = if others.is_empty() { Planned::new() } else { (mailing.find_planned)(c, &others)? };
    let planned = &planned;
    let earlier = holders.iter().flat_map(|(address, holders)| {
        // who has come to the address since was written to at another one
        let is_known = |sent_to: &Option<String>| {
            sent_to.as_ref().is_none_or(|sent_to| normal(ChannelKind::Email, sent_to) == *address)
        };
        let planned = holders.iter().filter(move |holder| planned.get(&holder.id).is_some_and(is_known));
        planned.map(|holder| (holder.id, address.as_str()))
    });
    let own = addressed.iter().zip(&normal_forms);
    let own = own.filter(|(_, normal)| holders.contains_key(normal.as_ref())).map(|(one, _)| *one);
    let rows: Vec<_> = earlier.chain(own).collect();
    all(c, mailing.number, ChannelKind::Email, &rows, now)
}

/// The clients who have these normal forms of e-mail addresses, of those that several clients have.
fn holders(c: &mut AnyConnection, normal_forms: &[impl AsRef<str>]) -> Result<HashMap<String, Vec<Holder>>> {
    let mut holders: HashMap<String, Vec<Holder>> = HashMap::new();
    if normal_forms.is_empty() {
        return Ok(holders);
    }
    let shared: Vec<Option<String>> = client::table
        .filter(client::email_key.eq_any(normal_forms.iter().map(AsRef::as_ref)))
        .group_by(client::email_key)
        .having(count_star().gt(1))
        .select(client::email_key)
        .load(c)?;
    if shared.is_empty() {
        return Ok(holders);
    }
    let found: Vec<(Option<String>, ClientId, Timestamp)> = client::table
        .filter(client::email_key.eq_any(shared))
        .order(client::id)
        .select((client::email_key, client::id, client::updated_at))
        .load(c)?;
    for (address, id, updated_at) in found {
        if let Some(address) = address {
            holders.entry(address).or_default().push(Holder { id, updated_at });
        }
    }
    Ok(holders)
}

#[derive(Debug)]
struct AddressRow {
    mailing_number: i32,
    address_key: Vec<u8>,
    client_id: ClientId,
}

struct InsertAddresses;

impl Statement for InsertAddresses {
    const TEXT: &'static str = "INSERT INTO mailing_address (mailing_number, address_key, client_id) \
        SELECT * FROM unnest($columns) ON CONFLICT DO NOTHING";
    type Row = Integer;
}

impl Insert for InsertAddresses {
    const HEAD: &'static str =
        "INSERT INTO mailing_address (mailing_number, address_key, client_id) VALUES (";
    const TAIL: &'static str = ") ON CONFLICT DO NOTHING";
    type Row = AddressRow;

    fn bind<'r>(row: &'r AddressRow, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Integer, _>(&row.mailing_number)?;
        values.bind::<Binary, _>(&row.address_key)?;
        values.bind::<Id, _>(&row.client_id)
    }
}

/// Stores the addresses that nobody has taken; returns how many.
fn insert_addresses(c: &mut AnyConnection, rows: &[AddressRow]) -> Result<usize> {
    match c {
        AnyConnection::Postgres(c) => {
            let columns = (
                rows.iter().map(|row| row.mailing_number).collect::<Vec<_>>().into_sql::<Array<Integer>>(),
                rows.iter()
                    .map(|row| row.address_key.as_slice())
                    .collect::<Vec<_>>()
                    .into_sql::<Array<Binary>>(),
                rows.iter().map(|row| row.client_id).collect::<Vec<_>>().into_sql::<Array<Id>>(),
            );
            Ok(Bulk::of(InsertAddresses, columns).execute(c)?)
        }
        AnyConnection::Sqlite(c) => {
            let mut taken = 0;
            for row in rows {
                taken += Insertion::of(InsertAddresses, row).execute(c)?;
            }
            Ok(taken)
        }
    }
}

/// Forgets up to `limit` addresses of mailings that are over. Returns how many.
///
/// # Errors
/// Those of the database.
pub fn forget_addresses(c: &mut AnyConnection, limit: i64) -> Result<usize> {
    let over: Vec<i32> = mailing_address::table
        .inner_join(mailing::table.on(mailing::number.eq(mailing_address::mailing_number)))
        .filter(mailing::settled.eq(true))
        .select(mailing_address::mailing_number)
        .limit(1)
        .load(c)?;
    let Some(number) = over.first() else { return Ok(0) };
    let some: Vec<Vec<u8>> = mailing_address::table
        .filter(mailing_address::mailing_number.eq(number))
        .select(mailing_address::address_key)
        .limit(limit)
        .load(c)?;
    let some = mailing_address::table
        .filter(mailing_address::mailing_number.eq(number))
        .filter(mailing_address::address_key.eq_any(some));
    Ok(diesel::delete(some).execute(c)?)
}
