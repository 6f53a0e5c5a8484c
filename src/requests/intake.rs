//! The intake of requests: those that come while one transaction is being committed share the next one.

use std::sync::Arc;

use super::repo::{self, RequestRow};
use crate::clock::Clock;
use crate::db::gather::{self, Entrance, Gather, gathering};
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{Claim, Verdict};
use crate::kinds::ChannelKind;
use crate::messages::repo::MessageRow;
use crate::metrics::Metrics;
use crate::notifications::usecase::Arrivals;

/// Bytes that count as one more request: a body may be large.
const BYTES_OF_ONE: usize = 4096;

/// What a request makes.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Its message and what is sent.
    pub rows: (MessageRow, RequestRow),
    /// The key that it came with.
    pub claim: Option<Claim>,
}

impl NewRequest {
    /// For how many small ones it counts.
    pub fn size(&self) -> usize {
        1 + self.rows.1.spec.len() / BYTES_OF_ONE
    }
}

/// Where requests are handed in; cloning it is cheap. The intake ends when the last clone is gone.
#[derive(Clone)]
pub struct Intake(Entrance<Incoming>);

/// The task behind it.
pub type Worker = gather::Worker<Incoming>;

/// How requests are stored.
pub struct Incoming {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    arrivals: Arc<dyn Arrivals>,
}

impl Intake {
    /// An intake and the task that has to be run for it.
    pub fn new((db, clock, metrics): (Db, Clock, Metrics), arrivals: Arc<dyn Arrivals>) -> (Self, Worker) {
        let (entrance, worker) = gathering(Incoming { db: db.clone(), clock, metrics, arrivals }, &db);
        (Self(entrance), worker)
    }

    /// Stores a request; answers after the commit, with whose its key is if it is not its own: then nothing was stored.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn store(&self, request: NewRequest) -> Result<Option<Verdict>> {
        self.0.write(request).await
    }
}

impl Gather for Incoming {
    type Item = NewRequest;
    type Done = Option<Verdict>;
    const LARGEST_GROUP: usize = 2000;

    fn size(request: &NewRequest) -> usize {
        request.size()
    }

    // the second of two requests with one key finds the first's answer
    fn key(request: &NewRequest) -> Option<&str> {
        request.claim.as_ref().map(|claim| claim.key.key.as_str())
    }

    async fn commit(&self, requests: Arc<[NewRequest]>) -> Result<Vec<Option<Verdict>>> {
        let now = self.clock.now();
        self.db.write(move |c: &mut AnyConnection| repo::accept(c, &requests, now)).await
    }

    fn committed(&self, _: &[NewRequest], results: &[Result<Option<Verdict>>]) {
        failpoint::reach("request-after-commit");
        let new = results.iter().filter(|result| matches!(result, Ok(None))).count();
        self.metrics.entered(ChannelKind::Request, new);
        if new > 0 {
            self.arrivals.arrived();
        }
    }
}
