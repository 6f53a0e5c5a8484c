//! A cache of templates, so that a template which is used a thousand times per second is read once per second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::variants::Variants;
use crate::db::types::TemplateId;
use crate::kinds::ChannelKind;

/// The age at which an entry is checked for changes from other nodes.
const FRESH: Duration = Duration::from_secs(1);
/// The approximate maximum size of the cache, in bytes.
const MOST: usize = 32 * 1024 * 1024;
/// The most names in the cache, including names without a template.
const MOST_NAMES: usize = 10_000;

/// The result of reading a name: the template, if it exists, and its versions in use.
type ResolvedTemplate = (Option<Arc<Variants>>, Vec<(TemplateId, i32)>);

/// The entry of a name.
pub(super) enum CachedTemplate {
    /// The entry is fresh.
    Fresh(Option<Arc<Variants>>),
    /// The template may have been changed since.
    Old { found: Option<Arc<Variants>>, in_use: Vec<(TemplateId, i32)> },
    /// There is no entry.
    Nothing,
}

struct CacheEntry {
    said: ResolvedTemplate,
    looked_at: Instant,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<(String, ChannelKind), CacheEntry>,
    weight: usize,
    /// The number of invalidations: a read that began before the last one may be outdated.
    generation: u64,
}

/// The cache of one process.
#[derive(Default)]
pub(super) struct Cache(Mutex<Inner>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the entry, and the generation for [`Cache::remember`]. Of several callers that find an old entry, only
    /// the first gets it as old and reads it again; the others use it.
    pub(super) fn find(&self, name: &str, channel: ChannelKind) -> (CachedTemplate, u64) {
        let mut inner = self.lock();
        let generation = inner.generation;
        let Some(entry) = inner.entries.get_mut(&(name.to_owned(), channel)) else {
            return (CachedTemplate::Nothing, generation);
        };
        let (found, in_use) = entry.said.clone();
        if entry.looked_at.elapsed() < FRESH {
            return (CachedTemplate::Fresh(found), generation);
        }
        entry.looked_at = Instant::now();
        (CachedTemplate::Old { found, in_use }, generation)
    }

    /// Stores the result of a read, unless an entry was invalidated since the read began.
    pub(super) fn remember(&self, name: &str, channel: ChannelKind, said: ResolvedTemplate, generation: u64) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        let weight = weight(&said);
        inner.drop_entry(name, channel);
        if inner.weight + weight > MOST || inner.entries.len() >= MOST_NAMES {
            inner.entries.clear();
            inner.weight = 0;
        }
        inner.weight += weight;
        inner.entries.insert((name.to_owned(), channel), CacheEntry { said, looked_at: Instant::now() });
    }

    /// Invalidates the entry of a template that this process has changed.
    pub(super) fn forget(&self, name: &str, channel: ChannelKind) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.drop_entry(name, channel);
    }
}

impl Inner {
    fn drop_entry(&mut self, name: &str, channel: ChannelKind) {
        if let Some(entry) = self.entries.remove(&(name.to_owned(), channel)) {
            self.weight = self.weight.saturating_sub(weight(&entry.said));
        }
    }
}

fn weight((found, _): &ResolvedTemplate) -> usize {
    200 + found.as_ref().map_or(0, |found| found.weight())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMS: ChannelKind = ChannelKind::Sms;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::default();
        let (known, generation) = cache.find("a", SMS);
        assert!(matches!(known, CachedTemplate::Nothing));
        cache.forget("a", SMS);
        cache.remember("a", SMS, (None, Vec::new()), generation);
        let (known, generation) = cache.find("a", SMS);
        assert!(matches!(known, CachedTemplate::Nothing));
        cache.remember("a", SMS, (None, Vec::new()), generation);
        assert!(matches!(cache.find("a", SMS).0, CachedTemplate::Fresh(None)));
        assert!(
            matches!(cache.find("a", ChannelKind::Email).0, CachedTemplate::Nothing),
            "each channel has its own"
        );
    }

    #[test]
    fn it_holds_so_much_and_no_more() {
        let cache = Cache::default();
        for n in 0..=MOST_NAMES {
            cache.remember(&n.to_string(), SMS, (None, Vec::new()), 0);
        }
        let inner = cache.lock();
        assert_eq!((inner.entries.len(), inner.weight), (1, 200));
    }
}
