//! What can be done with credentials.

use std::sync::Arc;

use super::keys::Ring;
use super::model::{Credential, Kind, Name, Stored};
use super::repo;
use super::rules::{self, Changes};
use super::vault::{Unopened, Vault};
use crate::clock::Clock;
use crate::db::{AnyConnection, Db};
use crate::egress::guard::{Guard, Plain};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Answer, Made, Mode};
use crate::paging;

/// The credentials of one database, and those of them that this node remembers.
pub struct Credentials {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) guard: Arc<Guard>,
    pub(super) vault: Arc<Vault>,
    pub(super) ring: Ring,
}

/// What came of encrypting all anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Credentials that there are.
    pub all: usize,
    /// Those that were encrypted with another key.
    pub changed: usize,
}

impl Credentials {
    /// Over this database, encrypted with the keys of the vault. Tokens are fetched through the guard.
    pub fn new(db: Db, clock: Clock, guard: Arc<Guard>, vault: Vault) -> Self {
        Self { db, clock, guard, vault: Arc::new(vault), ring: Ring::default() }
    }

    /// Keeps a credential.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names each wrong field, [`Error::Conflict`] when another has the name, or when there is no
    /// key to encrypt it with.
    pub async fn create(
        &self,
        name: &str,
        kind: Kind,
        new: Changes,
        mut mode: Mode,
    ) -> Result<Made<Credential>> {
        self.vault.require_key()?;
        if let Mode::Commit(Some(key)) = &mut mode {
            // the digest of a request could be tried against a dictionary of passwords
            key.fingerprint = self.vault.blind(&key.fingerprint)?;
        }
        let mut wrong = Complaints::default();
        let name = wrong.check("name", name.parse::<Name>());
        let description = new.description.clone().flatten();
        let (shown, secret) = rules::make(kind, new, &self.url_check(), wrong)?;
        let name = name.ok_or_else(|| Error::invalid("name", "is missing"))?.to_string();
        let now = self.clock.now();
        let mut stored = Stored {
            name,
            description,
            shown: String::new(),
            sealed: String::new(),
            created_at: now,
            updated_at: now,
        };
        stored.close(&shown, &secret, &self.vault)?;
        let credential = stored.view(&self.vault)?;
        let answer = Answer::created(format!("/api/v1/credentials/{}", stored.name), &credential)?;
        let store = move |c: &mut AnyConnection| repo::insert(c, &stored).map(|()| credential);
        idempotency::make(&self.db, (mode, uuid::Uuid::now_v7()), now, answer, store).await
    }

    /// Whether there is a credential of this name, on whichever node it was made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        let Ok(name) = name.parse::<Name>() else { return Ok(false) };
        self.db.read(move |c| repo::exists(c, name.as_str())).await
    }

    /// The credential of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Credential> {
        let name = known(name)?;
        let asked = name.clone();
        let found = self.db.read(move |c| repo::find(c, asked.as_str())).await?;
        found.ok_or_else(|| not_found(name.as_str()))?.view(&self.vault)
    }

    /// The credentials after `cursor`, in the order of their names.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, cursor: Option<Name>, limit: i64) -> Result<(Vec<Credential>, Option<Name>)> {
        let vault = Arc::clone(&self.vault);
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&Name>, count| {
                let stored = repo::list(c, after.map(Name::as_str), count)?;
                stored.iter().map(|stored| stored.view(&vault)).collect::<Result<Vec<Credential>>>()
            };
            paging::page_of(limit, cursor, part, |credential| credential.name.clone())
        };
        self.db.read(read).await
    }

    /// Changes what is named. What requests prove with it from then on is the new one, here at once and at other nodes
    /// within a second.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] when the rest of it does not open, and those of [`Credentials::create`].
    pub async fn patch(&self, name: &str, changes: Changes) -> Result<Credential> {
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
            stored.view(&vault)
        };
        let changed = self.db.write(change).await;
        self.ring.forget(name.as_str());
        changed
    }

    /// Forgets it. Requests that name it fail.
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

    /// Encrypts with the first key what was encrypted with another; all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key, or naming what does not open.
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
    guard.check_url(url, Plain::WithinAllowed).map(drop).map_err(|why| why.to_string())
}

/// The credential as these changes make it. What is not given anew has to be opened.
fn renew(stored: &mut Stored, changes: Changes, vault: &Vault, guard: &Guard) -> Result<()> {
    let shown = stored.shown()?;
    let (kind, secret) = (shown.kind(), stored.secret(vault));
    let why = secret.as_ref().err().copied();
    if why == Some(Unopened::Changed) {
        return Err(Error::Conflict(format!(
            "{}: delete it, and make it anew",
            unopened(&stored.name, Unopened::Changed)
        )));
    }
    let changes = changes.over(Changes::of(shown, secret.ok()));
    if let Some(why) = why
        && !changes.are_whole(kind)
    {
        let why = unopened(&stored.name, why);
        return Err(Error::Conflict(format!("{why}: set that key as well, or give the secret anew")));
    }
    let (shown, secret) = rules::make(kind, changes, &|url| check_url(guard, url), Complaints::default())?;
    stored.close(&shown, &secret, vault)
}

/// Why a credential does not open, in words for whoever runs the service.
pub(super) fn unopened(name: &str, why: Unopened) -> String {
    match why {
        Unopened::UnknownKey => {
            format!(
                "the credential `{name}` was encrypted with a key that CREDENTIALS_KEY does not have here"
            )
        }
        Unopened::Changed => {
            format!("the credential `{name}` is not as it was written: somebody changed it in the database")
        }
    }
}

/// Names some of what does not open.
fn unrotated(lost: &[String]) -> Error {
    const SHOWN: usize = 10;
    let names = lost.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if lost.len() > SHOWN { format!(" and {} more", lost.len() - SHOWN) } else { String::new() };
    Error::Conflict(format!(
        "nothing was changed, since no key of CREDENTIALS_KEY opens {names}{more}: set the key that does as well, or \
         delete them or give them their secrets anew"
    ))
}

fn known(name: &str) -> Result<Name> {
    name.parse().map_err(|_| not_found(name))
}

fn not_found(name: &str) -> Error {
    Error::NotFound { what: "credential", id: name.to_owned() }
}
