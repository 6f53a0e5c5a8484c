//! Templates that were read lately, so that one which is used a thousand times a second is read once in that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::variants::Variants;
use crate::db::types::TemplateId;
use crate::kinds::ChannelKind;

/// After so long it is looked whether another node changed it.
const FRESH: Duration = Duration::from_secs(1);
/// Bytes of what is remembered, roughly.
const MOST: usize = 32 * 1024 * 1024;
/// Names that are remembered, those that no template has among them.
const MOST_NAMES: usize = 10_000;

/// What the database said of a name: the template, if there is one, and which versions of it are in use.
type Said = (Option<Arc<Variants>>, Vec<(TemplateId, i32)>);

/// What is known of a name.
pub(super) enum Known {
    /// It was looked up lately.
    Fresh(Option<Arc<Variants>>),
    /// It may have been changed since.
    Old { found: Option<Arc<Variants>>, in_use: Vec<(TemplateId, i32)> },
    /// It was not looked up.
    Nothing,
}

struct Entry {
    said: Said,
    looked_at: Instant,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<(String, ChannelKind), Entry>,
    weight: usize,
    /// How often something was forgotten: what was read before that may be old.
    generation: u64,
}

/// What a process remembers.
#[derive(Default)]
pub(super) struct Cache(Mutex<Inner>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, and the generation to remember the rest under. Of many that find it old at once one looks; the
    /// others use it as it is.
    pub(super) fn find(&self, name: &str, channel: ChannelKind) -> (Known, u64) {
        let mut inner = self.lock();
        let generation = inner.generation;
        let Some(entry) = inner.entries.get_mut(&(name.to_owned(), channel)) else {
            return (Known::Nothing, generation);
        };
        let (found, in_use) = entry.said.clone();
        if entry.looked_at.elapsed() < FRESH {
            return (Known::Fresh(found), generation);
        }
        entry.looked_at = Instant::now();
        (Known::Old { found, in_use }, generation)
    }

    /// Keeps what the database said, unless something was changed here since it was asked.
    pub(super) fn remember(&self, name: &str, channel: ChannelKind, said: Said, generation: u64) {
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
        inner.entries.insert((name.to_owned(), channel), Entry { said, looked_at: Instant::now() });
    }

    /// It was changed here.
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

fn weight((found, _): &Said) -> usize {
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
        assert!(matches!(known, Known::Nothing));
        cache.forget("a", SMS);
        cache.remember("a", SMS, (None, Vec::new()), generation);
        let (known, generation) = cache.find("a", SMS);
        assert!(matches!(known, Known::Nothing));
        cache.remember("a", SMS, (None, Vec::new()), generation);
        assert!(matches!(cache.find("a", SMS).0, Known::Fresh(None)));
        assert!(matches!(cache.find("a", ChannelKind::Email).0, Known::Nothing), "each channel has its own");
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
