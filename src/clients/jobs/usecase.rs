//! Use cases of imports that run as jobs.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::model::{ImportJob, ImportJobWithFindings, ImportProgress, Watchers};
use super::repo::{self, Hold};
use super::runner::{Runner, Work};
use crate::clients::import::{ImportOptions, ImportReport, Progress, Stopped};
use crate::clients::usecase::{Clients, IMPORTS_AT_ONCE};
use crate::clock::Clock;
use crate::db::types::{ImportId, NodeId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, Result};
use crate::idempotency::{self, Answer, Claim, Key, Verdict};
use crate::kinds::ImportStatus;
use crate::paging;

/// The time after which a repetition may find the answer to a request whose import is running.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How often a key is tried for whose owner has just failed.
const TRIES: usize = 3;

/// The folder in which files are received.
#[derive(Debug, Clone)]
pub struct Spool {
    /// The folder of the temporary files.
    pub dir: PathBuf,
    /// The most bytes of a file.
    pub most: u64,
}

/// The imports of one database.
pub struct Imports {
    db: Db,
    clock: Clock,
    clients: Clients,
    watchers: Arc<dyn Watchers>,
    spool: Spool,
    node: NodeId,
    lease: Duration,
    works: mpsc::Sender<Work>,
}

/// A place among the imports that run at once, and the file for what is received.
pub struct Receiving {
    /// The file.
    pub file: File,
    /// The place.
    pub place: OwnedSemaphorePermit,
}

/// A file that was received.
pub struct Received {
    /// The rows.
    pub source: Box<dyn Read + Send>,
    /// Bytes that were received.
    pub size: u64,
    /// How they are read and applied.
    pub options: ImportOptions,
    /// The place.
    pub place: OwnedSemaphorePermit,
}

/// The result of a request for an import.
pub enum Begun {
    /// An equal request was answered this before.
    Before(Answer),
    /// Its job is begun, and this is answered to those who do not wait for its end.
    Now(Answer, oneshot::Receiver<Result<ImportReport, Stopped>>),
}

impl Imports {
    /// Imports through `clients`. The runner is to be run beside it.
    pub fn new(
        (db, clock): (Db, Clock),
        clients: Clients,
        watchers: Arc<dyn Watchers>,
        (spool, lease): (Spool, Duration),
    ) -> (Self, Runner) {
        let (works, waiting) = mpsc::channel(IMPORTS_AT_ONCE);
        let node = NodeId::new();
        let runner = Runner::new((db.clone(), clock.clone()), Arc::clone(&watchers), (node, lease), waiting);
        (Self { db, clock, clients, watchers, spool, node, lease, works }, runner)
    }

    /// The most bytes of a file.
    pub fn largest(&self) -> u64 {
        self.spool.most
    }

    /// Takes a place for an import, and makes the file for it: private, and without a name, so that it goes with the
    /// process.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is no place, or no room for files.
    pub fn receive(&self) -> Result<Receiving> {
        let place = self.clients.place()?;
        let file = tempfile::tempfile_in(&self.spool.dir).map_err(not_spooled)?;
        Ok(Receiving { file, place })
    }

    /// Begins the import of a file. Under a key a job that is not waited for is answered at once, and so are its
    /// repetitions; another one when it has ended.
    ///
    /// # Errors
    /// [`Error::InWork`] while an equal request is waited for, [`Error::Invalid`] for a key of another request.
    pub async fn begin(&self, received: Received, key: Option<Key>, waits: bool) -> Result<Begun> {
        let now = self.clock.now();
        let job = ImportJob::new(received.size, now);
        let id = job.id;
        let answer = Answer::new(202, Some(format!("/api/v1/imports/{id}")), &job)?;
        let name = key.as_ref().filter(|_| waits).map(|key| key.key.clone());
        let known = (!waits).then(|| answer.clone());
        let claim = key.map(|key| Claim { key, resource: id.0, answer: known, locked_until: None });
        let hold = Hold { id, node: self.node, until: now.plus(self.lease) };
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
            return Ok(Begun::Before(before));
        }
        let (done, outcome) = oneshot::channel();
        let work = Work { id, received, key: name, done };
        // each has a place, of which there are as many as the channel holds; the runner ends with the service alone
        self.works
            .try_send(work)
            .map_err(|_| Error::Busy("the service stops; post the file again".into()))?;
        self.watchers.import_progressed(ImportProgress::new(id, ImportStatus::Queued, Progress::default()));
        Ok(Begun::Now(answer, outcome))
    }

    /// The import with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ImportId) -> Result<ImportJobWithFindings> {
        let found = self.db.read(move |c| repo::find(c, id)).await?;
        let (job, findings) = found.ok_or_else(|| Error::not_found("import", id))?;
        Ok(ImportJobWithFindings { job, findings })
    }

    /// The imports before `cursor`, the latest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        cursor: Option<ImportId>,
        limit: i64,
    ) -> Result<(Vec<ImportJob>, Option<ImportId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&ImportId>, count| repo::list(c, before.copied(), count);
            paging::page_of(limit, cursor, part, |job| job.id)
        };
        self.db.read(read).await
    }
}

/// Takes the key of a claim, also from a job that failed before it could be answered. Returns what an equal request was
/// answered.
fn claimed(c: &mut AnyConnection, claim: &Claim, now: Timestamp) -> Result<Option<Answer>> {
    let in_work = || Error::InWork {
        why: "the import with this Idempotency-Key is running; repeat it later for its answer".into(),
        retry_after: ASK_AGAIN,
    };
    for _ in 0..TRIES {
        match idempotency::take(c, &[claim], now)?.pop() {
            Some(Verdict::Ours) | None => return Ok(None),
            Some(Verdict::Answered(answer)) => return Ok(Some(answer)),
            Some(Verdict::Unanswered(earlier)) if repo::is_held(c, ImportId(earlier), now)? => {
                return Err(in_work());
            }
            Some(Verdict::Unanswered(_)) => idempotency::release(c, &claim.key.key)?,
            Some(other) => return Err(idempotency::refusal(&other)),
        }
    }
    Err(in_work())
}

/// The error of a file that could not be received.
pub fn not_spooled(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        tracing::error!(%error, "no room for the file of an import (IMPORT_DIR)");
        let why = "there is no room for the file, and nothing of it was imported; send it later, or without \
            Idempotency-Key and Prefer";
        return Error::Busy(why.into());
    }
    Error::Internal(error.into())
}
