//! [`Db`]: many readers, and one writer for SQLite.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use diesel::{QueryableByName, RunQueryDsl};
use tokio::sync::{oneshot, watch};

use super::any::AnyConnection;
use super::connection::Opener;
use super::effects;
use super::failure::{is_shared_session, of_commit};
use super::limits::{Limits, Workload};
use super::migrations;
use super::opening::{Opening, WaitForOpening};
use super::pool::{End, Pool};
use super::ticket::Ticket;
use super::writer::Writer;
use crate::error::{Error, Result};

/// The time at the end of the service for work whose callers have gone.
const LAST_WORK: Duration = Duration::from_secs(1);

/// The options of a handle.
pub struct DbOptions {
    /// The URL, `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// The number of connections for reading, and on PostgreSQL also for writing.
    pub pool_size: u32,
    /// The time limit of the database for a request.
    pub timeout: Duration,
    /// Receives the duration of each commit in seconds, for the metrics.
    pub on_commit: Arc<dyn Fn(f64) + Send + Sync>,
}

impl DbOptions {
    /// Returns the defaults for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_size: 8,
            timeout: Duration::from_millis(2500),
            on_commit: Arc::new(|_| ()),
        }
    }
}

/// The use of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// The pool's name, `read` or `write`.
    pub pool: &'static str,
    /// The number of idle connections.
    pub idle: usize,
    /// The number of connections in use.
    pub in_use: usize,
}

#[derive(Clone)]
enum Write {
    Group(Arc<Writer>),
    Pool(Arc<Pool>, Arc<dyn Fn(f64) + Send + Sync>),
}

/// State shared by all clones of a handle.
struct Shared {
    timeout: Duration,
    end: watch::Sender<Option<Instant>>,
    opened: Instant,
    /// Milliseconds from the opening to the last pulse.
    written_at: AtomicI64,
    /// True once the file is found missing or replaced.
    is_lost: AtomicBool,
}

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Db {
    opener: Opener,
    read: Arc<Pool>,
    write: Write,
    work: Workload,
    shared: Arc<Shared>,
    /// Dropped after the pools, it waits for the connections that they still open.
    _settled: Arc<WaitForOpening>,
}

impl Db {
    /// Opens the database and applies its migrations. The handle has the limits of commands; [`Db::doing`] returns
    /// handles for other work.
    ///
    /// # Errors
    /// A URL with an unknown scheme, a server that is unreachable or behind a pooler in transaction mode, a file that
    /// cannot be opened, a failed migration, or a schema that is newer than this version.
    pub fn open(options: DbOptions) -> Result<Self> {
        let opening = Arc::new(Opening::default());
        let opener = Opener::new(&options.url, Arc::clone(&opening))?;
        let mut first = opener.open()?;
        has_own_session(&opener, &mut first)?;
        let done = migrations::run(&mut first).map_err(explained)?;
        if !done.is_empty() {
            tracing::info!(migrations = done.join(", "), "migrations applied");
        }
        drop(first);
        let write = match opener.file() {
            None => Write::Pool(Pool::new("write", opener.clone(), options.pool_size), options.on_commit),
            Some(_) => {
                let opener = opener.clone();
                let on_commit = options.on_commit;
                let connect = Box::new(move || opener.open());
                Write::Group(Arc::new(Writer::start(connect, Box::new(move |s| on_commit(s)))?))
            }
        };
        let shared = Arc::new(Shared {
            timeout: options.timeout,
            end: watch::channel(None).0,
            opened: Instant::now(),
            written_at: AtomicI64::new(0),
            is_lost: AtomicBool::new(false),
        });
        let settled = Arc::new(WaitForOpening(opening));
        let read = Pool::new("read", opener.clone(), options.pool_size);
        Ok(Self { opener, read, write, work: Workload::Command, shared, _settled: settled })
    }

    /// Returns a handle of the same database with the time limits of this work.
    #[must_use]
    pub fn doing(&self, work: Workload) -> Self {
        Self { work, ..self.clone() }
    }

    /// Locks the SQLite file for this process, as long as it is open: with two engines on one file, each would take
    /// over the other's leases as those of a dead process. On PostgreSQL the node rows prevent that.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another service has locked the file.
    pub fn exclusive(self) -> Result<Self> {
        if let Some(file) = self.opener.file() {
            file.lock()?;
        }
        Ok(self)
    }

    /// Opens all connections of the pools now: later, calls to providers may have used up the process's descriptors.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a connection cannot be opened.
    pub async fn fill(self) -> Result<Self> {
        let filling = move || {
            self.read.fill()?;
            if let Write::Pool(pool, _) = &self.write {
                pool.fill()?;
            }
            Ok(self)
        };
        tokio::task::spawn_blocking(filling).await.map_err(|e| Error::Internal(e.into()))?
    }

    /// Returns true if the database is a file on this machine, so that no other node can hold leases.
    pub fn is_single_node(&self) -> bool {
        matches!(self.write, Write::Group(_))
    }

