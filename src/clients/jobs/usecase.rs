//! The use cases of import jobs.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::model::{ImportFindings, ImportJob, ImportProgress, ProgressPublisher};
use super::repo::{self, JobLease};
use super::runner::Runner;
use super::work::{Received, Work};
use crate::clients::import::{FileProgress, ImportReport, Stopped};
use crate::clients::usecase::{Clients, IMPORTS_AT_ONCE};
use crate::clock::Clock;
use crate::db::types::{ImportId, NodeId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::idempotency::{self, Claim, ClaimResult, IdempotencyKey, IdempotentResponse};
use crate::kinds::ImportStatus;
use crate::paging;

/// The `Retry-After` of a repeated request whose import is running.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The number of attempts to claim a key whose owner has just failed.
const TRIES: usize = 3;

/// The settings for received files.
#[derive(Debug, Clone)]
pub struct Spool {
    /// The folder of the temporary files.
    pub dir: PathBuf,
    /// The largest size of a file in bytes.
    pub most: u64,
}

/// The imports of one database.
pub struct Imports {
    db: Db,
    clock: Clock,
    clients: Clients,
    watchers: Arc<dyn ProgressPublisher>,
    spool: Spool,
    node: NodeId,
    lease: Duration,
    works: mpsc::Sender<Work>,
}

/// A permit to run an import, and the file that its body is received into.
pub struct Receiving {
    /// The file.
    pub file: File,
    /// The permit.
    pub place: OwnedSemaphorePermit,
}

/// The result of a request for an import.
pub enum Started {
    /// The stored response of an earlier equal request.
    Before(IdempotentResponse),
    /// A new job: the response for a caller that does not wait, and the receiver of the outcome for one that waits.
    Now(IdempotentResponse, oneshot::Receiver<Result<ImportReport, Stopped>>),
}

impl Imports {
    /// Creates the use cases and their runner, which the caller must run. `clients` limits the imports at once.
    pub fn new(
        (db, clock): (Db, Clock),
        clients: Clients,
        watchers: Arc<dyn ProgressPublisher>,
        (spool, lease): (Spool, Duration),
    ) -> (Self, Runner) {
        let (works, waiting) = mpsc::channel(IMPORTS_AT_ONCE);
        let node = NodeId::new();
        let runner = Runner::new((db.clone(), clock.clone()), Arc::clone(&watchers), (node, lease), waiting);
        (Self { db, clock, clients, watchers, spool, node, lease, works }, runner)
    }

    /// Returns the largest size of a file in bytes.
    pub fn largest(&self) -> u64 {
        self.spool.most
    }

    /// Acquires a permit for an import, and creates its file: private and without a name, so that it disappears with
    /// the process.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many imports are running, or the disk is full.
    pub fn receive(&self) -> Result<Receiving> {
        let place = self.clients.place()?;
        let file = tempfile::tempfile_in(&self.spool.dir).map_err(not_spooled)?;
        Ok(Receiving { file, place })
    }

    /// Starts the import of a file. `answer` makes the response for a caller that does not wait. Under a key, it is
    /// stored at once; the response of a caller that waits is stored when the job has ended.
    ///
    /// # Errors
    /// [`Error::InWork`] while an equal request is running, [`Error::Invalid`] for the key of another request.
    pub async fn begin(
        &self,
        received: Received,
        key: Option<IdempotencyKey>,
        waits: bool,
        answer: impl FnOnce(&ImportJob) -> Result<IdempotentResponse>,
    ) -> Result<Started> {
        let now = self.clock.now();
        let job = ImportJob::new(received.size, now);
        let id = job.id;
        let answer = answer(&job)?;
        let name = key.as_ref().filter(|_| waits).map(|key| key.key.clone());
        let known = (!waits).then(|| answer.clone());
        let claim = key.map(|key| Claim { key, resource: id.0, answer: known, locked_until: None });
        let hold = JobLease { id, node: self.node, until: now.plus(self.lease) };
        let begin = move |c: &mut AnyConnection| {
            if let Some(claim) = &claim
                && let Some(before) = claimed(c, claim, now)?
            {
                return Ok(Some(before));
            }
            repo::insert(c, &job, hold)?;
            Ok(None)
        };
        if let Some(before) = self.db.write(begin).await? {
            return Ok(Started::Before(before));
        }
        let (done, outcome) = oneshot::channel();
        let work = Work { id, received, key: name, done };
        // each job has a permit, and the channel holds as many jobs as there are permits, so sending fails only when
        // the runner has stopped
        self.works
            .try_send(work)
            .map_err(|_| Error::Busy("the service is shutting down; post the file again".into()))?;
        self.watchers.import_progressed(ImportProgress::new(
            id,
            ImportStatus::Queued,
            FileProgress::default(),
        ));
        Ok(Started::Now(answer, outcome))
    }

    /// Returns the import with this id, and the findings about its rows.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ImportId) -> Result<(ImportJob, ImportFindings)> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        found.ok_or_else(|| Error::not_found("import", id))
    }

    /// Returns the imports before `cursor`, the latest first and in the form of `show`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list<V: Serialize + Send + 'static>(
        &self,
        cursor: Option<ImportId>,
        limit: i64,
        show: impl Fn(ImportJob) -> V + Send + 'static,
    ) -> Result<(Vec<V>, Option<ImportId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&ImportId>, count| repo::list(c, before.copied(), count);
            paging::page_of_views(limit, cursor, part, |job| job.id, show)
        };
        self.db.read(read).await
    }
}

/// Claims an idempotency key, also from a job that failed before its response was stored. Returns the stored response
/// of an equal request.
fn claimed(c: &mut AnyConnection, claim: &Claim, now: Timestamp) -> Result<Option<IdempotentResponse>> {
    let in_work = || Error::InWork {
        why: "the import with this Idempotency-Key is running; repeat the request later for its response"
            .into(),
        retry_after: ASK_AGAIN,
    };
    for _ in 0..TRIES {
        match idempotency::take(c, &[claim], now)?.pop() {
            Some(ClaimResult::New) | None => return Ok(None),
            Some(ClaimResult::Answered(answer)) => return Ok(Some(answer)),
            Some(ClaimResult::Unanswered(earlier)) if repo::is_held(c, ImportId(earlier), now)? => {
                return Err(in_work());
            }
            Some(ClaimResult::Unanswered(_)) => idempotency::release(c, &claim.key.key)?,
            Some(other) => return Err(idempotency::refusal(&other)),
        }
    }
    Err(in_work())
}

/// Converts an I/O error of the temporary file.
pub fn not_spooled(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        tracing::error!(%error, "no space left for the file of an import (IMPORT_DIR)");
        let why = "no space is left for the file, and nothing was imported; send it later, or without \
            Idempotency-Key and Prefer";
        return Error::Busy(why.into());
    }
    Error::Internal(error.into())
}
