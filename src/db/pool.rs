//! A pool of connections, which abandons unresponsive ones.
//!
//! A call into libpq cannot be interrupted: a server that accepts a statement and never responds blocks the thread. A
//! task therefore watches the thread, up to the [`Limits`] of the work. After that it returns an error to the caller
//! and gives the connection's slot to the next one. The thread ends when the system or the server closes the
//! connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::{SimpleConnection, TransactionManager};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::any::AnyConnection;
use super::connection::Opener;
use super::failure;
use super::limits::{Limits, Workload};
use super::ticket::{Abandoned, Ticket};
use crate::error::{Error, Result};

/// The age at which a connection to a server is replaced. This bounds the server's memory for it, and resolves the host
/// name again, which may have changed.
const OLDEST: Duration = Duration::from_secs(30 * 60);
/// The limit of threads that wait for abandoned connections; beyond it, all work is refused.
const MOST_ABANDONED: usize = 64;

/// The deadline of all work, once the process is stopping.
pub(super) type End = watch::Receiver<Option<Instant>>;

struct Session {
    connection: AnyConnection,
    opened: Instant,
    /// The pool's epoch at the time of the opening.
    epoch: u64,
}

impl Session {
    /// Sets the work's limits in PostgreSQL. The response shows that the connection works.
    fn prepare(&mut self, limits: Limits) -> Result<()> {
        match &mut self.connection {
            AnyConnection::Postgres(c) => {
                let (statement, lock) = (limits.statement.as_millis(), limits.lock.as_millis());
                Ok(c.batch_execute(&format!(
                    "SET statement_timeout = {statement}; SET lock_timeout = {lock}"
                ))?)
            }
            AnyConnection::Sqlite(_) => Ok(()),
        }
    }

    fn is_old(&self) -> bool {
        matches!(self.connection, AnyConnection::Postgres(_)) && self.opened.elapsed() > OLDEST
    }

    fn is_in_transaction(&mut self) -> bool {
        <AnyConnection as Connection>::TransactionManager::is_broken_transaction_manager(&mut self.connection)
    }
}

#[derive(Default)]
struct Idle {
    sessions: Vec<Session>,
    /// Incremented when a connection is abandoned: the others of that epoch are not trusted either.
    epoch: u64,
}

/// A pool of connections.
pub(super) struct Pool {
    name: &'static str,
    opener: Opener,
    size: usize,
    places: Arc<Semaphore>,
    idle: Mutex<Idle>,
    abandoned: AtomicUsize,
    /// The runtime in which the database was opened. The server's threads have their own runtimes, whose shutdown would
    /// wait for a thread that waits for the database.
    runtime: Option<Handle>,
}

impl Pool {
    pub(super) fn new(name: &'static str, opener: Opener, size: u32) -> Arc<Self> {
        let size = usize::try_from(size).unwrap_or(1);
        Arc::new(Self {
            name,
            opener,
            size,
            places: Arc::new(Semaphore::new(size)),
            idle: Mutex::default(),
            abandoned: AtomicUsize::new(0),
            runtime: Handle::try_current().ok(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pool's name and its numbers of idle and used connections.
    pub(super) fn state(&self) -> (&'static str, usize, usize) {
        (self.name, self.idle().sessions.len(), self.size - self.places.available_permits())
    }

    /// Waits until all connections are idle, except the abandoned ones.
    pub(super) async fn settled(&self) {
        // an error means that the pool is closed
        let _ = self.places.acquire_many(u32::try_from(self.size).unwrap_or(u32::MAX)).await;
    }

    /// Runs `job` on a connection, on a blocking thread, within the limits of this work.
    ///
    /// # Errors
    /// The error of `job`; [`Error::Unavailable`] if there is no connection or no response in time, and
    /// [`Error::OutcomeUnknown`] if the commit had already begun at that time.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        (work, limits): (Workload, Limits),
        end: End,
        job: impl FnOnce(&mut AnyConnection, &Ticket) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = Arc::clone(self);
        // a task of its own: a caller that disconnects must not free the slot, which the connection still uses
        let watched = async move { pool.watch((work, limits), end, job).await };
        let task = match &self.runtime {
            Some(runtime) => runtime.spawn(watched),
            None => tokio::spawn(watched),
        };
        task.await.map_err(|e| Error::Internal(e.into()))?
    }

    async fn watch<T: Send + 'static>(
        self: Arc<Self>,
        (work, limits): (Workload, Limits),
        mut end: End,
        job: impl FnOnce(&mut AnyConnection, &Ticket) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let began = Instant::now();
        if self.abandoned.load(Ordering::Acquire) >= MOST_ABANDONED {
            return Err(Error::Unavailable("too many database connections are unresponsive".into()));
        }
        let place = async { Arc::clone(&self.places).acquire_owned().await };
        let Some(place) = within(began + limits.wait, &mut end, place).await else {
            return Err(Error::Unavailable("timed out while waiting for a free database connection".into()));
        };
        let _place = place.map_err(|e| Error::Internal(e.into()))?;
        let ticket = Arc::new(Ticket::default());
        let (pool, held) = (Arc::clone(&self), Arc::clone(&ticket));
        let thread = tokio::task::spawn_blocking(move || pool.work(limits, &held, job));
        match within(began + limits.total, &mut end, thread).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(panicked)) => Err(Error::Internal(panicked.into())),
            None => Err(self.abandon(work, &ticket, began)),
        }
    }

