//! What this node holds: the mailings at work, the pages, and the node's own standing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::model::{OpenPage, Run};
use super::sync::{Mutex, MutexGuard};
use crate::db::types::{MailingId, NodeId, PageId, Timestamp};

/// The mailings at work.
#[derive(Debug, Default)]
pub struct Runs(Mutex<HashMap<MailingId, Arc<Run>>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<MailingId, Arc<Run>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mailing, if it is known.
    pub fn get(&self, id: MailingId) -> Option<Arc<Run>> {
        self.lock().get(&id).cloned()
    }

    /// Adds a mailing, or answers the one that was added first: all share one state.
    pub fn add(&self, run: Run) -> Arc<Run> {
        Arc::clone(self.lock().entry(run.id).or_insert_with(|| Arc::new(run)))
    }

    /// Forgets a mailing whose books are closed.
    pub fn remove(&self, id: MailingId) {
        self.lock().remove(&id);
    }

    /// Forgets those that are not among `open`.
    pub fn retain(&self, open: impl Fn(MailingId) -> bool) {
        self.lock().retain(|id, _| open(*id));
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Run>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|run| run.id);
        all
    }
}

#[derive(Debug)]
struct Holdings {
    node: NodeId,
    pages: HashMap<PageId, Arc<OpenPage>>,
    idle: Vec<PageId>,
}

/// The pages that this node holds, and as which node it holds them.
#[derive(Debug)]
pub struct Pages(Mutex<Holdings>);

impl Pages {
    /// Holds nothing yet, as this node.
    pub fn new(node: NodeId) -> Self {
        Self(Mutex::new(Holdings { node, pages: HashMap::new(), idle: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Holdings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As which node pages are held now.
    pub fn node(&self) -> NodeId {
        self.lock().node
    }

    /// Forgets a page that is done, released or lost.
    pub fn forget(&self, id: PageId) {
        self.lock().pages.remove(&id);
    }

    /// Takes a stored page in hand and calls `push`, unless the node lost its standing meanwhile: then whoever takes
    /// the page over sends it.
    pub fn admit(&self, page: &Arc<OpenPage>, push: impl FnOnce()) {
        let mut holdings = self.lock();
        if page.node == holdings.node {
            holdings.pages.insert(page.id, Arc::clone(page));
            push();
        }
    }

    /// The pages that are not to be taken over, being in hand.
    pub fn held(&self) -> Vec<PageId> {
        self.lock().pages.keys().copied().collect()
    }

    /// Whether anything of this mailing is in hand.
    pub fn holds(&self, mailing: MailingId) -> bool {
        self.lock().pages.values().any(|page| page.mailing == Some(mailing))
    }

    /// Notes a page of which nothing is in hand any more: it is to be released.
    pub fn set_idle(&self, id: PageId) {
        self.lock().idle.push(id);
    }

    /// The pages to release.
    pub fn take_idle(&self) -> Vec<PageId> {
        std::mem::take(&mut self.lock().idle)
    }

    /// Loses everything: the node was taken for dead. Goes on as another one.
    pub fn start_anew(&self, node: NodeId) {
        let mut holdings = self.lock();
        holdings.pages.values().for_each(|page| page.lose());
        *holdings = Holdings { node, pages: HashMap::new(), idle: Vec::new() };
    }
}

/// Until when this node may send: its last heartbeat and the lease.
#[derive(Debug)]
pub struct Lease {
    until: AtomicI64,
    length: Duration,
}

impl Lease {
    /// A lease of this length that has yet to be taken.
    pub fn new(length: Duration) -> Self {
        Self { until: AtomicI64::new(0), length }
    }

    /// A heartbeat that was sent at `at` arrived. A fifth is kept back, for what is in flight when it runs out.
    pub fn renew(&self, at: Timestamp) {
        self.until.store(at.plus(self.length.mul_f64(0.8)).micros(), Ordering::Release);
    }

    /// Nobody else can take the pages: the lease never runs out.
    pub fn hold_forever(&self) {
        self.until.store(i64::MAX, Ordering::Release);
    }

    /// Whether this node may send at `now`.
    pub fn is_held(&self, now: Timestamp) -> bool {
        now.micros() < self.until.load(Ordering::Acquire)
    }

    /// How long it lasts.
    pub fn length(&self) -> Duration {
        self.length
    }
}
