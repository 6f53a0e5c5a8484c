//! The runner: runs the imports of this node, and marks imports of dead nodes as failed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::model::{ImportFindings, ImportProgress, ProgressPublisher};
use super::repo::{self, JobEnd, JobLease};
use super::work::{Received, Work};
use crate::clients::import::{self, FileProgress, ImportReport, Stopped};
use crate::clock::Clock;
use crate::db::types::{ImportId, NodeId};
use crate::db::{Db, Workload};
use crate::error::{Error, Result};
use crate::idempotency::{self, IdempotentResponse};
use crate::kinds::ImportStatus;
use crate::lifecycle::Shutdown;

/// The interval between two progress updates, far shorter than a lease.
const NOTED_EVERY: Duration = Duration::from_millis(500);
/// The retention time of jobs that have ended.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// The number of attempts to store the end of a job while the database is unavailable.
const TRIES: usize = 5;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the imports of one node.
pub struct Runner {
    parts: Parts,
    waiting: mpsc::Receiver<Work>,
}

#[derive(Clone)]
struct Parts {
    db: Db,
    clock: Clock,
    watchers: Arc<dyn ProgressPublisher>,
    node: NodeId,
    lease: Duration,
}

impl Runner {
    pub(super) fn new(
        (db, clock): (Db, Clock),
        watchers: Arc<dyn ProgressPublisher>,
        (node, lease): (NodeId, Duration),
        waiting: mpsc::Receiver<Work>,
    ) -> Self {
        Self { parts: Parts { db, clock, watchers, node, lease }, waiting }
    }

    /// Runs until the shutdown. Running imports stop then, and their jobs fail with that reason.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut running = JoinSet::new();
        let mut sweep = interval(self.parts.lease);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !shutdown.is_fired() {
            tokio::select! {
                () = shutdown.wait() => {}
                Some(work) = self.waiting.recv() => {
                    let (parts, shutdown) = (self.parts.clone(), shutdown.clone());
                    running.spawn(async move { parts.import(work, shutdown).await });
                }
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "import task panicked");
                    }
                }
                _ = sweep.tick() => if let Err(error) = self.parts.sweep().await {
                    tracing::warn!(%error, "search for lost imports failed");
                },
            }
        }
        self.waiting.close();
        while let Some(work) = self.waiting.recv().await {
            let (parts, shutdown) = (self.parts.clone(), shutdown.clone());
            running.spawn(async move { parts.import(work, shutdown).await });
        }
        while running.join_next().await.is_some() {}
    }
}

impl Parts {
    fn hold(&self, id: ImportId) -> JobLease {
        JobLease { id, node: self.node, until: self.clock.now().plus(self.lease) }
    }

    /// Marks lost jobs as failed, and deletes old ones. On a single node, jobs of other nodes belong to processes that
    /// died.
    async fn sweep(&self) -> Result<()> {
        let now = self.clock.now();
        let only = self.db.is_single_node().then_some(self.node);
        let step = move |c: &mut crate::db::AnyConnection| {
            repo::forget(c, now.minus(KEPT))?;
            repo::fail_lost(c, only, now)
        };
        for job in self.db.write(step).await? {
            tracing::warn!(import = %job.id, line = job.line, "import lost with its node");
        }
        Ok(())
    }

