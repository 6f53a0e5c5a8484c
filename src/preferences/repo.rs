//! The SQL of preferences. The table has a row only for clients that changed their preferences. It is usually empty or
//! small, and a lookup of the recipients of a lease costs nearly nothing.

mod addresses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::dsl::exists;
use diesel::prelude::*;

pub use self::addresses::{LeaseMailing, Planned, delete_addresses};
use super::model::{Preferences, RecipientPreferences};
use super::quiet::{QuietHours, TimeOfDay};
use crate::clients::reach::ClientAddresses;
use crate::db::AnyConnection;
use crate::db::schema::{client, message, preference};
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::suppressions;
use crate::suppressions::model::SuppressionRule;

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

/// Returns the bit of a channel in the mask.
fn bit(channel: ChannelKind) -> i16 {
    1 << channel.code()
}

/// Returns a client's preferences and the time of their last change; `None` if there are none, or the client does not
/// exist.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: ClientId) -> Result<Option<(Preferences, Timestamp)>> {
    let row: Option<Row> = preference::table.find(id).select(Row::as_select()).first(c).optional()?;
    row.map(|row| {
        let at = row.updated_at;
        Ok((row.preferences()?, at))
    })
    .transpose()
}

/// Returns true if the client exists.
///
/// # Errors
/// Database errors.
pub fn client_exists(c: &mut AnyConnection, id: ClientId) -> Result<bool> {
    Ok(diesel::select(exists(client::table.find(id))).get_result(c)?)
}

/// Returns true if the client exists, and locks it and its preferences until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn lock_client(c: &mut AnyConnection, id: ClientId) -> Result<bool> {
    match c {
        AnyConnection::Postgres(c) => {
            let found: Option<ClientId> =
                client::table.find(id).select(client::id).for_update().first(c).optional()?;
            Ok(found.is_some())
        }
        // SQLite has one write transaction at a time
        sqlite @ AnyConnection::Sqlite(_) => client_exists(sqlite, id),
    }
}

/// Stores the preferences of a client.
///
/// # Errors
/// Database errors.
pub fn store(c: &mut AnyConnection, id: ClientId, wants: &Preferences, now: Timestamp) -> Result<()> {
    // not an upsert, which diesel does not have for a connection of either kind. The client's row is locked.
    let row = Row::of(wants, now)?;
    if diesel::update(preference::table.find(id)).set(&row).execute(c)? == 0 {
        diesel::insert_into(preference::table).values((preference::client_id.eq(id), row)).execute(c)?;
    }
    Ok(())
}

/// Returns true if a table is empty, where that check is cheaper than a query with a list: on SQLite, which prepares
/// such a query each time. On PostgreSQL the check would cost a round trip.
macro_rules! is_empty {
    ($c:expr, $query:expr) => {
        match $c {
            AnyConnection::Sqlite(c) => !diesel::select(exists($query)).get_result::<bool>(c)?,
            AnyConnection::Postgres(_) => false,
        }
    };
}

/// Returns the preferences of these clients; clients without preferences are absent. It executes one statement, or two
/// on SQLite if the table is not empty.
///
/// # Errors
/// Database errors.
pub fn client_preferences(
    c: &mut AnyConnection,
    ids: &[ClientId],
) -> Result<HashMap<ClientId, Arc<RecipientPreferences>>> {
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
            Ok((
                id,
                Arc::new(RecipientPreferences {
                    preferences: row.preferences()?,
                    zone,
                    ..RecipientPreferences::default()
                }),
            ))
        })
        .collect()
}

/// The preferences and suppressions of the recipients of some messages.
#[derive(Debug, Default)]
pub struct PreferenceLookup {
    clients: HashMap<ClientId, Arc<RecipientPreferences>>,
    /// The suppressions by address; addresses without one are absent.
    bans: HashMap<String, Vec<SuppressionRule>>,
}