    /// Runs the job; called on a blocking thread.
    fn work<T>(
        &self,
        limits: Limits,
        ticket: &Ticket,
        job: impl FnOnce(&mut AnyConnection, &Ticket) -> Result<T>,
    ) -> Result<T> {
        // also when the job panics
        let _ending = ThreadGuard(&self.abandoned, ticket);
        failure::forget_sqlstate();
        let mut session = self.session(limits, ticket)?;
        let outcome = job(&mut session.connection, ticket);
        self.put_back(session, ticket);
        outcome
    }

    fn session(&self, limits: Limits, ticket: &Ticket) -> Result<Session> {
        let gone = || Error::Unavailable("the database responded too late".into());
        loop {
            let (found, epoch) = {
                let mut idle = self.idle();
                (idle.sessions.pop(), idle.epoch)
            };
            let is_new = found.is_none();
            let mut session = match found {
                Some(session) if session.is_old() => continue,
                Some(session) => session,
                None => self.open(epoch)?,
            };
            let prepared = session.prepare(limits);
            if ticket.is_abandoned() {
                return Err(gone());
            }
            match prepared {
                Ok(()) => return Ok(session),
                Err(error) if is_new => return Err(error),
                // the connection failed while it was idle
                Err(_) => {}
            }
        }
    }

    fn open(&self, epoch: u64) -> Result<Session> {
        Ok(Session { connection: self.opener.open()?, opened: Instant::now(), epoch })
    }

    /// Opens all connections of the pool, while descriptors are available. Blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a connection cannot be opened.
    pub(super) fn fill(&self) -> Result<()> {
        let mut idle = self.idle();
        while idle.sessions.len() < self.size {
            let session = self.open(idle.epoch)?;
            idle.sessions.push(session);
        }
        Ok(())
    }

    fn put_back(&self, mut session: Session, ticket: &Ticket) {
        let is_whole = !ticket.is_abandoned() && !session.is_in_transaction();
        let mut idle = self.idle();
        if is_whole && session.epoch == idle.epoch {
            idle.sessions.push(session);
        }
    }

    /// Abandons an unresponsive connection, and closes the idle ones.
    fn abandon(self: &Arc<Self>, work: Workload, ticket: &Ticket, began: Instant) -> Error {
        let abandoned = self.abandoned.fetch_add(1, Ordering::AcqRel) + 1;
        let Abandoned { is_committing, is_ended } = ticket.abandon();
        if is_ended {
            self.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
        let suspects = {
            let mut idle = self.idle();
            idle.epoch += 1;
            std::mem::take(&mut idle.sessions)
        };
        // closing sends a message to the server, which may block
        drop(tokio::task::spawn_blocking(move || drop(suspects)));
        let elapsed = began.elapsed();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let (pool, work) = (self.name, work.as_str());
        tracing::error!(pool, work, elapsed_ms, abandoned, "database timed out; connection abandoned");
        let why = format!("the database did not respond within {elapsed_ms} ms");
        if is_committing { Error::OutcomeUnknown(why.into()) } else { Error::Unavailable(why.into()) }
    }
}

/// Counts the thread of an abandoned connection until it ends.
struct ThreadGuard<'a>(&'a AtomicUsize, &'a Ticket);

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        if self.1.end() {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Returns the output of the future, or none if it takes until `deadline` or until the end of the process.
pub(super) async fn within<F: Future>(deadline: Instant, end: &mut End, future: F) -> Option<F::Output> {
    tokio::pin!(future);
    loop {
        let until = end.borrow_and_update().map_or(deadline, |end| end.min(deadline));
        tokio::select! {
            biased;
            output = &mut future => return Some(output),
            () = tokio::time::sleep_until(until.into()) => return None,
            // an error means that the deadline can no longer change
            Ok(()) = end.changed() => {}
        }
    }
}
