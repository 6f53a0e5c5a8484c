//! The only writer of SQLite: a thread that commits many waiting units of work in one transaction.
//!
//! SQLite has one write lock, and an fsync takes milliseconds, so units of work that arrive during a commit share the
//! next one. Each runs in its own savepoint: a failure rolls back only its own changes. A caller gets its result after
//! COMMIT has returned, when the changes are on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use diesel::Connection;
use diesel::connection::SimpleConnection;
use tokio::sync::oneshot;

use super::any::AnyConnection;
use super::failure;
use super::limits::{Limits, Workload};
use super::pool::{End, within};
use super::ticket::Ticket;
use super::tuning::Tuning;
use crate::error::{Error, Result};

/// The greatest number of units of work in a commit, which bounds the wait of the first.
const LARGEST_GROUP: usize = 256;

/// Runs the work, or takes the error why nothing can run. The returned function is called after the commit, with the
/// error if there was no commit. Work whose caller has given up is not run.
type WriteJob = Box<dyn FnOnce(std::result::Result<&mut AnyConnection, &Error>) -> WriteResult + Send>;
type Completion = Box<dyn FnOnce(Option<&Error>) + Send>;

/// A waiting unit of work.
struct Job {
    work: Workload,
    run: WriteJob,
}

/// A unit of work that has run and is not committed yet.
struct WriteResult {
    answer: Completion,
    /// True if its failure may have ended the whole transaction.
    suspect: bool,
}

/// Receives the duration of each group commit, in seconds.
pub(super) type Observer = Box<dyn Fn(f64) + Send + Sync>;
/// Opens the writer's connection, at the start and after a failure.
pub(super) type Connect = Box<dyn Fn() -> Result<AnyConnection> + Send>;

pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread; it ends when the last handle is dropped.
    pub(super) fn start(connect: Connect, observer: Observer) -> Result<Self> {
        let connection = connect()?;
        let (jobs, queue) = mpsc::channel();
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || write_groups(connection, &connect, &queue, &observer))
            .map_err(|e| Error::Internal(e.into()))?;
        Ok(Self { jobs })
    }

    /// Runs `unit` in the next group, and returns after its commit.
    ///
    /// # Errors
    /// The error of `unit`; [`Error::Unavailable`] if it did not start in time, and [`Error::OutcomeUnknown`] if it did
    /// not end in time.
    pub(super) async fn write<T, F>(
        &self,
        (work, limits): (Workload, Limits),
        mut end: End,
        unit: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        let began = Instant::now();
        let ticket = Arc::new(Ticket::default());
        let held = Arc::clone(&ticket);
        let (done, result) = oneshot::channel();
        let run: WriteJob = Box::new(move |connection| {
            let outcome = match connection {
                Ok(_) if !held.commit() => Err(Error::Unavailable("the caller has given up".into())),
                Ok(connection) => connection.transaction(|c| {
                    // caught inside the savepoint, so that it is rolled back like any failure
                    catch_unwind(AssertUnwindSafe(|| unit(c))).unwrap_or_else(|_| {
                        Err(Error::internal("a unit of work panicked in the SQLite writer"))
                    })
                }),
                Err(why) => Err(unavailable(why)),
            };
            let suspect = matches!(outcome, Err(Error::Unavailable(_) | Error::Internal(_)));
            let answer = Box::new(move |failure: Option<&Error>| {
                let outcome = match failure {
                    Some(why) if outcome.is_ok() => Err(unavailable(why)),
                    _ => outcome,
                };
                // an error means that the caller has disconnected; its work is still committed
                let _ = done.send(outcome);
            });
            WriteResult { answer, suspect }
        });
        self.jobs
            .send(Job { work, run })
            .map_err(|_| Error::Unavailable("the SQLite writer has stopped".into()))?;
        let Some(outcome) = within(began + limits.total, &mut end, result).await else {
            let is_open = ticket.abandon().is_committing;
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::error!(work = work.as_str(), elapsed_ms, begun = is_open, "SQLite write timed out");
            return Err(without_answer(is_open, format!("SQLite write timed out after {elapsed_ms} ms")));
        };
        outcome.map_err(|_| {
            without_answer(ticket.abandon().is_committing, "the SQLite writer has stopped".to_owned())
        })?
    }
}

fn without_answer(is_open: bool, why: String) -> Error {
    if is_open { Error::OutcomeUnknown(why.into()) } else { Error::Unavailable(why.into()) }
}

fn unavailable(why: &Error) -> Error {
    Error::Unavailable(format!("SQLite write failed: {why}").into())
}

fn write_groups(
    mut connection: AnyConnection,
    connect: &Connect,
    queue: &mpsc::Receiver<Job>,
    observer: &Observer,
) {
    let mut tuning = Tuning::default();
    while let Ok(first) = queue.recv() {
        failure::forget_sqlstate();
        tuning.note(first.work);
        if let Err(error) = tuning.suit(&mut connection) {
            tracing::warn!(%error, "SQLite settings for imports not applied");
        }
        let rest = queue.try_iter().take(LARGEST_GROUP - 1).inspect(|job| tuning.note(job.work));
        let group = std::iter::once(first).chain(rest);
        let failure = write_group(&mut connection, group, observer);
        if let Some(failure) = failure {
            tracing::error!(error = %failure, "SQLite commit failed; reopening the connection");
            // dropping the old connection rolls back the rest of its transaction
            match connect() {
                Ok(fresh) => {
                    connection = fresh;
                    tuning = Tuning::default();
                }
                Err(e) => tracing::error!(error = %e, "SQLite connection not opened"),
            }
        }
    }
}

/// Runs and commits a group. Returns the error if it was not committed.
fn write_group(
    connection: &mut AnyConnection,
    group: impl Iterator<Item = Job>,
    observer: &Observer,
) -> Option<Error> {
    let began = Instant::now();
    let mut failure = connection.begin_write().err().map(Error::from);
    let mut answers: Vec<Completion> = Vec::new();
    for job in group {
        let ran = match &failure {
            None => (job.run)(Ok(connection)),
            Some(why) => (job.run)(Err(why)),
        };
        answers.push(ran.answer);
        if ran.suspect && failure.is_none() && has_ended(connection) {
            failure = Some(Error::internal("the whole transaction was rolled back"));
        }
    }
    let failure = failure.or_else(|| connection.commit_write().err().map(Error::from));
    observer(began.elapsed().as_secs_f64());
    answers.into_iter().for_each(|answer| answer(failure.as_ref()));
    failure
}

/// Returns true if SQLite rolled back the whole transaction by itself, as it does when the disk is full. Later
/// statements would then commit one by one. The check is that BEGIN succeeds, which it does only outside of a
/// transaction.
fn has_ended(connection: &mut AnyConnection) -> bool {
    connection.batch_execute("BEGIN").is_ok()
}

#[cfg(test)]
mod tests;