    /// Returns the opener of connections outside of the pools.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Runs `f` on a blocking thread with a connection for reading.
    ///
    /// # Errors
    /// The error of `f`; [`Error::Unavailable`] if there is no connection or no response in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        self.is_usable()?;
        self.read.run(self.limits(), self.end(), move |c, _| f(c)).await
    }

    /// Runs `f` in one transaction, which is committed and on disk if this returns `Ok`, and otherwise rolled back.
    ///
    /// # Errors
    /// The error of `f`; [`Error::Unavailable`] if the database is unavailable or did not commit, and
    /// [`Error::OutcomeUnknown`] if it may have committed.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        self.is_usable()?;
        let written = match &self.write {
            Write::Group(writer) => writer.write(self.limits(), self.end(), f).await,
            Write::Pool(pool, on_commit) => {
                let on_commit = Arc::clone(on_commit);
                let job = move |c: &mut AnyConnection, ticket: &Ticket| {
                    let began = Instant::now();
                    let outcome = transaction(c, ticket, f);
                    on_commit(began.elapsed().as_secs_f64());
                    outcome
                };
                pool.run(self.limits(), self.end(), job).await
            }
        }?;
        effects::note();
        Ok(written)
    }

    /// Runs `f` in a transaction that is always rolled back, and returns the result or the error of `f`.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn rehearse<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        let (made, mut shown) = oneshot::channel();
        let undone = self.write(move |c| {
            // an error means that the caller has disconnected
            let _ = made.send(f(c)?);
            Err::<(), _>(Error::Conflict("the dry run was rolled back".into()))
        });
        let refused = undone.await.err();
        shown.try_recv().map_err(|_| refused.unwrap_or_else(|| Error::internal("the dry run has no result")))
    }

    fn limits(&self) -> (Workload, Limits) {
        (self.work, self.work.limits(self.shared.timeout))
    }

    /// Returns the time limit of a unit of work that first waits for the end of another one.
    pub(super) fn patience(&self) -> Duration {
        self.limits().1.total + Duration::from_millis(200)
    }

    fn end(&self) -> End {
        self.shared.end.subscribe()
    }

    /// Records a commit that needed disk space; an empty transaction would also succeed on a full disk.
    pub(super) fn note_written(&self) {
        let at = i64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.shared.written_at.fetch_max(at, Ordering::AcqRel);
    }

    /// Returns the time since the last successful [`Db::pulse`].
    pub fn unwritten_for(&self) -> Duration {
        let at = u64::try_from(self.shared.written_at.load(Ordering::Acquire)).unwrap_or_default();
        self.shared.opened.elapsed().saturating_sub(Duration::from_millis(at))
    }

    /// Sets the deadline of all current and future work.
    pub fn end_by(&self, at: Instant) {
        self.shared.end.send_replace(Some(at));
    }

    /// Waits for work whose callers have gone, and unlocks a SQLite file for another service.
    pub async fn release(&self) {
        let settled = async {
            self.read.settled().await;
            if let Write::Pool(pool, _) = &self.write {
                pool.settled().await;
            }
        };
        if tokio::time::timeout(LAST_WORK, settled).await.is_err() {
            tracing::warn!("database work abandoned: it did not end in time");
        }
        if let Some(file) = self.opener.file() {
            file.unlock();
        }
    }

    /// Returns true while a SQLite file is in place. Once it is not, all reads and writes are refused, except those of
    /// the engine, which is about to stop.
    pub fn is_in_place(&self) -> bool {
        if self.opener.file().is_some_and(|file| !file.is_in_place()) {
            self.shared.is_lost.store(true, Ordering::Release);
        }
        !self.shared.is_lost.load(Ordering::Acquire)
    }

    /// Refuses work on a lost file. The engine may still record its outcomes: the lock is on the file, even if it was
    /// moved.
    fn is_usable(&self) -> Result<()> {
        if self.work != Workload::Engine && self.shared.is_lost.load(Ordering::Acquire) {
            return Err(Error::Unavailable("the SQLite file was moved, replaced or removed".into()));
        }
        Ok(())
    }

    /// Returns the use of the pools.
    pub fn pools(&self) -> Vec<PoolState> {
        let state = |pool: &Pool| {
            let (pool, idle, in_use) = pool.state();
            PoolState { pool, idle, in_use }
        };
        let mut states = vec![state(&self.read)];
        if let Write::Pool(pool, _) = &self.write {
            states.push(state(pool));
        }
        states
    }
}

/// Runs `f` in a transaction of PostgreSQL, which is not committed if the caller has given up.
fn transaction<T>(
    connection: &mut AnyConnection,
    ticket: &Ticket,
    f: impl FnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<T> {
    connection.begin_write()?;
    let outcome = match f(connection) {
        Ok(done) if ticket.commit() => return connection.commit_write().map(|()| done).map_err(of_commit),
        Ok(_) => Err(Error::Unavailable("the database responded too late".into())),
        Err(error) => Err(error),
    };
    // if the rollback fails, the connection is still in a transaction, and is not used again
    let _ = connection.roll_back();
    outcome
}

#[derive(QueryableByName)]
struct Backend {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pid: i32,
}

const POOLER: &str = "DATABASE_URL leads to a connection pooler in transaction mode, but each connection needs a \
    session of its own: set pool_mode = session for this database (PgBouncer), or connect to PostgreSQL directly";

/// Checks that two simultaneous connections have two sessions, which a pooler in transaction mode does not give them.
pub(super) fn has_own_session(opener: &Opener, first: &mut AnyConnection) -> Result<()> {
    let AnyConnection::Postgres(first) = first else { return Ok(()) };
    let AnyConnection::Postgres(mut second) = opener.open()? else { return Ok(()) };
    let pid = |c| diesel::sql_query("SELECT pg_backend_pid() AS pid").get_result::<Backend>(c);
    let (first, second) = (pid(first).map_err(Error::from), pid(&mut second).map_err(Error::from));
    if first.map_err(explained)?.pid == second.map_err(explained)?.pid {
        return Err(Error::Conflict(POOLER.to_owned()));
    }
    Ok(())
}

/// Returns the error, or the explanation of an error that only a pooler causes.
fn explained(error: Error) -> Error {
    if is_shared_session(&error) { Error::Conflict(POOLER.to_owned()) } else { error }
}