impl PreferenceLookup {
    /// Looks up these recipients on a channel: each has an address, and a client if the address belongs to one.
    ///
    /// # Errors
    /// Database errors.
    pub fn load<'r>(
        c: &mut AnyConnection,
        channel: ChannelKind,
        recipients: impl Iterator<Item = (Option<ClientId>, Option<&'r str>)> + Clone,
    ) -> Result<Self> {
        let ids: Vec<ClientId> = recipients.clone().filter_map(|(client, _)| client).collect();
        let bans =
            suppressions::repo::of_addresses(c, channel, recipients.filter_map(|(_, address)| address))?;
        let bans = bans.into_iter().map(|(address, bans)| (address.to_owned(), bans)).collect();
        Ok(Self { clients: client_preferences(c, &ids)?, bans })
    }

    /// Returns the preferences of one recipient.
    pub fn by(&self, client: Option<ClientId>, address: &str) -> Option<Arc<RecipientPreferences>> {
        let own = client.and_then(|id| self.clients.get(&id));
        match self.bans.get(address) {
            None => own.cloned(),
            Some(bans) => {
                let own = own.map(|preferences| RecipientPreferences::clone(preferences)).unwrap_or_default();
                Some(Arc::new(RecipientPreferences { bans: bans.clone(), ..own }))
            }
        }
    }
}

/// Returns the preferences of the clients of a mailing's lease, by client. Each client is given with its address, if it
/// has one on the channel. If clients share an address, all but one are duplicates; without a mailing there are no
/// duplicates.
///
/// # Errors
/// Database errors.
pub fn lease_preferences(
    c: &mut AnyConnection,
    (mailing, channel): (Option<LeaseMailing<'_>>, ChannelKind),
    recipients: &[(ClientId, Option<String>)],
    now: Timestamp,
) -> Result<HashMap<ClientId, Arc<RecipientPreferences>>> {
    let known = PreferenceLookup::load(
        c,
        channel,
        recipients.iter().map(|(id, address)| (Some(*id), address.as_deref())),
    )?;
    let addressed = recipients.iter().filter_map(|(id, address)| Some((*id, address.as_deref()?)));
    let duplicates = match mailing {
        None => HashSet::new(),
        Some(mailing) => addresses::duplicates(c, mailing, channel, &addressed.collect::<Vec<_>>(), now)?,
    };
    let preferences = recipients.iter().filter_map(|(id, address)| {
        let preferences = known.by(Some(*id), address.as_deref().unwrap_or_default());
        if !duplicates.contains(id) {
            return preferences.map(|preferences| (*id, preferences));
        }
        let own =
            preferences.map(|preferences| RecipientPreferences::clone(&preferences)).unwrap_or_default();
        Some((*id, Arc::new(RecipientPreferences { is_duplicate: true, ..own })))
    });
    Ok(preferences.collect())
}

/// Returns the address of a message's recipient; `None` if the message does not exist or has no address.
///
/// # Errors
/// Database errors.
pub fn recipient_of(c: &mut AnyConnection, id: MessageId) -> Result<Option<String>> {
    let found: Option<String> = message::table.find(id).select(message::recipient).first(c).optional()?;
    Ok(found.filter(|address| !address.is_empty()))
}

/// Returns the addresses of a client.
///
/// # Errors
/// Database errors.
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
    let reach = ClientAddresses {
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

/// Returns the suppressions of these addresses.
///
/// # Errors
/// Database errors.
pub fn suppressions_of_addresses(
    c: &mut AnyConnection,
    addresses: &[(ChannelKind, String)],
) -> Result<Vec<(ChannelKind, SuppressionRule)>> {
    let mut all = Vec::new();
    for (channel, address) in addresses {
        let found = suppressions::repo::of_addresses(c, *channel, std::iter::once(address.as_str()))?;
        all.extend(found.into_values().flatten().map(|ban| (*channel, ban)));
    }
    Ok(all)
}
