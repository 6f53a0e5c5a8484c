//! The use cases of credentials.

use std::sync::Arc;

use serde::Serialize;

use super::cache::CredentialCache;
use super::model::{Credential, CredentialName, Kind, StoredCredential};
use super::repo;
use super::rules::{self, CredentialChanges};
use super::vault::{DecryptError, Vault};
use crate::clock::Clock;
use crate::db::{AnyConnection, Db};
use crate::egress::guard::{Guard, PlainHttp};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::paging;

/// The credentials of a database, with this node's cache of them.
pub struct Credentials {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) guard: Arc<Guard>,
    pub(super) vault: Arc<Vault>,
    pub(super) ring: CredentialCache,
}

/// The result of encrypting the credentials with the first key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The number of all credentials.
    pub all: usize,
    /// The number of credentials that had been encrypted with another key.
    pub changed: usize,
}

impl Credentials {
    /// Creates the use cases over a database. The vault encrypts, and tokens are fetched through the guard.
    pub fn new(db: Db, clock: Clock, guard: Arc<Guard>, vault: Vault) -> Self {
        Self { db, clock, guard, vault: Arc::new(vault), ring: CredentialCache::default() }
    }

    /// Creates a credential. `answer` makes the response, which is stored under the idempotency key.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field; [`Error::Conflict`] if another credential has the name, or there is
    /// no encryption key.
    pub async fn create(
        &self,
        name: &str,
        kind: Kind,
        new: CredentialChanges,
        mut mode: Mode,
        answer: impl FnOnce(&Credential) -> Result<IdempotentResponse>,
    ) -> Result<Created<Credential>> {
        self.vault.require_key()?;
        if let Mode::Commit(Some(key)) = &mut mode {
            // a plain digest of the request could be attacked with a dictionary of passwords
            key.fingerprint = self.vault.blind(&key.fingerprint)?;
        }
        let mut wrong = Complaints::default();
        let name = wrong.check("name", name.parse::<CredentialName>());
        let description = new.description.clone().flatten();
        let (shown, secret) = rules::make(kind, new, &self.url_check(), wrong)?;
        let name = name.ok_or_else(|| Error::invalid("name", "is missing"))?.to_string();
        let now = self.clock.now();
        let mut stored = StoredCredential {
            name,
            description,
            shown: String::new(),
            sealed: String::new(),
            created_at: now,
            updated_at: now,
        };
        stored.close(&shown, &secret, &self.vault)?;
        let credential = stored.without_secret(&self.vault)?;
        let answer = answer(&credential)?;
        let store = move |c: &mut AnyConnection| repo::insert(c, &stored).map(|()| credential);
        idempotency::create(&self.db, (mode, uuid::Uuid::now_v7()), now, answer, store).await
    }

