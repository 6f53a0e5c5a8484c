//! The active mailings of this node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use super::active_mailing::ActiveMailing;
use super::sync::{Mutex, MutexGuard};
use crate::db::types::MailingId;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::mailings::repo;

/// The active mailings.
pub struct ActiveMailings {
    db: Db,
    table: Mutex<HashMap<MailingId, Arc<ActiveMailing>>>,
    /// The number of live nodes, including this one, which share the mailings' own rates.
    nodes: AtomicU32,
}

impl ActiveMailings {
    /// Creates the table of this database, without mailings, for a single node.
    pub fn new(db: Db) -> Self {
        Self { db, table: Mutex::default(), nodes: AtomicU32::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MailingId, Arc<ActiveMailing>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the mailing, if it is active here.
    pub fn get(&self, id: MailingId) -> Option<Arc<ActiveMailing>> {
        self.lock().get(&id).cloned()
    }

    /// Returns the mailing, which is read from the database if it is new here. All users share one state.
    ///
    /// # Errors
    /// Database errors.
    pub async fn load(&self, id: MailingId) -> Result<Arc<ActiveMailing>> {
        match self.get(id) {
            Some(run) => Ok(run),
            None => {
                let read = move |c: &mut AnyConnection| Ok((repo::get(c, id)?, repo::number(c, id)?));
                let (mut mailing, number) = self.db.read(read).await?;
                mailing.rate_per_second = self.part_of(mailing.rate_per_second);
                let run = Arc::new(ActiveMailing::new(mailing, number));
                // the entry that was added first stays
                Ok(Arc::clone(self.lock().entry(id).or_insert(run)))
            }
        }
    }

    /// Sets the number of live nodes.
    pub fn set_nodes(&self, nodes: u32) {
        self.nodes.store(nodes, Ordering::Release);
    }

    /// Returns this node's part of a mailing's own rate: all live nodes have an equal part.
    pub fn part_of(&self, rate: Option<f64>) -> Option<f64> {
        rate.map(|rate| rate / f64::from(self.nodes.load(Ordering::Acquire).max(1)))
    }

    /// Removes a mailing whose counts are finalized.
    pub fn remove(&self, id: MailingId) {
        self.lock().remove(&id);
    }

    /// Removes the mailings for which `open` is false.
    pub fn retain(&self, open: impl Fn(MailingId) -> bool) {
        self.lock().retain(|id, _| open(*id));
    }

    /// Returns all active mailings, oldest first.
    pub fn all(&self) -> Vec<Arc<ActiveMailing>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|run| run.id);
        all
    }
}
