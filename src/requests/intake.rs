//! The intake of requests: requests that arrive while a transaction is committed share the next one.

use std::sync::Arc;

use super::repo::{self, RequestToStore};
use crate::clock::Clock;
use crate::db::group_commit::{self, GroupCommit, Submitter, group_commit};
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::ClaimResult;
use crate::kinds::ChannelKind;
use crate::metrics::Metrics;
use crate::notifications::notifier::NewMessageNotifier;
use crate::runtime::Runtime;

/// Submits requests to the intake; cloning it is cheap. The intake ends when the last clone is dropped.
#[derive(Clone)]
pub struct RequestIntake(Submitter<RequestCommit>);

/// The task that commits the submitted requests.
pub type Worker = group_commit::GroupCommitWorker<RequestCommit>;

/// Stores requests in groups.
pub struct RequestCommit {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    arrivals: Arc<dyn NewMessageNotifier>,
}

impl RequestIntake {
    /// Creates an intake, and the task that must run for it.
    pub fn new(
        Runtime { db, clock, metrics, .. }: Runtime,
        arrivals: Arc<dyn NewMessageNotifier>,
    ) -> (Self, Worker) {
        let (entrance, worker) =
            group_commit(RequestCommit { db: db.clone(), clock, metrics, arrivals }, &db);
        (Self(entrance), worker)
    }

    /// Stores a request, and returns after the commit. A result other than `None` belongs to a key that was not new:
    /// then nothing was stored.
    ///
    /// # Errors
    /// Database errors.
    pub async fn store(&self, request: RequestToStore) -> Result<Option<ClaimResult>> {
        self.0.write(request).await
    }
}

impl GroupCommit for RequestCommit {
    type Item = RequestToStore;
    type Done = Option<ClaimResult>;
    const LARGEST_GROUP: usize = 2000;

    fn size(request: &RequestToStore) -> usize {
        request.size()
    }

    // requests with the same key are never committed in the same batch, so the second finds the response of the first
    fn key(request: &RequestToStore) -> Option<&str> {
        request.claim.as_ref().map(|claim| claim.key.key.as_str())
    }

    async fn commit(&self, requests: Arc<[RequestToStore]>) -> Result<Vec<Option<ClaimResult>>> {
        let now = self.clock.now();
        self.db.write(move |c: &mut AnyConnection| repo::accept(c, &requests, now)).await
    }

    fn committed(&self, _: &[RequestToStore], results: &[Result<Option<ClaimResult>>]) {
        failpoint::reach("request-after-commit");
        let new = results.iter().filter(|result| matches!(result, Ok(None))).count();
        self.metrics.entered(ChannelKind::Request, new);
        if new > 0 {
            self.arrivals.arrived();
        }
    }
}
