//! Rows that are expected to create new clients, which are stored without a preceding lookup.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::options::MatchBy;
use super::row::FileRow;
use crate::clients::model::Client;
use crate::clients::repo::NewClients;
use crate::db::types::{ClientId, Timestamp};

/// The expectation that the next rows create new clients, shared by the reader and the importer. A file of known
/// clients pays for it in its first chunks only. A dry run stores nothing and never expects new clients.
#[derive(Debug, Clone)]
pub(super) struct Expectation(Option<Arc<AtomicBool>>);

impl Expectation {
    /// Creates the expectation, which is off in a dry run.
    pub(super) fn new(is_dry_run: bool) -> Self {
        Self((!is_dry_run).then(|| Arc::new(AtomicBool::new(true))))
    }

    /// Updates the expectation from the result of a chunk.
    pub(super) fn learn(&self, created: u64, updated: u64) {
        if let Some(expects) = &self.0
            && created + updated > 0
        {
            expects.store(updated == 0, Ordering::Relaxed);
        }
    }

    /// Returns the clients of the leading rows, assuming that all are new: the rows before the first one that depends
    /// on an earlier row or has no unique key. Returns `None` if known clients are expected.
    pub(super) fn clients(&self, rows: &[FileRow], match_by: MatchBy) -> Option<NewClients> {
        let expects = self.0.as_ref().is_some_and(|expects| expects.load(Ordering::Relaxed));
        expects.then(|| clients(rows, match_by))
    }
}

fn clients(rows: &[FileRow], match_by: MatchBy) -> NewClients {
    let mut clients = NewClients::default();
    if match_by == MatchBy::Email {
        return clients;
    }
    let id = ClientId::first_of(Timestamp::from_micros(0));
    let (mut numbers, mut ids) = (HashSet::with_capacity(rows.len()), HashSet::with_capacity(rows.len()));
    for row in rows {
        let has_key = row.number.is_some() || row.external_id().is_some();
        let is_first = row.number.is_none_or(|number| numbers.insert(number))
            && row.external_id().is_none_or(|id| ids.insert(id));
        // the final ids and times are assigned when the clients are stored
        let made = Client::with_number(id, row.number, &row.patch, Timestamp::from_micros(0));
        match made {
            Ok(client) if has_key && is_first => clients.push(client),
            _ => break,
        }
    }
    clients
}
