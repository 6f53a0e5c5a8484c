//! The intake: requests that come while one transaction is being committed share the next one, so that the disk is asked
//! once for many. Each is whole or not at all, and nobody is answered before its commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::repo::{self, NewRows, Stored};
use super::usecase::Arrivals;
use crate::clock::Clock;
use crate::db::{Db, refuses_values};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::live::{Change, Live};
use crate::metrics::Metrics;

/// Rows that share a transaction; one more request may make them more.
const LARGEST_GROUP: usize = 2000;
/// Requests that wait to be taken up; those that come then wait for room.
const QUEUE: usize = 1024;

struct Order {
    rows: NewRows,
    done: oneshot::Sender<Result<Stored>>,
}

/// Where requests are handed in; cloning it is cheap. The intake ends when the last clone is gone.
#[derive(Clone)]
pub struct Intake(mpsc::Sender<Order>);

/// The task behind it.
pub struct Worker {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    live: Live,
    arrivals: Arc<dyn Arrivals>,
    look: Duration,
    orders: mpsc::Receiver<Order>,
}

impl Intake {
    /// An intake and the task that has to be run for it. The engine looks by itself for what is due, at least once in
    /// every `look`.
    pub fn new(
        (db, clock, metrics, live): (Db, Clock, Metrics, Live),
        (arrivals, look): (Arc<dyn Arrivals>, Duration),
    ) -> (Self, Worker) {
        let (sender, orders) = mpsc::channel(QUEUE);
        (Self(sender), Worker { db, clock, metrics, live, arrivals, look, orders })
    }

    /// Stores what a request makes; answers after the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn store(&self, rows: NewRows) -> Result<Stored> {
        let (done, stored) = oneshot::channel();
        let gone = || Error::Unavailable("the service is stopping".into());
        self.0.send(Order { rows, done }).await.map_err(|_| gone())?;
        stored.await.map_err(|_| gone())?
    }
}

impl Worker {
    /// Runs until the last [`Intake`] is gone.
    pub async fn run(mut self) {
        // of two requests with one key the second waits for the first's commit, and finds its answer
        let mut held_back: Vec<Order> = Vec::new();
        loop {
            let mut group = std::mem::take(&mut held_back);
            if group.is_empty() {
                match self.orders.recv().await {
                    Some(order) => group.push(order),
                    None => return,
                }
            }
            let mut size: usize = group.iter().map(|order| order.rows.rows.len()).sum();
            while size < LARGEST_GROUP
                && let Ok(order) = self.orders.try_recv()
            {
                size += order.rows.rows.len();
                group.push(order);
            }
            let mut keys = HashSet::new();
            let (group, others) = group.into_iter().partition(|order| match &order.rows.claim {
                Some(claim) => keys.insert(claim.key.key.clone()),
                None => true,
            });
            held_back = others;
            self.write(group).await;
        }
    }

    /// Writes a group; when the database refuses some value in it, each of its requests apart.
    async fn write(&self, group: Vec<Order>) {
        let (rows, waiting): (Vec<NewRows>, Vec<_>) =
            group.into_iter().map(|order| (order.rows, order.done)).unzip();
        let rows: Arc<[NewRows]> = rows.into();
        let results: Vec<Result<Stored>> = match self.commit(Arc::clone(&rows)).await {
            Ok(stored) => stored.into_iter().map(Ok).collect(),
            Err(error) if rows.len() > 1 && refuses_values(&error) => {
                let mut results = Vec::with_capacity(rows.len());
                for one in rows.iter() {
                    let stored = self.commit([one.clone()].into()).await;
                    results.push(stored.and_then(|mut stored| {
                        stored.pop().ok_or_else(|| Error::internal("a request was stored without a result"))
                    }));
                }
                results
            }
            Err(error) => {
                let why = error.to_string();
                rows.iter().map(|_| Err(Error::Unavailable(why.clone().into()))).collect()
            }
        };
        failpoint::reach("accept-after-commit");
        // what is due only after the engine's next look but one need not wake it: a look costs as much as some requests
        let soon = self.clock.now().plus(2 * self.look);
        let is_soon = |request: &NewRows| {
            request.rows.iter().any(|(message, _)| message.due_at.is_none_or(|at| at <= soon))
        };
        let mut any = false;
        for ((request, done), result) in rows.iter().zip(waiting).zip(results) {
            if matches!(result, Ok(Stored::New)) {
                any |= is_soon(request);
                self.announce(request);
            }
            // a caller that went away has its notifications all the same
            let _ = done.send(result);
        }
        if any {
            self.arrivals.arrived();
        }
    }

    async fn commit(&self, rows: Arc<[NewRows]>) -> Result<Vec<Stored>> {
        let now = self.clock.now();
        self.db.write(move |c| repo::store(c, &rows, now)).await
    }

    fn announce(&self, request: &NewRows) {
        for (message, content) in &request.rows {
            let Ok(channel) = ChannelKind::from_code(message.channel) else { continue };
            self.metrics.messages.with_label_values(&[channel.as_str()]).inc();
            let (status, attempts, at) = (content.status_at_first(message), 0, content.updated_at);
            let change = Change { id: message.id, batch: content.batch_id, channel, status, attempts, at };
            self.live.publish(&change, false);
        }
    }
}