    /// Returns true if the database has a credential with this name. It does not use the cache.
    ///
    /// # Errors
    /// Database errors.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        let Ok(name) = name.parse::<CredentialName>() else { return Ok(false) };
        self.db.read(move |c| repo::exists(c, name.as_str())).await
    }

    /// Returns the credential with this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Credential> {
        let name = known(name)?;
        let asked = name.clone();
        let found = self.db.read(move |c| repo::find(c, asked.as_str())).await?;
        found.ok_or_else(|| not_found(name.as_str()))?.without_secret(&self.vault)
    }

    /// Returns the credentials after `cursor`, in the order of their names and in the form of `show`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list<V: Serialize + Send + 'static>(
        &self,
        cursor: Option<CredentialName>,
        limit: i64,
        show: impl Fn(Credential) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<CredentialName>)> {
        let vault = Arc::clone(&self.vault);
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&CredentialName>, count| {
                let stored = repo::list(c, after.map(CredentialName::as_str), count)?;
                stored.iter().map(|stored| stored.without_secret(&vault)).collect::<Result<Vec<Credential>>>()
            };
            paging::page_of_views(limit, cursor, part, |credential| credential.name.clone(), show)
        };
        self.db.read(read).await
    }

    /// Changes the given fields. The change takes effect at once on this node and within a second on the others.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] if its secret is needed and cannot be decrypted, and the errors of
    /// [`Credentials::create`].
    pub async fn patch(&self, name: &str, changes: CredentialChanges) -> Result<Credential> {
        let name = known(name)?;
        let mut wrong = Complaints::default();
        rules::check_description(&changes, &mut wrong);
        wrong.finish()?;
        let (now, vault, guard) = (self.clock.now(), Arc::clone(&self.vault), Arc::clone(&self.guard));
        let asked = name.clone();
        let change = move |c: &mut AnyConnection| {
            let found = repo::find_for_update(c, asked.as_str())?;
            let mut stored = found.ok_or_else(|| not_found(asked.as_str()))?;
            if let Some(description) = &changes.description {
                stored.description.clone_from(description);
            }
            stored.updated_at = now;
            if !changes.leaves_the_secret() {
                renew(&mut stored, changes, &vault, &guard)?;
            }
            repo::update(c, &stored)?;
            stored.without_secret(&vault)
        };
        let changed = self.db.write(change).await;
        self.ring.forget(name.as_str());
        changed
    }

    /// Deletes a credential. Requests that use it fail.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        let name = known(name)?;
        let asked = name.clone();
        let is_gone = self.db.write(move |c| repo::delete(c, asked.as_str())).await;
        self.ring.forget(name.as_str());
        if is_gone? { Ok(()) } else { Err(not_found(name.as_str())) }
    }

    /// Encrypts with the first key every credential that was encrypted with another, in one transaction.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key, or with the names of credentials that cannot be decrypted.
    pub async fn rotate(&self) -> Result<Rotated> {
        let vault = Arc::clone(&self.vault);
        let rotate = move |c: &mut AnyConnection| {
            let stored = repo::all_for_update(c)?;
            let all = stored.len();
            let (mut lost, mut changed) = (Vec::new(), 0);
            for mut stored in stored.into_iter().filter(|stored| !vault.is_current(&stored.sealed)) {
                match stored.resealed(&vault) {
                    Ok(sealed) => {
                        stored.sealed = sealed?;
                        repo::update(c, &stored)?;
                        changed += 1;
                    }
                    Err(_) => lost.push(stored.name),
                }
            }
            if lost.is_empty() { Ok(Rotated { all, changed }) } else { Err(unrotated(&lost)) }
        };
        self.db.write(rotate).await
    }

    fn url_check(&self) -> impl Fn(&str) -> std::result::Result<(), String> + '_ {
        |url| check_url(&self.guard, url)
    }
}

fn check_url(guard: &Guard, url: &str) -> std::result::Result<(), String> {
    guard.check_url(url, PlainHttp::WithinAllowed).map(drop).map_err(|why| why.to_string())
}

/// Applies changes to a stored credential and encrypts it again. Parts that the changes do not set are decrypted first.
fn renew(
    stored: &mut StoredCredential,
    changes: CredentialChanges,
    vault: &Vault,
    guard: &Guard,
) -> Result<()> {
    let shown = stored.shown()?;
    let (kind, secret) = (shown.kind(), stored.secret(vault));
    let why = secret.as_ref().err().copied();
    if why == Some(DecryptError::Changed) {
        return Err(Error::Conflict(format!(
            "{}: delete it and create it again",
            unopened(&stored.name, DecryptError::Changed)
        )));
    }
    let changes = changes.over(CredentialChanges::of(shown, secret.ok()));
    if let Some(why) = why
        && !changes.are_whole(kind)
    {
        let why = unopened(&stored.name, why);
        return Err(Error::Conflict(format!("{why}: set that key as well, or give the secret again")));
    }
    let (shown, secret) = rules::make(kind, changes, &|url| check_url(guard, url), Complaints::default())?;
    stored.close(&shown, &secret, vault)
}

/// Returns the message for the operator about a credential that cannot be decrypted.
pub(super) fn unopened(name: &str, why: DecryptError) -> String {
    match why {
        DecryptError::UnknownKey => {
            format!("the credential `{name}` was encrypted with a key that is not in CREDENTIALS_KEY")
        }
        DecryptError::Changed => {
            format!("the credential `{name}` was changed in the database and cannot be decrypted")
        }
    }
}

/// The error for credentials that cannot be decrypted, with the names of the first ten.
fn unrotated(lost: &[String]) -> Error {
    const SHOWN: usize = 10;
    let names = lost.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if lost.len() > SHOWN { format!(" and {} more", lost.len() - SHOWN) } else { String::new() };
    Error::Conflict(format!(
        "nothing was changed, because no key in CREDENTIALS_KEY decrypts {names}{more}: add the key that does, delete \
         them, or set their secrets again"
    ))
}

fn known(name: &str) -> Result<CredentialName> {
    name.parse().map_err(|_| not_found(name))
}

fn not_found(name: &str) -> Error {
    Error::NotFound { what: "credential", id: name.to_owned() }
}
