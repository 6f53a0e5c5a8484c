//! The cache of decrypted credentials and their tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tokens::TokenRequest;
use crate::channels::keyring::{Authorization, Unauthorized};
use crate::oauth::TokenCache;

/// The time after which an entry is compared with the database again.
const FRESH: Duration = Duration::from_secs(1);
/// The most credentials in the cache.
const MOST: usize = 10_000;

/// A decrypted credential.
pub(super) enum CachedCredential {
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
pub(super) enum KeyLookup {
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
    pub(super) fn find(&self, name: &str) -> (KeyLookup, u64) {
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
    pub(super) fn remember(
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

    /// Returns the cached credential with this name, which may be outdated.
    pub(super) fn get(&self, name: &str) -> Option<Arc<CachedCredential>> {
        self.lock().entries.get(name).map(|entry| Arc::clone(&entry.held))
    }

    /// Removes the entry of a credential that this node changed, and counts the change.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.lock();
        inner.changes += 1;
        inner.entries.remove(name);
    }

    /// Removes the entry of a credential that is not in the database. This does not count as a change.
    pub(super) fn drop_entry(&self, name: &str) {
        self.lock().entries.remove(name);
    }
}
