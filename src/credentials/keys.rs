//! The credentials as a channel gets them: opened, remembered, and with a token that is good.
//!
//! What is remembered is looked at again after [`FRESH`], so a change at another node holds here within about a second;
//! one at this node holds at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::model::{Secret, Shown, Stored};
use super::repo;
use super::tokens::Asking;
use super::usecase::{Credentials, unopened};
use super::vault::Unopened;
use crate::channels::keyring::{Authorization, Authorizing, Keyring, Unauthorized};
use crate::oauth::{FailureKind, Tokens};

/// After so long it is looked whether another node changed it.
const FRESH: Duration = Duration::from_secs(1);
/// Credentials that are remembered at once.
const MOST: usize = 10_000;

/// A credential that was opened.
enum Held {
    /// It stays as it is.
    Fixed(Authorization),
    /// Its tokens come and go.
    Fetched(Box<Tokens<Asking>>),
    /// It did not open.
    Locked(Unauthorized),
}

struct Entry {
    held: Arc<Held>,
    /// As it was stored: no two are the same.
    sealed: String,
    looked_at: Instant,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// How often something was changed here: what was read before that may be old.
    changes: u64,
}

/// What a node remembers.
#[derive(Default)]
pub(super) struct Ring(Mutex<Inner>);

/// What is known of a name.
enum Known {
    /// It was looked up lately.
    Fresh(Arc<Held>),
    /// It may have been changed since.
    Old(Arc<Held>, String),
    /// It was not looked up.
    Nothing,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, and the count of changes to remember the rest under. Of many that find it old at once one looks; the
    /// others use it as it is.
    fn find(&self, name: &str) -> (Known, u64) {
        let mut inner = self.lock();
        let changes = inner.changes;
        let Some(entry) = inner.entries.get_mut(name) else { return (Known::Nothing, changes) };
        if entry.looked_at.elapsed() < FRESH {
            return (Known::Fresh(Arc::clone(&entry.held)), changes);
        }
        entry.looked_at = Instant::now();
        (Known::Old(Arc::clone(&entry.held), entry.sealed.clone()), changes)
    }

    /// Keeps what was opened, unless something was changed here since it was read. If another did that meanwhile, theirs
    /// is answered: it may have a token already.
    fn remember(&self, name: &str, sealed: &str, held: Held, changes: u64) -> Arc<Held> {
        let mut inner = self.lock();
        if let Some(known) = inner.entries.get(name).filter(|known| known.sealed == sealed) {
            return Arc::clone(&known.held);
        }
        let held = Arc::new(held);
        if inner.changes == changes {
            if inner.entries.len() >= MOST {
                inner.entries.clear();
            }
            let entry =
                Entry { held: Arc::clone(&held), sealed: sealed.to_owned(), looked_at: Instant::now() };
            inner.entries.insert(name.to_owned(), entry);
        }
        held
    }

    fn get(&self, name: &str) -> Option<Arc<Held>> {
        self.lock().entries.get(name).map(|entry| Arc::clone(&entry.held))
    }

    /// It was changed here.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.lock();
        inner.changes += 1;
        inner.entries.remove(name);
    }

    /// It is not there any more; one that is made next is no change of this.
    fn drop_entry(&self, name: &str) {
        self.lock().entries.remove(name);
    }
}

impl Credentials {
    async fn authorization(&self, name: &str) -> Result<Authorization, Unauthorized> {
        match &*self.held(name).await? {
            Held::Fixed(authorization) => Ok(authorization.clone()),
            Held::Locked(why) => Err(why.clone()),
            Held::Fetched(tokens) => match tokens.get().await {
                Ok(token) => {
                    Ok(Authorization { name: AUTHORIZATION, value: token.bearer, number: token.number })
                }
                Err(failure) => {
                    let why = format!("no token could be had for the credential `{name}`: {}", failure.why);
                    Err(match failure.kind {
                        FailureKind::Lasting => Unauthorized::Never(why),
                        FailureKind::Passing => Unauthorized::NotNow(why),
                        FailureKind::LocalFault => Unauthorized::LocalFault,
                    })
                }
            },
        }
    }

    async fn held(&self, name: &str) -> Result<Arc<Held>, Unauthorized> {
        let (known, changes) = self.ring.find(name);
        if let Known::Fresh(held) = known {
            return Ok(held);
        }
        let asked = name.to_owned();
        let found = match (self.db.read(move |c| repo::find(c, &asked)).await, known) {
            (Ok(Some(found)), Known::Old(held, sealed)) if sealed == found.sealed => return Ok(held),
            (Ok(found), _) => found,
            (Err(_), Known::Old(held, _)) => return Ok(held),
            (Err(_), _) => {
                let why = format!("the credential `{name}` could not be read from the database");
                return Err(Unauthorized::NotNow(why));
            }
        };
        let Some(found) = found else {
            // not remembered: a node that had looked too early would fail what is asked for next
            self.ring.drop_entry(name);
            return Err(Unauthorized::Never(format!("there is no credential `{name}`")));
        };
        Ok(self.ring.remember(name, &found.sealed, self.open(&found), changes))
    }

    fn open(&self, stored: &Stored) -> Held {
        let never = |why| Held::Locked(Unauthorized::Never(unopened(&stored.name, why)));
        let Ok(shown) = stored.shown() else { return never(Unopened::Changed) };
        let secret = match stored.secret(&self.vault) {
            Ok(secret) => secret,
            // another node may have the key, or this one after its next start
            Err(why @ Unopened::UnknownKey) => {
                return Held::Locked(Unauthorized::NotNow(unopened(&stored.name, why)));
            }
            Err(why @ Unopened::Changed) => return never(why),
        };
        self.held_of(shown, secret).unwrap_or_else(|| never(Unopened::Changed))
    }

    /// None for parts of different kinds, and for what passed no check: nobody wrote that here.
    fn held_of(&self, shown: Shown, secret: Secret) -> Option<Held> {
        let fetched = |asking: Asking| Some(Held::Fetched(Box::new(Tokens::new(asking, self.clock.clone()))));
        match (shown, secret) {
            (Shown::Basic { username }, Secret::Basic { username: hidden, password }) => {
                let user = username.or(hidden)?;
                fixed(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            (Shown::Bearer, Secret::Bearer { token }) => fixed(AUTHORIZATION, &format!("Bearer {token}")),
            (Shown::Header { header }, Secret::Header { value }) => {
                fixed(HeaderName::try_from(header).ok()?, &value)
            }
            (shown @ Shown::Oauth2 { .. }, Secret::Oauth2 { client_secret }) => {
                fetched(Asking::as_client(Arc::clone(&self.guard), shown, &client_secret)?)
            }
            (
                Shown::GoogleServiceAccount { scopes, .. },
                Secret::GoogleServiceAccount { service_account },
            ) => fetched(Asking::as_account(Arc::clone(&self.guard), &scopes, service_account)?),
            _ => None,
        }
    }
}

fn fixed(name: HeaderName, value: &str) -> Option<Held> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(Held::Fixed(Authorization { name, value, number: 0 }))
}

impl Keyring for Credentials {
    fn authorize<'a>(&'a self, credential: &'a str) -> Authorizing<'a> {
        Box::pin(self.authorization(credential))
    }

    fn refuse(&self, credential: &str, authorization: &Authorization) {
        if let Some(Held::Fetched(tokens)) = self.ring.get(credential).as_deref() {
            tokens.refuse(authorization.number);
        }
    }
}
