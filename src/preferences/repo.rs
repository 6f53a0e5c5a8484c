//! Statements on preferences, and on addresses that opted out. Both tables hold only those who ever said something, and
//! usually that is nobody: a look for the recipients of a page costs nearly nothing then.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::exists;
use diesel::prelude::*;

use super::model::{Preferences, Wishes};
use super::quiet::{QuietHours, TimeOfDay};
use crate::db::AnyConnection;
use crate::db::schema::{client, message, opt_out_address, preference};
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

/// Stands for every group in `opt_out_address`.
const EVERYTHING: &str = "";

#[derive(Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = preference, treat_none_as_null = true)]
struct Row {
    channels: i16,
    message_groups: Option<String>,
    quiet_from: Option<i16>,
    quiet_until: Option<i16>,
    updated_at: Timestamp,
}

impl Row {
    fn of(wants: &Preferences, updated_at: Timestamp) -> Result<Self> {
        let groups = (!wants.groups.is_empty()).then(|| serde_json::to_string(&wants.groups)).transpose();
        let minutes = |time: TimeOfDay| i16::try_from(time.minutes()).ok();
        Ok(Self {
            channels: wants.channels.iter().fold(0, |bits, channel| bits | bit(*channel)),
            message_groups: groups.map_err(|e| Error::Internal(e.into()))?,
            quiet_from: wants.quiet.and_then(|quiet| minutes(quiet.from())),
            quiet_until: wants.quiet.and_then(|quiet| minutes(quiet.until())),
            updated_at,
        })
    }

    fn preferences(self) -> Result<Preferences> {
        let groups = self.message_groups.as_deref().map(serde_json::from_str).transpose();
        let time = |minutes: Option<i16>| TimeOfDay::of_minutes(u16::try_from(minutes?).ok()?);
        Ok(Preferences {
            channels: ChannelKind::TO_PEOPLE
                .iter()
                .filter(|c| self.channels & bit(**c) != 0)
                .copied()
                .collect(),
            groups: groups.map_err(|e| Error::Internal(e.into()))?.unwrap_or_default(),
            quiet: time(self.quiet_from)
                .zip(time(self.quiet_until))
                .and_then(|(from, until)| QuietHours::new(from, until)),
        })
    }
}

/// The place of a channel in the mask.
fn bit(channel: ChannelKind) -> i16 {
    1 << channel.code()
}

/// What the client said and when; none when it never did, or there is no such client.
///
/// # Errors
/// Those of the database.
pub fn find(c: &mut AnyConnection, id: ClientId) -> Result<Option<(Preferences, Timestamp)>> {
    let row: Option<Row> = preference::table.find(id).select(Row::as_select()).first(c).optional()?;
    row.map(|row| {
        let at = row.updated_at;
        Ok((row.preferences()?, at))
    })
    .transpose()
}

/// Whether there is this client.
///
/// # Errors
/// Those of the database.
pub fn client_exists(c: &mut AnyConnection, id: ClientId) -> Result<bool> {
    Ok(diesel::select(exists(client::table.find(id))).get_result(c)?)
}

/// As [`client_exists`]; nobody deletes it or changes its preferences before this transaction ends.
///
/// # Errors
/// Those of the database.
pub fn lock_client(c: &mut AnyConnection, id: ClientId) -> Result<bool> {
    match c {
        AnyConnection::Postgres(c) => {
            let found: Option<ClientId> =
                client::table.find(id).select(client::id).for_update().first(c).optional()?;
            Ok(found.is_some())
        }
        // a SQLite transaction that may write is the only one
        sqlite @ AnyConnection::Sqlite(_) => client_exists(sqlite, id),
    }
}

/// Stores what a client wants from now on.
///
/// # Errors
/// Those of the database.
pub fn store(c: &mut AnyConnection, id: ClientId, wants: &Preferences, now: Timestamp) -> Result<()> {
    // no upsert: diesel has none for a connection that may be either. The client's row is locked.
    let row = Row::of(wants, now)?;
    if diesel::update(preference::table.find(id)).set(&row).execute(c)? == 0 {
        diesel::insert_into(preference::table).values((preference::client_id.eq(id), row)).execute(c)?;
    }
    Ok(())
}

/// Whether a table is empty, where it is cheaper to ask than to look for a list: on SQLite, which prepares a list anew each
/// time. PostgreSQL would take a round trip for it.
macro_rules! is_empty {
    ($c:expr, $query:expr) => {
        match $c {
            AnyConnection::Sqlite(c) => !diesel::select(exists($query)).get_result::<bool>(c)?,
            AnyConnection::Postgres(_) => false,
        }
    };
}

/// What these clients wish, of those who ever said something. One statement for all; a second one on SQLite, where a list
/// is prepared anew each time, once anybody has.
///
/// # Errors
/// Those of the database.
pub fn of_clients(c: &mut AnyConnection, ids: &[ClientId]) -> Result<HashMap<ClientId, Arc<Wishes>>> {
    if ids.is_empty() || is_empty!(c, preference::table.select(preference::client_id)) {
        return Ok(HashMap::new());
    }
    let rows: Vec<(ClientId, Option<String>, Row)> = preference::table
        .inner_join(client::table.on(client::id.eq(preference::client_id)))
        .filter(preference::client_id.eq_any(ids))
        .select((preference::client_id, client::timezone, Row::as_select()))
        .load(c)?;
    rows.into_iter()
        .map(|(id, zone, row)| {
            let zone = zone.and_then(|zone| zone.parse().ok());
            Ok((id, Arc::new(Wishes { preferences: row.preferences()?, zone })))
        })
        .collect()
}

