//! What can be done with preferences.

use std::time::Duration;

use super::link::Tokens;
use super::model::{ClientPreferences, MOST_GROUPS, PreferenceChange, Preferences, Subject, Who};
use super::repo;
use crate::clock::Clock;
use crate::db::types::{ClientId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::lifecycle::{Shutdown, tidy};
use crate::suppressions;
use crate::suppressions::model::{NewSuppression, SuppressionReason};

/// The preferences of one database's clients.
pub struct Preferring {
    db: Db,
    clock: Clock,
    tokens: Tokens,
}

impl Preferring {
    /// Over this database; these tokens are taken.
    pub fn new(db: Db, clock: Clock, tokens: Tokens) -> Self {
        Self { db, clock, tokens }
    }

    /// What a client wants.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such client.
    pub async fn get(&self, id: ClientId) -> Result<ClientPreferences> {
        let read = move |c: &mut AnyConnection| {
            let found = repo::find(c, id)?;
            if found.is_none() && !repo::client_exists(c, id)? {
                return Ok(None);
            }
            let addresses = repo::addresses_of(c, id)?;
            Ok(Some(ClientPreferences::of(id, found, &repo::bans_of(c, &addresses)?)))
        };
        self.db.read(read).await?.ok_or_else(|| Error::not_found("client", id))
    }

    /// Sets what a client wants: in a list that is given, what is not named is wanted. What is not given stays.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] for too many groups.
    pub async fn replace(&self, id: ClientId, change: PreferenceChange) -> Result<ClientPreferences> {
        self.change(id, move |known| change.of_whole_lists(known)).await
    }

    /// Changes what is named.
    ///
    /// # Errors
    /// As [`Preferring::replace`].
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

    /// The subject of a link; none for one that this service did not make.
    pub fn subject(&self, token: &str) -> Option<Subject> {
        self.tokens.read(token)
    }

    /// Opts out of what a link is for, or takes that back. Once is enough. Returns whether there was an address to do it for:
    /// a link of an earlier version names a client or a message, which may be gone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow(&self, subject: Subject, is_wanted: bool) -> Result<bool> {
        let now = self.clock.now();
        self.db.write(move |c| follow(c, subject, is_wanted, now)).await
    }
}

/// A list has a bound.
fn check(wants: &Preferences) -> Result<()> {
    if wants.groups.len() > MOST_GROUPS {
        return Err(Error::invalid("groups", format!("must be at most {MOST_GROUPS} that are not wanted")));
    }
    Ok(())
}

/// Changes the preferences of one client, and what stands against its addresses; none when there is no such client.
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
    known.add(&repo::bans_of(c, &addresses)?);
    let change = change(&known);
    let mut wants = before.clone();
    wants.apply(&change);
    check(&wants)?;
    mirror(c, &addresses, (&before, &wants), &change, now)?;
    let stored = if wants == before {
        stored
    } else {
        repo::store(c, id, &wants, now)?;
        Some((wants, now))
    };
    Ok(Some(ClientPreferences::of(id, stored, &repo::bans_of(c, &addresses)?)))
}

/// Consent belongs to the address: whoever has one of these later, what was opted out of stays so.
fn mirror(
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

fn follow(c: &mut AnyConnection, subject: Subject, is_wanted: bool, now: Timestamp) -> Result<bool> {
    let address = match subject.who {
        Who::Address(address) => Some(address),
        Who::Client(id) => repo::addresses_of(c, id)?
            .into_iter()
            .find_map(|(channel, address)| (channel == subject.channel).then_some(address)),
        Who::RecipientOf(message) => repo::recipient_of(c, message)?,
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

/// Between two looks for mailings that are over.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_ONCE: i64 = 1000;

/// Forgets the addresses of mailings that are over, until the shutdown.
pub async fn sweep(db: Db, shutdown: Shutdown) {
    tidy(shutdown, SWEEP, || async {
        match db.write(|c| repo::forget_addresses(c, SWEPT_AT_ONCE)).await {
            Ok(count) => count > 0,
            Err(error) => {
                tracing::warn!(%error, "the addresses of old mailings could not be forgotten; trying again");
                false
            }
        }
    })
    .await;
}
