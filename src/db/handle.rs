//! [`Db`]: many readers, and for SQLite one writer.

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
use super::opening::{Opening, Settled};
use super::pool::{End, Pool};
use super::ticket::Ticket;
use super::writer::Writer;
use crate::error::{Error, Result};

/// The time for work whose callers have gone when the service has ended.
const LAST_WORK: Duration = Duration::from_secs(1);

/// How the handle is opened.
pub struct DbOptions {
    /// `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reading; on PostgreSQL as many again for writing.
    pub pool_size: u32,
    /// How long the database may take for a request.
    pub timeout: Duration,
    /// Called with the seconds of every commit, for the metrics.
    pub on_commit: Arc<dyn Fn(f64) + Send + Sync>,
}

impl DbOptions {
    /// The defaults for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_size: 8,
            timeout: Duration::from_millis(2500),
            on_commit: Arc::new(|_| ()),
        }
    }
}

/// How busy a pool is.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// `read` or `write`.
    pub pool: &'static str,
    /// Open and waiting for work.
    pub idle: usize,
    /// Handed out.
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
    /// The file is not where it was.
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
    /// After the pools: what goes last waits for what they still open.
    _settled: Arc<Settled>,
}

impl Db {
    /// Opens the database and runs its migrations. The handle is for commands; [`Db::doing`] makes others of it.
    ///
    /// # Errors
    /// A URL of no known scheme, a server that cannot be reached or is behind a pooler in transaction mode, a file that
    /// cannot be opened, a failed migration, a schema that is newer than this version.
    pub fn open(options: DbOptions) -> Result<Self> {
        let opening = Arc::new(Opening::default());
        let opener = Opener::new(&options.url, Arc::clone(&opening))?;
        let mut first = opener.open()?;
        has_own_session(&opener, &mut first)?;
        let done = migrations::run(&mut first).map_err(explained)?;
        if !done.is_empty() {
            tracing::info!(migrations = done.join(", "), "migrations ran");
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
        let settled = Arc::new(Settled(opening));
        let read = Pool::new("read", opener.clone(), options.pool_size);
        Ok(Self { opener, read, write, work: Workload::Command, shared, _settled: settled })
    }

    /// The same database for this work, which has time limits of its own.
    #[must_use]
    pub fn doing(&self, work: Workload) -> Self {
        Self { work, ..self.clone() }
    }

    /// Takes the SQLite file for this process alone, as long as it is open: two engines on one file would each take the
    /// other's pages for those of a dead process. PostgreSQL has node rows for that.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another service holds the file.
    pub fn exclusive(self) -> Result<Self> {
        if let Some(file) = self.opener.file() {
            file.lock()?;
        }
        Ok(self)
    }

    /// Opens all connections of the pools now: later, calls to providers may have taken the process's last descriptor.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when one cannot be opened.
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

    /// Returns whether one file on this machine is the database: no other node can hold pages then.
    pub fn is_single_node(&self) -> bool {
        matches!(self.write, Write::Group(_))
    }

    /// Opens connections beside the pools.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Runs `f` on the blocking pool with a connection for reading.
    ///
    /// # Errors
    /// The error of `f`; [`Error::Unavailable`] when there is no connection or no answer in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        self.is_usable()?;
        self.read.run(self.limits(), self.end(), move |c, _| f(c)).await
    }

    /// Runs `f` in one transaction, committed and on disk if it answers `Ok`, without a trace otherwise.
    ///
    /// # Errors
    /// The error of `f`; [`Error::Unavailable`] when the database is away or did not commit, and
    /// [`Error::OutcomeUnknown`] when nobody can know whether it did.
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

    /// Runs `f` in a transaction that is rolled back: shows what `f` would make, or what refuses it.
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
            // nobody listens any more: nothing is lost
            let _ = made.send(f(c)?);
            Err::<(), _>(Error::Conflict("a rehearsal is rolled back".into()))
        });
        let refused = undone.await.err();
        shown.try_recv().map_err(|_| refused.unwrap_or_else(|| Error::internal("a rehearsal has no result")))
    }

    fn limits(&self) -> (Workload, Limits) {
        (self.work, self.work.limits(self.shared.timeout))
    }

    /// How long a unit of work may take that waits for another one's end first.
    pub(super) fn patience(&self) -> Duration {
        self.limits().1.total + Duration::from_millis(200)
    }

    fn end(&self) -> End {
        self.shared.end.subscribe()
    }

    /// Something was committed that the disk had to take: an empty transaction commits on a full one as well.
    pub(super) fn note_written(&self) {
        let at = i64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.shared.written_at.fetch_max(at, Ordering::AcqRel);
    }

    /// How long no [`Db::pulse`] could be written.
    pub fn unwritten_for(&self) -> Duration {
        let at = u64::try_from(self.shared.written_at.load(Ordering::Acquire)).unwrap_or_default();
        self.shared.opened.elapsed().saturating_sub(Duration::from_millis(at))
    }

    /// Bounds all that is asked from now on, and all that waits: it is given up at this time.
    pub fn end_by(&self, at: Instant) {
        self.shared.end.send_replace(Some(at));
    }

    /// Waits for work whose callers have gone, and leaves a SQLite file to another service.
    pub async fn release(&self) {
        let settled = async {
            self.read.settled().await;
            if let Write::Pool(pool, _) = &self.write {
                pool.settled().await;
            }
        };
        if tokio::time::timeout(LAST_WORK, settled).await.is_err() {
            tracing::warn!("work on the database did not end; it is left alone");
        }
        if let Some(file) = self.opener.file() {
            file.unlock();
        }
    }

    /// Returns whether a SQLite file is still where it was opened; from the first time that it is not, nothing is read and nothing
    /// is written but for the engine, which is to end.
    pub fn is_in_place(&self) -> bool {
        if self.opener.file().is_some_and(|file| !file.is_in_place()) {
            self.shared.is_lost.store(true, Ordering::Release);
        }
        !self.shared.is_lost.load(Ordering::Acquire)
    }

    /// The engine may write down what it has sent: the lock is on the file, wherever it is.
    fn is_usable(&self) -> Result<()> {
        if self.work != Workload::Engine && self.shared.is_lost.load(Ordering::Acquire) {
            return Err(Error::Unavailable("the SQLite file was moved, replaced or removed".into()));
        }
        Ok(())
    }

    /// How busy the pools are.
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

/// Runs `f` in a transaction of PostgreSQL's, which is not committed when nobody waits for it any more.
fn transaction<T>(
    connection: &mut AnyConnection,
    ticket: &Ticket,
    f: impl FnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<T> {
    connection.begin_write()?;
    let outcome = match f(connection) {
        Ok(done) if ticket.commit() => return connection.commit_write().map(|()| done).map_err(of_commit),
        Ok(_) => Err(Error::Unavailable("the database answered too late".into())),
        Err(error) => Err(error),
    };
    // where it fails, the connection is in a transaction still, and is not used again
    let _ = connection.roll_back();
    outcome
}

#[derive(QueryableByName)]
struct Backend {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pid: i32,
}

const POOLER: &str = "a connection pooler in transaction mode stands between Fanfare and PostgreSQL, which needs a session for \
    each connection: set pool_mode = session for this database (PgBouncer), or let DATABASE_URL name PostgreSQL itself";

/// Two connections at the same time have two sessions, unless a pooler lends them out for each transaction.
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

/// The error, or what is behind one that only a pooler causes.
fn explained(error: Error) -> Error {
    if is_shared_session(&error) { Error::Conflict(POOLER.to_owned()) } else { error }
}
