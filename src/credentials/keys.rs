//! The cache of decrypted credentials and their tokens, which channels use.
//!
//! An entry is compared with the database again after [`FRESH`], so a change by another node takes effect here within
//! about a second. A change by this node takes effect at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::model::{CredentialSummary, Secret, StoredCredential};
use super::repo;
use super::tokens::TokenRequest;
use super::usecase::{Credentials, unopened};
use super::vault::DecryptError;
use crate::channels::keyring::{Authorization, Authorizing, Keyring, Unauthorized};
use crate::oauth::{FailureKind, TokenCache};

/// The time after which an entry is compared with the database again.
const FRESH: Duration = Duration::from_secs(1);
/// The most credentials in the cache.
const MOST: usize = 10_000;

/// A decrypted credential.
enum CachedCredential {
    /// An authorization that never changes.
    Fixed(Authorization),
    /// Tokens that are fetched and expire.
    Fetched(Box<TokenCache<TokenRequest>>),
    /// The error for a credential that could not be decrypted.
    Locked(Unauthorized),
}

struct KeyEntry {
    held: Arc<CachedCredential>,
    /// The stored ciphertext, which differs with every change.
    sealed: String,
    looked_at: Instant,
}

#[derive(Default)]
struct KeyCache {
    entries: HashMap<String, KeyEntry>,
    /// The number of changes by this node. A credential that was read before the last change may be outdated.
    changes: u64,
}

/// The cache of a node.
#[derive(Default)]
pub(super) struct CredentialCache(Mutex<KeyCache>);

/// The result of a cache lookup.
enum KeyLookup {
    /// The entry is fresh.
    Fresh(Arc<CachedCredential>),
    /// The entry may be outdated: its value and its ciphertext.
    Old(Arc<CachedCredential>, String),
    /// There is no entry.
    Nothing,
}

impl CredentialCache {
    fn lock(&self) -> MutexGuard<'_, KeyCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a name up. Also returns the number of changes, for [`CredentialCache::remember`]. If concurrent callers find an
    /// outdated entry, only the first reads the database; the others use the entry as it is.
    fn find(&self, name: &str) -> (KeyLookup, u64) {
        let mut inner = self.lock();
        let changes = inner.changes;
        let Some(entry) = inner.entries.get_mut(name) else { return (KeyLookup::Nothing, changes) };
        if entry.looked_at.elapsed() < FRESH {
            return (KeyLookup::Fresh(Arc::clone(&entry.held)), changes);
        }
        entry.looked_at = Instant::now();
        (KeyLookup::Old(Arc::clone(&entry.held), entry.sealed.clone()), changes)
    }

    /// Caches a decrypted credential, unless this node changed a credential since it was read. If a concurrent caller
    /// has cached the same one, returns the cached one, which may have a token already.
    fn remember(
        &self,
        name: &str,
        sealed: &str,
        held: CachedCredential,
        changes: u64,
    ) -> Arc<CachedCredential> {
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
                KeyEntry { held: Arc::clone(&held), sealed: sealed.to_owned(), looked_at: Instant::now() };
            inner.entries.insert(name.to_owned(), entry);
        }
        held
    }

    fn get(&self, name: &str) -> Option<Arc<CachedCredential>> {
        self.lock().entries.get(name).map(|entry| Arc::clone(&entry.held))
    }

    /// Removes the entry of a credential that this node changed, and counts the change.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.lock();
        inner.changes += 1;
        inner.entries.remove(name);
    }

    /// Removes the entry of a credential that is not in the database. This does not count as a change.
    fn drop_entry(&self, name: &str) {
        self.lock().entries.remove(name);
    }
}

impl Credentials {
    async fn authorization(&self, name: &str) -> Result<Authorization, Unauthorized> {
        match &*self.held(name).await? {
            CachedCredential::Fixed(authorization) => Ok(authorization.clone()),
            CachedCredential::Locked(why) => Err(why.clone()),
            CachedCredential::Fetched(tokens) => match tokens.get().await {
                Ok(token) => {
                    Ok(Authorization { name: AUTHORIZATION, value: token.bearer, number: token.number })
                }
                Err(failure) => {
                    let why =
                        format!("no token could be fetched for the credential `{name}`: {}", failure.why);
                    Err(match failure.kind {
                        FailureKind::Lasting => Unauthorized::Never(why),
                        FailureKind::Passing => Unauthorized::NotNow(why),
                        FailureKind::LocalFault => Unauthorized::LocalFault,
                    })
                }
            },
        }
    }

