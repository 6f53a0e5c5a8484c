//! The SQL of suppressions. Addresses are looked up by a keyed hash of their normal form, so that an erased person's
//! address stays suppressed although it is not stored. Usually the table is empty or small, and a lookup of the
//! recipients of a lease costs nearly nothing.

use std::collections::HashMap;

use diesel::dsl::exists;
use diesel::prelude::*;
use uuid::Uuid;

use super::model::{NewSuppression, Suppression, SuppressionFilter, SuppressionReason, SuppressionRule};
use crate::address::normal;
use crate::db::AnyConnection;
use crate::db::schema::{generated_secret, opt_out_address, suppression};
use crate::db::secrets::secret;
use crate::db::types::{SuppressionId, Timestamp};
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::seal::Signer;

/// The name of the secret for the hashes.
const SECRET: &str = "suppressions";
const PURPOSE: &[u8] = b"fanfare suppressed address 1";
/// The value for all messages in the column of groups.
const EVERYTHING: &str = "";
/// The number of bytes that a hash is truncated to.
const KEY: usize = 16;

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = suppression, treat_none_as_default_value = false)]
struct SuppressionRow {
    id: SuppressionId,
    channel: i16,
    address_key: Vec<u8>,
    message_group: String,
    reason: i16,
    address: Option<String>,
    source: String,
    note: Option<String>,
    since: Timestamp,
}

impl SuppressionRow {
    fn suppression(self) -> Result<Suppression> {
        Ok(Suppression {
            id: self.id,
            channel: ChannelKind::from_code(self.channel)?,
            address: self.address,
            group: group_of(self.message_group),
            reason: SuppressionReason::from_code(self.reason)?,
            since: self.since,
            source: self.source,
            note: self.note,
        })
    }
}

fn group_of(column: String) -> Option<String> {
    (column != EVERYTHING).then_some(column)
}

/// Computes the hashes by which addresses are looked up.
pub struct Hasher(Signer);

impl Hasher {
    /// Creates a hasher with the installation's secret, which is generated if it does not exist.
    ///
    /// # Errors
    /// Database errors.
    pub fn of(c: &mut AnyConnection, now: Timestamp) -> Result<Self> {
        Ok(Self(Signer::new(&secret(c, SECRET, now)?, PURPOSE)))
    }

    /// Creates a hasher with the installation's secret, if there are suppressions.
    fn known(c: &mut AnyConnection) -> Result<Option<Self>> {
        let found: Option<Vec<u8>> = generated_secret::table
            .find(SECRET)
            .filter(exists(suppression::table.select(suppression::id)))
            .select(generated_secret::secret)
            .first(c)
            .optional()?;
        Ok(found.map(|secret| Self(Signer::new(&secret, PURPOSE))))
    }

    /// Returns the hash of an address, which all its spellings share.
    pub fn key(&self, channel: ChannelKind, address: &str) -> Vec<u8> {
        let normal = normal(channel, address);
        let mut text = Vec::with_capacity(normal.len() + 2);
        text.extend_from_slice(&channel.code().to_be_bytes());
        text.extend_from_slice(normal.as_bytes());
        let mut key = self.0.code(&text);
        key.truncate(KEY);
        key
    }
}

/// Returns the suppressions of these addresses of a channel, by the addresses as they were given. Addresses without one
/// are absent.
///
/// # Errors
/// Database errors.
pub fn of_addresses<'a>(
    c: &mut AnyConnection,
    channel: ChannelKind,
    addresses: impl Iterator<Item = &'a str>,
) -> Result<HashMap<&'a str, Vec<SuppressionRule>>> {
    let mut addresses = addresses.peekable();
    if addresses.peek().is_none() {
        return Ok(HashMap::new());
    }
    let Some(hasher) = Hasher::known(c)? else { return Ok(HashMap::new()) };
    let keyed: Vec<(Vec<u8>, &str)> =
        addresses.map(|address| (hasher.key(channel, address), address)).collect();
    let mut bans: HashMap<Vec<u8>, Vec<SuppressionRule>> = HashMap::new();
    let keys: Vec<&[u8]> = keyed.iter().map(|(key, _)| key.as_slice()).collect();
    let rows: Vec<(Vec<u8>, String, i16)> = suppression::table
        .filter(suppression::address_key.eq_any(keys))
        .select((suppression::address_key, suppression::message_group, suppression::reason))
        .order(suppression::since)
        .load(c)?;
    for (key, group, reason) in rows {
        let ban = SuppressionRule { group: group_of(group), reason: SuppressionReason::from_code(reason)? };
        bans.entry(key).or_default().push(ban);
    }
    let found = keyed.into_iter().filter_map(|(key, address)| Some((address, bans.get(&key)?.clone())));
    Ok(found.collect())
}

