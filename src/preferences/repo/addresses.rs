//! The addresses of a mailing's recipients, so that each address gets the mailing once.
//!
//! E-mail addresses are recorded only if several clients share them, which an index on clients shows. A row for every
//! recipient would change a database page for nearly every mail, and write more than everything else that a mail costs.

use std::collections::{HashMap, HashSet};

use diesel::dsl::count_star;
use diesel::prelude::*;

use crate::address::normal;
use crate::db::AnyConnection;
use crate::db::bulk::table_row;
use crate::db::schema::{client, mailing, mailing_address};
use crate::db::types::{ClientId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, ClientAddress};
use crate::suppressions::repo::Hasher;

/// Clients that a mailing has planned, in leases or messages, with the address of the message if it is recorded.
pub type Planned = HashMap<ClientId, Option<String>>;

/// A function that returns the planned ones among some clients of a mailing.
pub type FindPlanned<'f> = &'f dyn Fn(&mut AnyConnection, &[ClientId]) -> Result<Planned>;

/// The mailing of a lease.
#[derive(Clone, Copy)]
pub struct LeaseMailing<'f> {
    /// The number of the mailing.
    pub number: i32,
    /// The start of the mailing: clients last changed before it have had their address since then. If it is `None`, no
    /// client is known to.
    pub since: Option<Timestamp>,
    /// The lookup of planned clients.
    pub find_planned: FindPlanned<'f>,
}

/// A client that shares its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AddressOwner {
    id: ClientId,
    updated_at: Timestamp,
}

/// Records the addresses of a mailing for these clients, which are being planned. Returns the clients whose address is
/// already recorded for another client.
///
/// # Errors
/// Database errors.
pub(super) fn duplicates(
    c: &mut AnyConnection,
    mailing: LeaseMailing<'_>,
    channel: ChannelKind,
    addressed: &[(ClientId, &str)],
    now: Timestamp,
) -> Result<HashSet<ClientId>> {
    let mut rows = match channel.spec().client {
        ClientAddress::Email => shared(c, mailing, (channel, addressed), now)?,
        _ => all(c, mailing.number, channel, addressed, now)?,
    };
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    // sorted, so that concurrent leases lock in the same order; the sort is stable, so the first client of an address
    // wins
    rows.sort_by(|a, b| a.address_key.cmp(&b.address_key));
    if InsertAddresses::insert(c, &rows)? == rows.len() {
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

/// Returns a row for each client.
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

/// Returns a row for each client with a shared e-mail address. A client that was planned with the address before it was
/// shared has no row yet, so its row is returned first.
fn shared(
    c: &mut AnyConnection,
    mailing: LeaseMailing<'_>,
    (channel, addressed): (ChannelKind, &[(ClientId, &str)]),
    now: Timestamp,
) -> Result<Vec<AddressRow>> {
    let normal_forms: Vec<_> = addressed.iter().map(|(_, address)| normal(channel, address)).collect();
    let holders = holders(c, &normal_forms)?;
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let own: HashSet<ClientId> = addressed.iter().map(|(id, _)| *id).collect();
    let is_changed = |holder: &AddressOwner| mailing.since.is_none_or(|since| holder.updated_at >= since);
    let in_doubt = holders.values().filter(|holders| holders.iter().any(is_changed));
    let others: Vec<ClientId> =
        in_doubt.flatten().map(|holder| holder.id).filter(|id| !own.contains(id)).collect();
    let planned = if others.is_empty() { Planned::new() } else { (mailing.find_planned)(c, &others)? };
    let planned = &planned;
    let earlier = holders.iter().flat_map(|(address, holders)| {
        // a client that changed to this address later got the mailing at another one
        let is_known = |sent_to: &Option<String>| {
            sent_to.as_ref().is_none_or(|sent_to| normal(channel, sent_to) == *address)
        };
        let planned = holders.iter().filter(move |holder| planned.get(&holder.id).is_some_and(is_known));
        planned.map(|holder| (holder.id, address.as_str()))
    });
    let own = addressed.iter().zip(&normal_forms);
    let own = own.filter(|(_, normal)| holders.contains_key(normal.as_ref())).map(|(one, _)| *one);
    let rows: Vec<_> = earlier.chain(own).collect();
    all(c, mailing.number, channel, &rows, now)
}

/// Returns the clients with these normal forms of e-mail addresses, for the addresses that several clients share.
fn holders(
    c: &mut AnyConnection,
    normal_forms: &[impl AsRef<str>],
) -> Result<HashMap<String, Vec<AddressOwner>>> {
    let mut holders: HashMap<String, Vec<AddressOwner>> = HashMap::new();
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
            holders.entry(address).or_default().push(AddressOwner { id, updated_at });
        }
    }
    Ok(holders)
}

table_row! {
    #[derive(Debug)]
    struct AddressRow in mailing_address {
        mailing_number: i32,
        address_key: Vec<u8>,
        client_id: ClientId,
    }
    insert InsertAddresses "ON CONFLICT DO NOTHING"
}

/// Deletes up to `limit` addresses of finalized mailings. Returns their number.
///
/// # Errors
/// Database errors.
pub fn delete_addresses(c: &mut AnyConnection, limit: i64) -> Result<usize> {
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