/// What the owners of these addresses on a channel wish, of those that opted out. As [`of_clients`].
///
/// # Errors
/// Those of the database.
pub fn of_addresses(
    c: &mut AnyConnection,
    channel: ChannelKind,
    addresses: &[&str],
) -> Result<HashMap<String, Arc<Wishes>>> {
    if addresses.is_empty() || is_empty!(c, opt_out_address::table.select(opt_out_address::channel)) {
        return Ok(HashMap::new());
    }
    let names: Vec<String> = addresses.iter().map(|address| name(channel, address)).collect();
    let rows: Vec<(String, String)> = opt_out_address::table
        .filter(opt_out_address::channel.eq(channel.code()))
        .filter(opt_out_address::recipient.eq_any(names))
        .select((opt_out_address::recipient, opt_out_address::message_group))
        .load(c)?;
    let mut found: HashMap<String, Wishes> = HashMap::new();
    for (address, group) in rows {
        let wants = &mut found.entry(address).or_default().preferences;
        if group == EVERYTHING {
            wants.channels.insert(channel);
        } else {
            wants.groups.insert(group);
        }
    }
    Ok(found.into_iter().map(|(address, wishes)| (address, Arc::new(wishes))).collect())
}

/// The wishes of the recipients of a page's messages.
#[derive(Debug, Default)]
pub struct Known {
    /// By clients.
    pub clients: HashMap<ClientId, Arc<Wishes>>,
    /// By addresses that are no client's.
    addresses: HashMap<String, Arc<Wishes>>,
}

impl Known {
    /// Of these recipients on a channel: clients, and addresses of nobody who is one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn of<'r>(
        c: &mut AnyConnection,
        channel: ChannelKind,
        recipients: impl Iterator<Item = (Option<ClientId>, &'r str)>,
    ) -> Result<Self> {
        let (mut ids, mut addresses) = (Vec::new(), Vec::new());
        for (client, address) in recipients {
            match client {
                Some(id) => ids.push(id),
                None => addresses.push(address),
            }
        }
        Ok(Self { clients: of_clients(c, &ids)?, addresses: of_addresses(c, channel, &addresses)? })
    }

    /// Those of one recipient.
    pub fn by(&self, channel: ChannelKind, client: Option<ClientId>, address: &str) -> Option<Arc<Wishes>> {
        match client {
            Some(id) => self.clients.get(&id).cloned(),
            None if self.addresses.is_empty() => None,
            None => self.addresses.get(&name(channel, address)).cloned(),
        }
    }
}

/// An address by the name under which it opted out: mail servers hardly tell upper from lower case, and who writes an
/// address does not either.
fn name(channel: ChannelKind, address: &str) -> String {
    if channel == ChannelKind::Email { address.to_lowercase() } else { address.to_owned() }
}

/// The channel of this message, its recipient, and the client if it is one; none when there is no such message.
///
/// # Errors
/// Those of the database.
pub fn recipient_of(
    c: &mut AnyConnection,
    id: MessageId,
) -> Result<Option<(ChannelKind, String, Option<ClientId>)>> {
    let found: Option<(i16, String, Option<ClientId>)> = message::table
        .find(id)
        .select((message::channel, message::recipient, message::client_id))
        .first(c)
        .optional()?;
    found.map(|(code, address, client)| Ok((ChannelKind::from_code(code)?, address, client))).transpose()
}

/// Some of the clients with this e-mail address, in the order in which they are locked.
///
/// # Errors
/// Those of the database.
pub fn clients_by_email(c: &mut AnyConnection, address: &str, limit: i64) -> Result<Vec<ClientId>> {
    let found = client::table.filter(client::email.eq(address)).select(client::id);
    Ok(found.order(client::id).limit(limit).load(c)?)
}

/// Notes that nothing of this group, or nothing at all, is wanted at an address, or that it is wanted again.
///
/// # Errors
/// Those of the database.
pub fn store_address(
    c: &mut AnyConnection,
    (channel, address): (ChannelKind, &str),
    group: Option<&str>,
    is_wanted: bool,
    now: Timestamp,
) -> Result<()> {
    let key = (channel.code(), name(channel, address), group.unwrap_or(EVERYTHING));
    if is_wanted {
        diesel::delete(opt_out_address::table.find(key)).execute(c)?;
        return Ok(());
    }
    let row = (
        opt_out_address::channel.eq(key.0),
        opt_out_address::recipient.eq(key.1),
        opt_out_address::message_group.eq(key.2),
        opt_out_address::created_at.eq(now),
    );
    let new = diesel::insert_into(opt_out_address::table).values(row).on_conflict_do_nothing();
    match c {
        AnyConnection::Postgres(c) => new.execute(c)?,
        AnyConnection::Sqlite(c) => new.execute(c)?,
    };
    Ok(())
}
