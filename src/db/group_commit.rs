//! Group commit: items that arrive during a commit share the next transaction, so that many items need one disk sync.
//! Each item is atomic, and its caller gets the result only after the commit.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use super::handle::Db;
use super::ticket::Ticket;
use super::{effects, refuses_values};
use crate::error::{Error, Result};

/// The length of the queue; further items wait for space in it.
const QUEUE: usize = 1024;

/// The admission limit: the number of items that may wait for the database at once.
pub struct AdmissionLimit {
    free: Semaphore,
    size: usize,
    what: &'static str,
}

impl AdmissionLimit {
    /// Creates a limit of `size` items, which error messages call `what`.
    pub fn new(size: usize, what: &'static str) -> Self {
        Self { free: Semaphore::new(size), size, what }
    }

    /// Admits `count` items, until the permit is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] if the limit would be exceeded.
    pub fn take(&self, count: usize) -> Result<SemaphorePermit<'_>> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.free.try_acquire_many(count).map_err(|_| {
            Error::Busy(format!(
                "up to {} {} may wait for the database, and nothing of this request was accepted; retry after 1 s",
                self.size, self.what
            ))
        })
    }
}

/// Writes items in groups.
pub trait GroupCommit: Send + Sync + 'static {
    /// A submitted item.
    type Item: Clone + Send + Sync + 'static;
    /// The result of an item.
    type Done: Send + 'static;
    /// The number of rows at which a group is full; its last item may exceed it.
    const LARGEST_GROUP: usize;

    /// Returns the number of rows of an item.
    fn size(item: &Self::Item) -> usize;

    /// Returns the key of an item. Items with the same key are never committed in the same group.
    fn key(item: &Self::Item) -> Option<&str>;

    /// Writes the items in one transaction and returns their results, in the same order.
    fn commit(&self, items: Arc<[Self::Item]>) -> impl Future<Output = Result<Vec<Self::Done>>> + Send;

    /// Called after the commit, before the callers get their results.
    fn committed(&self, _items: &[Self::Item], _results: &[Result<Self::Done>]) {}
}

struct Submission<G: GroupCommit> {
    item: G::Item,
    ticket: Arc<Ticket>,
    done: oneshot::Sender<Result<G::Done>>,
}

/// Submits items; cloning it is cheap. The worker ends when the last clone is dropped.
pub struct Submitter<G: GroupCommit> {
    orders: mpsc::Sender<Submission<G>>,
    patience: Duration,
}

impl<G: GroupCommit> Clone for Submitter<G> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), patience: self.patience }
    }
}

/// The task that commits the groups.
pub struct GroupCommitWorker<G: GroupCommit> {
    gather: G,
    orders: mpsc::Receiver<Submission<G>>,
}

/// Creates a submitter and the task that must run for it. `db` gives the time limit of callers.
pub fn group_commit<G: GroupCommit>(gather: G, db: &Db) -> (Submitter<G>, GroupCommitWorker<G>) {
    let (sender, orders) = mpsc::channel(QUEUE);
    (Submitter { orders: sender, patience: db.patience() }, GroupCommitWorker { gather, orders })
}

impl<G: GroupCommit> Submitter<G> {
    /// Writes an item and returns after the commit. If the future is dropped, the item may still be written.
    ///
    /// # Errors
    /// Errors of the database; [`Error::Unavailable`] if the item was not begun in time.
    pub async fn write(&self, item: G::Item) -> Result<G::Done> {
        let (done, written) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let order = Submission { item, ticket: Arc::clone(&ticket), done };
        let waiting = async {
            self.orders.send(order).await.ok()?;
            written.await.ok()
        };
        // if the database does not respond to one group, items of the next one must not wait for two timeouts
        let outcome = tokio::time::timeout(self.patience, waiting).await;
        let why = match outcome {
            Ok(Some(written)) => {
                let written = written?;
                effects::note();
                return Ok(written);
            }
            Ok(None) => "the service is stopping",
            Err(_) => "timed out while waiting for the database",
        };
        // an item whose commit has begun may be written by now
        Err(match ticket.abandon().is_committing {
            true => Error::OutcomeUnknown(why.into()),
            false => Error::Unavailable(why.into()),
        })
    }
}

impl<G: GroupCommit> GroupCommitWorker<G> {
    /// Runs until the last [`Submitter`] is dropped.
    pub async fn run(mut self) {
        // the second of two items with the same key waits for the first's commit, and sees its changes
        let mut held_back: Vec<Submission<G>> = Vec::new();
        loop {
            let mut group = std::mem::take(&mut held_back);
            if group.is_empty() {
                match self.orders.recv().await {
                    Some(order) => group.push(order),
                    None => return,
                }
            }
            let mut size: usize = group.iter().map(|order| G::size(&order.item)).sum();
            while size < G::LARGEST_GROUP
                && let Ok(order) = self.orders.try_recv()
            {
                size += G::size(&order.item);
                group.push(order);
            }
            let mut keys = HashSet::new();
            let (group, others) = group.into_iter().partition(|order| match G::key(&order.item) {
                Some(key) => keys.insert(key.to_owned()),
                None => true,
            });
            held_back = others;
            // the callers of the other items have given up
            let group: Vec<_> = group.into_iter().filter(|order| order.ticket.commit()).collect();
            if !group.is_empty() {
                self.write(group).await;
            }
        }
    }

    /// Writes a group; if the database refuses a value in it, writes each of its items separately.
    async fn write(&self, group: Vec<Submission<G>>) {
        let (items, waiting): (Vec<G::Item>, Vec<_>) =
            group.into_iter().map(|order| (order.item, order.done)).unzip();
        let items: Arc<[G::Item]> = items.into();
        let results: Vec<Result<G::Done>> = match self.gather.commit(Arc::clone(&items)).await {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) if items.len() == 1 && refuses_values(&error) => vec![Err(error)],
            Err(error) if refuses_values(&error) => {
                let mut results = Vec::with_capacity(items.len());
                for one in items.iter() {
                    let done = self.gather.commit([one.clone()].into()).await;
                    results.push(done.and_then(|mut done| {
                        done.pop().ok_or_else(|| Error::internal("a committed item has no result"))
                    }));
                }
                results
            }
            Err(error) => {
                let why = error.to_string();
                let each = |_| match error {
                    Error::OutcomeUnknown(_) => Err(Error::OutcomeUnknown(why.clone().into())),
                    _ => Err(Error::Unavailable(why.clone().into())),
                };
                items.iter().map(each).collect()
            }
        };
        self.gather.committed(&items, &results);
        for (done, result) in waiting.into_iter().zip(results) {
            // an error means that the caller has disconnected; its item is still written
            let _ = done.send(result);
        }
    }
}