    async fn held(&self, name: &str) -> Result<Arc<CachedCredential>, Unauthorized> {
        let (known, changes) = self.ring.find(name);
        if let KeyLookup::Fresh(held) = known {
            return Ok(held);
        }
        let asked = name.to_owned();
        let found = match (self.db.read(move |c| repo::find(c, &asked)).await, known) {
            (Ok(Some(found)), KeyLookup::Old(held, sealed)) if sealed == found.sealed => return Ok(held),
            (Ok(found), _) => found,
            (Err(_), KeyLookup::Old(held, _)) => return Ok(held),
            (Err(_), _) => {
                let why = format!("the credential `{name}` could not be read from the database");
                return Err(Unauthorized::NotNow(why));
            }
        };
        let Some(found) = found else {
            // not cached: otherwise attempts would fail after the credential is created
            self.ring.drop_entry(name);
            return Err(Unauthorized::Never(format!("there is no credential `{name}`")));
        };
        Ok(self.ring.remember(name, &found.sealed, self.open(&found), changes))
    }

    fn open(&self, stored: &StoredCredential) -> CachedCredential {
        let never = |why| CachedCredential::Locked(Unauthorized::Never(unopened(&stored.name, why)));
        let Ok(shown) = stored.shown() else { return never(DecryptError::Changed) };
        let secret = match stored.secret(&self.vault) {
            Ok(secret) => secret,
            // another node may have the key, or this node after its next start
            Err(why @ DecryptError::UnknownKey) => {
                return CachedCredential::Locked(Unauthorized::NotNow(unopened(&stored.name, why)));
            }
            Err(why @ DecryptError::Changed) => return never(why),
        };
        self.held_of(shown, secret).unwrap_or_else(|| never(DecryptError::Changed))
    }

    /// Returns `None` for parts of different kinds and for parts that are not valid. The service never stores these.
    fn held_of(&self, shown: CredentialSummary, secret: Secret) -> Option<CachedCredential> {
        let fetched = |asking: TokenRequest| {
            Some(CachedCredential::Fetched(Box::new(TokenCache::new(asking, self.clock.clone()))))
        };
        match (shown, secret) {
            (CredentialSummary::Basic { username }, Secret::Basic { username: hidden, password }) => {
                let user = username.or(hidden)?;
                fixed(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            (CredentialSummary::Bearer, Secret::Bearer { token }) => {
                fixed(AUTHORIZATION, &format!("Bearer {token}"))
            }
            (CredentialSummary::Header { header }, Secret::Header { value }) => {
                fixed(HeaderName::try_from(header).ok()?, &value)
            }
            (shown @ CredentialSummary::Oauth2 { .. }, Secret::Oauth2 { client_secret }) => {
                fetched(TokenRequest::as_client(Arc::clone(&self.guard), shown, &client_secret)?)
            }
            (
                CredentialSummary::GoogleServiceAccount { scopes, .. },
                Secret::GoogleServiceAccount { service_account },
            ) => fetched(TokenRequest::as_account(Arc::clone(&self.guard), &scopes, service_account)?),
            _ => None,
        }
    }
}

fn fixed(name: HeaderName, value: &str) -> Option<CachedCredential> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(CachedCredential::Fixed(Authorization { name, value, number: 0 }))
}

impl Keyring for Credentials {
    fn authorize<'a>(&'a self, credential: &'a str) -> Authorizing<'a> {
        Box::pin(self.authorization(credential))
    }

    fn refuse(&self, credential: &str, authorization: &Authorization) {
        if let Some(CachedCredential::Fetched(tokens)) = self.ring.get(credential).as_deref() {
            tokens.refuse(authorization.number);
        }
    }
}