    /// Runs one import to its end.
    async fn import(&self, work: Work, shutdown: Shutdown) {
        let Work { id, received: Received { source, options, place, .. }, key, done } = work;
        let (sender, seen) = watch::channel(FileProgress::default());
        let outcome = {
            let db = self.db.doing(Workload::Import);
            let progress = move |progress| {
                sender.send_replace(progress);
            };
            let mut import = pin!(import::import(&db, &self.clock, source, options, progress));
            let mut tick = interval(NOTED_EVERY.min(self.lease / 5));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut told = None;
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.wait() => {
                        break Err(stopped("the service was stopped", *seen.borrow()));
                    }
                    outcome = &mut import => break outcome,
                    _ = tick.tick() => {
                        let progress = *seen.borrow();
                        match self.note(id, progress).await {
                            Ok(true) if told != Some(progress) => {
                                told = Some(progress);
                                self.tell(id, ImportStatus::Running, progress);
                            }
                            Ok(true) => {}
                            Ok(false) => {
                                tracing::error!(import = %id, "import lost its lease while it ran");
                                break Err(stopped("the import lost its lease", progress));
                            }
                            // the import itself ends if the database stays unavailable
                            Err(error) => tracing::warn!(import = %id, %error, "import progress not stored"),
                        }
                    }
                }
            }
        };
        let progress = *seen.borrow();
        let status = if outcome.is_ok() { ImportStatus::Done } else { ImportStatus::Failed };
        if let Err(stopped) = &outcome {
            tracing::warn!(import = %id, line = stopped.line, "import failed");
        }
        self.finish(id, key, &outcome, progress).await;
        drop(place);
        self.tell(id, status, progress);
        // an error means that the caller has gone
        let _ = done.send(outcome);
    }

    fn tell(&self, id: ImportId, status: ImportStatus, progress: FileProgress) {
        self.watchers.import_progressed(ImportProgress::new(id, status, progress));
    }

    async fn note(&self, id: ImportId, progress: FileProgress) -> Result<bool> {
        let (hold, now) = (self.hold(id), self.clock.now());
        self.db.write(move |c| repo::progress(c, hold, progress, now)).await
    }

    /// Stores the end of a job, and the response under its key. A failure releases the key, because a retry may
    /// succeed.
    async fn finish(
        &self,
        id: ImportId,
        key: Option<String>,
        outcome: &Result<ImportReport, Stopped>,
        progress: FileProgress,
    ) {
        for _ in 0..TRIES {
            let end = end(outcome, progress);
            let answer =
                outcome.as_ref().ok().map(|report| IdempotentResponse::new(200, None, report)).transpose();
            let (hold, now, key) = (self.hold(id), self.clock.now(), key.clone());
            let write = move |c: &mut crate::db::AnyConnection| {
                if repo::finish(c, hold, &end, now)?
                    && let Some(key) = key
                {
                    match answer? {
                        Some(answer) => idempotency::answer(c, &key, &answer)?,
                        None => idempotency::release(c, &key)?,
                    }
                }
                Ok(())
            };
            match self.db.write(write).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(import = %id, %error, "end of import not stored"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        // the lease expires and the job is marked as failed; posting the file again does not change imported rows
    }
}

fn stopped(why: &str, progress: FileProgress) -> Stopped {
    let FileProgress { created, updated, rejected: rejected_count, line, .. } = progress;
    let report = ImportReport { created, updated, rejected_count, ..ImportReport::default() };
    Stopped { why: Error::Unavailable(why.to_owned().into()), report, line }
}

fn end(outcome: &Result<ImportReport, Stopped>, progress: FileProgress) -> JobEnd {
    let (status, error, report, line) = match outcome {
        Ok(report) => (ImportStatus::Done, None, report, progress.line),
        Err(stopped) => (ImportStatus::Failed, Some(reason(stopped)), &stopped.report, stopped.line),
    };
    let ImportReport { created, updated, rejected_count: rejected, .. } = *report;
    let progress = FileProgress { created, updated, rejected, line, ..progress };
    let findings = ImportFindings {
        rejected: report.rejected.clone(),
        warnings: report.warnings.clone(),
        warning_count: report.warning_count,
        assumed: (report.assumed.header_line > 0).then(|| report.assumed.clone()),
    };
    JobEnd { status, error, progress, findings }
}

/// Returns the reason for a failure, without internal details.
fn reason(stopped: &Stopped) -> String {
    let why = match &stopped.why {
        Error::Internal(_) => "an internal error, see the log".to_owned(),
        Error::Unavailable(_) | Error::OutcomeUnknown(_) => {
            "the database was unavailable, or the service was stopped".to_owned()
        }
        other => other.to_string(),
    };
    format!(
        "{why}; rows up to line {} are imported or rejected and remain so. Post the file again: rows that were \
         imported are only updated",
        stopped.line
    )
}
