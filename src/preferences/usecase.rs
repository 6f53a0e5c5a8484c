//! What can be done with preferences.

use super::link::Tokens;
use super::model::{ClientPreferences, MOST_GROUPS, PreferenceChange, Preferences, Subject, Who};
use super::repo;
use crate::clock::Clock;
use crate::db::types::{ClientId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

/// Clients with one e-mail address that unsubscribe together with it.
const SHARERS: i64 = 100;

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
            let exists = found.is_some() || repo::client_exists(c, id)?;
            Ok(exists.then(|| ClientPreferences::of(id, found)))
        };
        self.db.read(read).await?.ok_or_else(|| Error::not_found("client", id))
    }

    /// Sets what a client wants: what is not named is wanted.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Invalid`] for too many groups.
    pub async fn replace(&self, id: ClientId, change: PreferenceChange) -> Result<ClientPreferences> {
        self.change(id, move |wants| {
            *wants = Preferences::default();
            wants.apply(change);
            check(wants)
        })
        .await
    }

    /// Changes what is named.
    ///
    /// # Errors
    /// As [`Preferring::replace`].
    pub async fn patch(&self, id: ClientId, change: PreferenceChange) -> Result<ClientPreferences> {
        self.change(id, move |wants| {
            wants.apply(change);
            check(wants)
        })
        .await
    }

    async fn change(
        &self,
        id: ClientId,
        change: impl FnOnce(&mut Preferences) -> Result<()> + Send + 'static,
    ) -> Result<ClientPreferences> {
        let now = self.clock.now();
        let changed = self.db.write(move |c| change_one(c, id, change, now)).await?;
        changed.ok_or_else(|| Error::not_found("client", id))
    }

    /// What a link is for; none for one that this service did not make.
    pub fn subject(&self, token: &str) -> Option<Subject> {
        self.tokens.read(token)
    }

    /// Opts out of what a link is for, or takes that back. Once is enough. Of a client or a message that is gone there is
    /// nothing left to do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow(&self, subject: Subject, is_wanted: bool) -> Result<()> {
        let now = self.clock.now();
        self.db.write(move |c| follow(c, &subject, is_wanted, now)).await
    }
}

/// A user's list has a bound; a click in a mail always holds.
fn check(wants: &Preferences) -> Result<()> {
    if wants.groups.len() > MOST_GROUPS {
        return Err(Error::invalid("groups", format!("must be at most {MOST_GROUPS} that are not wanted")));
    }
    Ok(())
}

/// Changes the preferences of one client; none when there is no such client.
fn change_one(
    c: &mut AnyConnection,
    id: ClientId,
    change: impl FnOnce(&mut Preferences) -> Result<()>,
    now: Timestamp,
) -> Result<Option<ClientPreferences>> {
    if !repo::lock_client(c, id)? {
        return Ok(None);
    }
    let stored = repo::find(c, id)?;
    let mut wants = stored.as_ref().map(|(wants, _)| wants.clone()).unwrap_or_default();
    change(&mut wants)?;
    if stored.as_ref().is_some_and(|(before, _)| *before == wants) {
        return Ok(Some(ClientPreferences::of(id, stored)));
    }
    repo::store(c, id, &wants, now)?;
    Ok(Some(ClientPreferences::of(id, Some((wants, now)))))
}

fn follow(c: &mut AnyConnection, subject: &Subject, is_wanted: bool, now: Timestamp) -> Result<()> {
    let clients = match subject.who {
        Who::Client(id) => vec![id],
        Who::RecipientOf(message) => match repo::recipient_of(c, message)? {
            None => Vec::new(),
            Some((_, _, Some(client))) => vec![client],
            Some((channel, address, None)) => {
                repo::store_address(c, (channel, &address), subject.group.as_deref(), is_wanted, now)?;
                // whoever it is by now: the address's owner does not know clients from others
                let is_mail = channel == ChannelKind::Email;
                if is_mail { repo::clients_by_email(c, &address, SHARERS)? } else { Vec::new() }
            }
        },
    };
    for id in clients {
        let change = |wants: &mut Preferences| {
            wants.apply(subject.change(is_wanted));
            Ok(())
        };
        change_one(c, id, change, now)?;
    }
    Ok(())
}
