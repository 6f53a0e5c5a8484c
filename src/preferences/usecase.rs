//! The use cases of preferences.

use std::time::Duration;

use super::link::UnsubscribeTokens;
use super::model::{
    ClientPreferences, MOST_GROUPS, OptOutAddress, PreferenceChange, Preferences, UnsubscribeSubject,
};
use super::repo;
use crate::clock::Clock;
use crate::db::types::{ClientId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::lifecycle::{Shutdown, run_periodically};
use crate::suppressions;
use crate::suppressions::model::{NewSuppression, SuppressionReason};

/// The preferences of one database's clients.
pub struct PreferenceService {
    db: Db,
    clock: Clock,
    tokens: UnsubscribeTokens,
}

impl PreferenceService {
    /// Creates the use cases over a database. `tokens` reads the tokens of unsubscribe links.
    pub fn new(db: Db, clock: Clock, tokens: UnsubscribeTokens) -> Self {
        Self { db, clock, tokens }
    }

    /// Returns the preferences of a client.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the client does not exist.
    pub async fn get(&self, id: ClientId) -> Result<ClientPreferences> {
        let read = move |c: &mut AnyConnection| {
            let found = repo::find(c, id)?;
            if found.is_none() && !repo::client_exists(c, id)? {
                return Ok(None);
            }
            let addresses = repo::addresses_of(c, id)?;
            Ok(Some(ClientPreferences::of(id, found, &repo::suppressions_of_addresses(c, &addresses)?)))
        };
        self.db.read(read).await?.ok_or_else(|| Error::not_found("client", id))
    }

    /// Replaces the preferences of a client: every channel or group that a given list does not name is opted in. Parts
    /// that are not given stay.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] for too many groups.
    pub async fn replace(&self, id: ClientId, change: PreferenceChange) -> Result<ClientPreferences> {
        self.change(id, move |known| change.of_whole_lists(known)).await
    }

    /// Changes the named preferences of a client.
    ///
    /// # Errors
    /// The same as [`PreferenceService::replace`].
    pub async fn patch(&self, id: ClientId, change: PreferenceChange) -> Result<ClientPreferences> {
        self.change(id, move |_| change).await
    }

    async fn change(
        &self,
        id: ClientId,
        change: impl FnOnce(&Preferences) -> PreferenceChange + Send + 'static,
    ) -> Result<ClientPreferences> {
        let now = self.clock.now();
        let changed = self.db.write(move |c| change_one(c, id, change, now)).await?;
        changed.ok_or_else(|| Error::not_found("client", id))
    }

    /// Returns the subject of a link's token; `None` if this service did not issue it.
    pub fn subject(&self, token: &str) -> Option<UnsubscribeSubject> {
        self.tokens.read(token)
    }

    /// Opts the address of a link out, or in again if `is_wanted`. The operation is idempotent. Returns false if there
    /// is no address: a link of an earlier version names a client or a message, which may have been deleted.
    ///
    /// # Errors
    /// Database errors.
    pub async fn follow(&self, subject: UnsubscribeSubject, is_wanted: bool) -> Result<bool> {
        let now = self.clock.now();
        self.db.write(move |c| follow(c, subject, is_wanted, now)).await
    }
}

/// Checks the largest number of opt-outs.
fn check(wants: &Preferences) -> Result<()> {
    if wants.groups.len() > MOST_GROUPS {
        return Err(Error::invalid("groups", format!("must contain at most {MOST_GROUPS} opt-outs")));
    }
    Ok(())
}

/// Changes the preferences of a client and the suppressions of its addresses. Returns `None` if the client does not
/// exist.
fn change_one(
    c: &mut AnyConnection,
    id: ClientId,
    change: impl FnOnce(&Preferences) -> PreferenceChange,
    now: Timestamp,
) -> Result<Option<ClientPreferences>> {
    if !repo::lock_client(c, id)? {
        return Ok(None);
    }
    let stored = repo::find(c, id)?;
    let before = stored.as_ref().map(|(wants, _)| wants.clone()).unwrap_or_default();
    let addresses = repo::addresses_of(c, id)?;
    let mut known = before.clone();
    known.add(&repo::suppressions_of_addresses(c, &addresses)?);
    let change = change(&known);
    let mut wants = before.clone();
    wants.apply(&change);
    check(&wants)?;
    store_suppressions(c, &addresses, (&before, &wants), &change, now)?;
    let stored = if wants == before {
        stored
    } else {
        repo::store(c, id, &wants, now)?;
        Some((wants, now))
    };
    Ok(Some(ClientPreferences::of(id, stored, &repo::suppressions_of_addresses(c, &addresses)?)))
}

/// Copies the opt-outs to suppressions of the client's addresses. Consent belongs to the address, so an opt-out applies
/// to whoever has the address later.
fn store_suppressions(
    c: &mut AnyConnection,
    addresses: &[(ChannelKind, String)],
    (before, wants): (&Preferences, &Preferences),
    change: &PreferenceChange,
    now: Timestamp,
) -> Result<()> {
    let mut new = Vec::new();
    for (channel, address) in addresses {
        let one = |group: Option<&str>| NewSuppression {
            channel: *channel,
            address: address.clone(),
            group: group.map(str::to_owned),
            reason: SuppressionReason::Unsubscribed,
            source: "preferences".to_owned(),
            note: None,
            since: None,
        };
        if wants.channels.contains(channel) && !before.channels.contains(channel) {
            new.push(one(None));
        }
        new.extend(wants.groups.difference(&before.groups).map(|group| one(Some(group))));
        if change.channels.as_ref().and_then(|channels| channels.get(channel)) == Some(&true) {
            suppressions::repo::lift(c, (*channel, address), None)?;
        }
        let wanted = change.groups.iter().flatten().filter(|(_, is_wanted)| **is_wanted);
        for (group, _) in wanted {
            suppressions::repo::lift(c, (*channel, address), Some(group))?;
        }
    }
    if !new.is_empty() {
        suppressions::repo::store(c, &new, now)?;
    }
    Ok(())
}

fn follow(
    c: &mut AnyConnection,
    subject: UnsubscribeSubject,
    is_wanted: bool,
    now: Timestamp,
) -> Result<bool> {
    let address = match subject.who {
        OptOutAddress::Address(address) => Some(address),
        OptOutAddress::Client(id) => repo::addresses_of(c, id)?
            .into_iter()
            .find_map(|(channel, address)| (channel == subject.channel).then_some(address)),
        OptOutAddress::RecipientOf(message) => repo::recipient_of(c, message)?,
    };
    let Some(address) = address else { return Ok(false) };
    if is_wanted {
        suppressions::repo::lift(c, (subject.channel, &address), subject.group.as_deref())?;
        return Ok(true);
    }
    let new = NewSuppression {
        channel: subject.channel,
        address,
        group: subject.group,
        reason: SuppressionReason::Unsubscribed,
        source: "link".to_owned(),
        note: None,
        since: None,
    };
    suppressions::repo::store(c, &[new], now)?;
    Ok(true)
}

/// The interval of the cleanup of finalized mailings.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// Deletes the addresses of finalized mailings, until the shutdown.
pub async fn sweep(db: Db, shutdown: Shutdown) {
    run_periodically(shutdown, SWEEP, || async {
        match db.write(|c| repo::delete_addresses(c, SWEPT_AT_ONCE)).await {
            Ok(count) => count > 0,
            Err(error) => {
                tracing::warn!(%error, "cleanup of mailing addresses failed; will retry");
                false
            }
        }
    })
    .await;
}