/// Stores suppressions; existing ones stay as they are. Returns the stored suppressions in the order given, each with
/// true if it is new.
///
/// # Errors
/// Database errors.
pub fn store(
    c: &mut AnyConnection,
    new: &[NewSuppression],
    now: Timestamp,
) -> Result<Vec<(Suppression, bool)>> {
    let hasher = Hasher::of(c, now)?;
    let mut stored = Vec::with_capacity(new.len());
    for one in new {
        let key = hasher.key(one.channel, &one.address);
        let group = one.group.as_deref().unwrap_or(EVERYTHING);
        let row = SuppressionRow {
            id: SuppressionId::new(),
            channel: one.channel.code(),
            address_key: key.clone(),
            message_group: group.to_owned(),
            reason: one.reason.code(),
            address: Some(normal(one.channel, &one.address).into_owned()),
            source: one.source.clone(),
            note: one.note.clone(),
            since: one.since.unwrap_or(now),
        };
        let insert = diesel::insert_into(suppression::table).values(&row).on_conflict_do_nothing();
        let count = match c {
            AnyConnection::Postgres(c) => insert.execute(c)?,
            AnyConnection::Sqlite(c) => insert.execute(c)?,
        };
        let row = if count > 0 {
            row
        } else {
            suppression::table
                .filter(suppression::address_key.eq(key))
                .filter(suppression::message_group.eq(group))
                .filter(suppression::reason.eq(one.reason.code()))
                .select(SuppressionRow::as_select())
                .first(c)?
        };
        stored.push((row.suppression()?, count > 0));
    }
    Ok(stored)
}

/// Lifts the suppressions of an address that its owner may lift, of a group or of all messages. Returns their number.
///
/// # Errors
/// Database errors.
pub fn lift(
    c: &mut AnyConnection,
    (channel, address): (ChannelKind, &str),
    group: Option<&str>,
) -> Result<usize> {
    let Some(hasher) = Hasher::known(c)? else { return Ok(0) };
    let reasons = SuppressionReason::ALL.iter().filter(|reason| reason.ends_with_consent());
    let reasons: Vec<i16> = reasons.map(|reason| reason.code()).collect();
    let of_address = suppression::table
        .filter(suppression::address_key.eq(hasher.key(channel, address)))
        .filter(suppression::message_group.eq(group.unwrap_or(EVERYTHING)))
        .filter(suppression::reason.eq_any(reasons));
    Ok(diesel::delete(of_address).execute(c)?)
}

/// Returns the suppression with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: SuppressionId) -> Result<Option<Suppression>> {
    let row: Option<SuppressionRow> =
        suppression::table.find(id).select(SuppressionRow::as_select()).first(c).optional()?;
    row.map(SuppressionRow::suppression).transpose()
}

/// Deletes a suppression. Returns false if it does not exist.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, id: SuppressionId) -> Result<bool> {
    Ok(diesel::delete(suppression::table.find(id)).execute(c)? > 0)
}

/// Returns up to `limit` matching suppressions after `after`, in the order of creation.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &SuppressionFilter,
    after: Option<SuppressionId>,
    limit: i64,
) -> Result<Vec<Suppression>> {
    let mut query = suppression::table
        .select(SuppressionRow::as_select())
        .filter(suppression::id.gt(after.unwrap_or(SuppressionId(Uuid::nil()))))
        .order(suppression::id)
        .limit(limit)
        .into_boxed();
    if let Some((channel, address)) = &filter.address {
        let Some(hasher) = Hasher::known(c)? else { return Ok(Vec::new()) };
        query = query.filter(suppression::address_key.eq(hasher.key(*channel, address)));
    }
    if let Some(channel) = filter.channel {
        query = query.filter(suppression::channel.eq(channel.code()));
    }
    if let Some(reason) = filter.reason {
        query = query.filter(suppression::reason.eq(reason.code()));
    }
    if let Some(group) = &filter.group {
        query = query.filter(suppression::message_group.eq(group.clone()));
    }
    let rows: Vec<SuppressionRow> = query.load(c)?;
    rows.into_iter().map(SuppressionRow::suppression).collect()
}

/// Clears the addresses and notes of suppressions whose owner was erased, and keeps the hashes. Returns their number.
///
/// # Errors
/// Database errors.
pub fn erase(c: &mut AnyConnection, addresses: &[(ChannelKind, String)]) -> Result<usize> {
    let Some(hasher) = Hasher::known(c)? else { return Ok(0) };
    let keys: Vec<Vec<u8>> = addresses.iter().map(|(channel, text)| hasher.key(*channel, text)).collect();
    let of_them = suppression::table.filter(suppression::address_key.eq_any(keys));
    let nothing = (suppression::address.eq(None::<String>), suppression::note.eq(None::<String>));
    Ok(diesel::update(of_them).set(nothing).execute(c)?)
}

/// Converts up to `limit` opt-outs that an earlier version stored by address. Returns their number.
///
/// # Errors
/// Database errors.
pub fn adopt(c: &mut AnyConnection, limit: i64, now: Timestamp) -> Result<usize> {
    let rows: Vec<(i16, String, String, Timestamp)> = opt_out_address::table.limit(limit).load(c)?;
    let new = rows.iter().map(|(channel, address, group, since)| {
        Ok(NewSuppression {
            channel: ChannelKind::from_code(*channel)?,
            address: address.clone(),
            group: group_of(group.clone()),
            reason: SuppressionReason::Unsubscribed,
            source: "migration".to_owned(),
            note: None,
            since: Some(*since),
        })
    });
    store(c, &new.collect::<Result<Vec<_>>>()?, now)?;
    for (channel, address, group, _) in &rows {
        diesel::delete(opt_out_address::table.find((*channel, address, group))).execute(c)?;
    }
    Ok(rows.len())
}
