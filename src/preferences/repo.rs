//! The SQL of preferences. The table holds only those who ever said something, and usually that is nobody: a look for the
//! recipients of a page costs nearly nothing then.

mod addresses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::dsl::exists;
use diesel::prelude::*;

pub use self::addresses::{MailingOfPage, Planned, forget_addresses};
use super::model::{Preferences, Wishes};
use super::quiet::{QuietHours, TimeOfDay};
use crate::clients::reach::Reach;
use crate::db::AnyConnection;
use crate::db::schema::{client, message, preference};
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::suppressions;
use crate::suppressions::model::Ban;

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
            Ok((id, Arc::new(Wishes { preferences: row.preferences()?, zone, ..Wishes::default() })))
        })
        .collect()
}

/// The wishes of the recipients of some messages.
#[derive(Debug, Default)]
pub struct Known {
    clients: HashMap<ClientId, Arc<Wishes>>,
    /// By addresses, of those that something stands against.
    bans: HashMap<String, Vec<Ban>>,
}

impl Known {
    /// Looks up these recipients on a channel: each an address, and the client if it is one's.
    ///
    /// # Errors
    /// Those of the database.
    pub fn of<'r>(
        c: &mut AnyConnection,
        channel: ChannelKind,
        recipients: impl Iterator<Item = (Option<ClientId>, Option<&'r str>)> + Clone,
    ) -> Result<Self> {
        let ids: Vec<ClientId> = recipients.clone().filter_map(|(client, _)| client).collect();
        let bans =
            suppressions::repo::of_addresses(c, channel, recipients.filter_map(|(_, address)| address))?;
        let bans = bans.into_iter().map(|(address, bans)| (address.to_owned(), bans)).collect();
        Ok(Self { clients: of_clients(c, &ids)?, bans })
    }

    /// Those of one recipient.
    pub fn by(&self, client: Option<ClientId>, address: &str) -> Option<Arc<Wishes>> {
        let own = client.and_then(|id| self.clients.get(&id));
        match self.bans.get(address) {
            None => own.cloned(),
            Some(bans) => {
                let own = own.map(|wishes| Wishes::clone(wishes)).unwrap_or_default();
                Some(Arc::new(Wishes { bans: bans.clone(), ..own }))
            }
        }
    }
}

/// The wishes of the clients of a mailing's page, by client: each comes with its address, if it has one on the channel. Of
/// clients who share an address all but one are duplicates; without a mailing nobody can share one.
///
/// # Errors
/// Those of the database.
pub fn of_page(
    c: &mut AnyConnection,
    (mailing, channel): (Option<MailingOfPage<'_>>, ChannelKind),
    recipients: &[(ClientId, Option<String>)],
    now: Timestamp,
) -> Result<HashMap<ClientId, Arc<Wishes>>> {
    let known =
        Known::of(c, channel, recipients.iter().map(|(id, address)| (Some(*id), address.as_deref())))?;
    let addressed = recipients.iter().filter_map(|(id, address)| Some((*id, address.as_deref()?)));
    let duplicates = match mailing {
        None => HashSet::new(),
        Some(mailing) => addresses::duplicates(c, mailing, channel, &addressed.collect::<Vec<_>>(), now)?,
    };
    let wishes = recipients.iter().filter_map(|(id, address)| {
        let wishes = known.by(Some(*id), address.as_deref().unwrap_or_default());
        if !duplicates.contains(id) {
            return wishes.map(|wishes| (*id, wishes));
        }
        let own = wishes.map(|wishes| Wishes::clone(&wishes)).unwrap_or_default();
        Some((*id, Arc::new(Wishes { is_duplicate: true, ..own })))
    });
    Ok(wishes.collect())
}

/// The address that this message went to; none when there is no such message, or it went nowhere.
///
/// # Errors
/// Those of the database.
pub fn recipient_of(c: &mut AnyConnection, id: MessageId) -> Result<Option<String>> {
    let found: Option<String> = message::table.find(id).select(message::recipient).first(c).optional()?;
    Ok(found.filter(|address| !address.is_empty()))
}

/// The addresses at which a client is reached.
///
/// # Errors
/// Those of the database.
pub fn addresses_of(c: &mut AnyConnection, id: ClientId) -> Result<Vec<(ChannelKind, String)>> {
    type Fields = (Option<i64>, Option<String>, Option<String>, Option<String>, String);
    let found: Option<Fields> = client::table
        .find(id)
        .select((
            client::phone_number,
            client::email,
            client::push_token,
            client::external_id,
            client::attributes,
        ))
        .first(c)
        .optional()?;
    let Some((phone_number, email, push_token, external_id, attributes)) = found else {
        return Ok(Vec::new());
    };
    let reach = Reach {
        id,
        phone_number,
        email: email.as_deref(),
        push_token: push_token.as_deref(),
        external_id: external_id.as_deref(),
        attributes: &attributes,
    };
    let addresses = ChannelKind::TO_PEOPLE.iter().filter_map(|channel| Some((*channel, reach.on(*channel)?)));
    Ok(addresses.collect())
}

/// The bans on these addresses.
///
/// # Errors
/// Those of the database.
pub fn bans_of(
    c: &mut AnyConnection,
    addresses: &[(ChannelKind, String)],
) -> Result<Vec<(ChannelKind, Ban)>> {
    let mut all = Vec::new();
    for (channel, address) in addresses {
        let found = suppressions::repo::of_addresses(c, *channel, std::iter::once(address.as_str()))?;
        all.extend(found.into_values().flatten().map(|ban| (*channel, ban)));
    }
    Ok(all)
}
