//! Group commits: what comes in while one transaction is being committed shares the next one, so that the disk is asked
//! once for many. Each item is whole or not at all, and nobody is answered before its commit.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use super::handle::Db;
use super::ticket::Ticket;
use super::{effects, refuses_values};
use crate::error::{Error, Result};

/// Items that wait to be taken up; those that come then wait for room.
const QUEUE: usize = 1024;

/// What may wait for the database at once.
pub struct Room {
    free: Semaphore,
    size: usize,
    what: &'static str,
}

impl Room {
    /// For so many of what has this name.
    pub fn new(size: usize, what: &'static str) -> Self {
        Self { free: Semaphore::new(size), size, what }
    }

    /// Room for so many, until the answer is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is not so much.
    pub fn take(&self, count: usize) -> Result<SemaphorePermit<'_>> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.free.try_acquire_many(count).map_err(|_| {
            Error::Busy(format!(
                "{} {} wait for the database already and nothing of this request was taken; repeat it in a moment",
                self.size, self.what
            ))
        })
    }
}

/// What is written in groups, and how.
pub trait Gather: Send + Sync + 'static {
    /// What is handed in.
    type Item: Clone + Send + Sync + 'static;
    /// What became of it.
    type Done: Send + 'static;
    /// Rows that share a transaction; one more item may make them more.
    const LARGEST_GROUP: usize;

    /// How many rows an item is.
    fn size(item: &Self::Item) -> usize;

    /// Of items with one key the second waits for the first's commit.
    fn key(item: &Self::Item) -> Option<&str>;

    /// Writes these in one transaction; answers what became of each, in their order.
    fn commit(&self, items: Arc<[Self::Item]>) -> impl Future<Output = Result<Vec<Self::Done>>> + Send;

    /// Called after the commit, before those are answered who handed the items in.
    fn committed(&self, _items: &[Self::Item], _results: &[Result<Self::Done>]) {}
}

struct Order<G: Gather> {
    item: G::Item,
    ticket: Arc<Ticket>,
    done: oneshot::Sender<Result<G::Done>>,
}

/// Where items are handed in; cloning it is cheap. The worker ends when the last clone is gone.
pub struct Entrance<G: Gather> {
    orders: mpsc::Sender<Order<G>>,
    patience: Duration,
}

impl<G: Gather> Clone for Entrance<G> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), patience: self.patience }
    }
}

/// The task behind it.
pub struct Worker<G: Gather> {
    gather: G,
    orders: mpsc::Receiver<Order<G>>,
}

/// An entrance and the task that has to be run for it, which writes by this handle.
pub fn gathering<G: Gather>(gather: G, db: &Db) -> (Entrance<G>, Worker<G>) {
    let (sender, orders) = mpsc::channel(QUEUE);
    (Entrance { orders: sender, patience: db.patience() }, Worker { gather, orders })
}

impl<G: Gather> Entrance<G> {
    /// Writes an item; answers after the commit. Given up, it may be written all the same.
    ///
    /// # Errors
    /// Those of the database; [`Error::Unavailable`] when its turn did not come in time.
    pub async fn write(&self, item: G::Item) -> Result<G::Done> {
        let (done, written) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let order = Order { item, ticket: Arc::clone(&ticket), done };
        let waiting = async {
            self.orders.send(order).await.ok()?;
            written.await.ok()
        };
        // a group that the database does not answer must not make those behind it wait for two
        let outcome = tokio::time::timeout(self.patience, waiting).await;
        let why = match outcome {
            Ok(Some(written)) => {
                let written = written?;
                effects::note();
                return Ok(written);
            }
            Ok(None) => "the service is stopping",
            Err(_) => "the database did not take it in time",
        };
        // one that was taken up may be written by now
        Err(match ticket.abandon().is_committing {
            true => Error::OutcomeUnknown(why.into()),
            false => Error::Unavailable(why.into()),
        })
    }
}

impl<G: Gather> Worker<G> {
    /// Runs until the last [`Entrance`] is gone.
    pub async fn run(mut self) {
        // of two items with one key the second waits for the first's commit, and finds what that wrote
        let mut held_back: Vec<Order<G>> = Vec::new();
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
            // nobody waits for the others any more
            let group: Vec<_> = group.into_iter().filter(|order| order.ticket.commit()).collect();
            if !group.is_empty() {
                self.write(group).await;
            }
        }
    }

    /// Writes a group; when the database refuses some value in it, each of its items apart.
    async fn write(&self, group: Vec<Order<G>>) {
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
                        done.pop().ok_or_else(|| Error::internal("an item was written without a result"))
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
            // a caller that went away has its item written all the same
            let _ = done.send(result);
        }
    }
}
