//! The databases' connections: many readers, and for SQLite one writer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::r2d2::R2D2Connection;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::{Connection, PgConnection, QueryResult, SqliteConnection};
use r2d2::{ManageConnection, Pool};

use super::any::AnyConnection;
use super::migrations;
use super::opening::{Opening, Settled};
use super::writer::Writer;
use crate::error::{Error, Result};

impl AnyConnection {
    /// Begins a transaction that may write. SQLite takes the write lock at once (`BEGIN IMMEDIATE`): a deferred
    /// transaction that reads first and then writes fails with `SQLITE_BUSY`, which no busy timeout cures.
    pub(super) fn begin_write(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::begin_transaction(c),
            Self::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
        }
    }

    pub(super) fn commit_write(&mut self) -> QueryResult<()> {
        <Self as Connection>::TransactionManager::commit_transaction(self)
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Postgres(String),
    Sqlite(PathBuf),
}

impl Target {
    /// Chosen by the URL's scheme alone: diesel's derived `establish` would take a mistyped URL for a file name.
    fn parse(url: &str) -> Result<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() && !path.starts_with(':') => Ok(Self::Sqlite(path.into())),
            _ => Err(Error::invalid(
                "database.url",
                "must be sqlite://PATH (sqlite://fanfare.db, sqlite:///var/lib/fanfare.db) or \
                 postgres://USER:PASSWORD@HOST:PORT/DATABASE; set DATABASE_URL",
            )),
        }
    }
}

/// Opens connections for the pools and for the writer.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    target: Target,
    opening: Arc<Opening>,
}

/// Accepted means on disk: FULL syncs the log at every commit. No mmap_size: it makes the file count as memory.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA foreign_keys = ON; PRAGMA cache_size = -2000; PRAGMA journal_size_limit = 67108864;";

/// A server's default may be another time zone or a weaker durability. A node that stands still in a transaction (stopped,
/// or cut off) would keep its locks for as long, and with a mailing's row everyone from that mailing: the server ends it,
/// whether it waits for the node's next statement or for the node to read the last one's rows. No transaction waits for
/// anything but the database.
const POSTGRES_SETTINGS: &str = "SET TIME ZONE 'UTC'; SET synchronous_commit = on; \
    SET idle_in_transaction_session_timeout = '5s'; SET tcp_user_timeout = '5s'";

impl ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<AnyConnection, Self::Error> {
        let _one = self.opening.begin();
        match &self.target {
            Target::Postgres(url) => {
                let mut c = PgConnection::establish(url)?;
                c.batch_execute(POSTGRES_SETTINGS)?;
                Ok(AnyConnection::Postgres(c))
            }
            Target::Sqlite(path) => {
                let mut c = SqliteConnection::establish(&path.to_string_lossy())?;
                c.batch_execute(SQLITE_PRAGMAS)?;
                Ok(AnyConnection::Sqlite(c))
            }
        }
    }

    fn is_valid(&self, c: &mut AnyConnection) -> Result<(), Self::Error> {
        c.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, c: &mut AnyConnection) -> bool {
        c.is_broken()
    }
}

/// How the handle is opened.
pub struct DbOptions {
    /// `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reading; on PostgreSQL as many again for writing.
    pub pool_size: u32,
    /// How long a caller waits for a connection before it is told that the database is unavailable.
    pub timeout: Duration,
    /// Called with the seconds of every commit, for the metrics.
    pub on_commit: Arc<dyn Fn(f64) + Send + Sync>,
}

impl DbOptions {
    /// The defaults for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), pool_size: 8, timeout: Duration::from_secs(10), on_commit: Arc::new(|_| ()) }
    }
}

/// How busy a pool is.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// `read` or `write`.
    pub pool: &'static str,
    /// Open and waiting for work.
    pub idle: u32,
    /// Handed out.
    pub in_use: u32,
}

#[derive(Clone)]
enum Write {
    Group(Arc<Writer>),
    Pool(Pool<Manager>, Arc<dyn Fn(f64) + Send + Sync>),
}

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Db {
    manager: Manager,
    read: Pool<Manager>,
    write: Write,
    /// Held while the process lives: one service per SQLite file.
    _lock: Option<Arc<std::fs::File>>,
    /// After the pools: what goes last waits for what they still open.
    _settled: Arc<Settled>,
}

impl Db {
    /// Opens the database and runs its migrations.
    ///
    /// # Errors
    /// A URL of no known scheme, a server that cannot be reached, a file that cannot be opened, a failed migration.
    pub fn open(options: DbOptions) -> Result<Self> {
        let opening = Arc::new(Opening::default());
        let manager = Manager { target: Target::parse(&options.url)?, opening: Arc::clone(&opening) };
        // asked for once by hand: a pool would hide the reason behind its timeout
        let mut first = manager.connect().map_err(|e| cannot_open(&manager.target, e))?;
        let done = migrations::run(&mut first)?;
        if !done.is_empty() {
            tracing::info!(migrations = done.join(", "), "migrations ran");
        }
        drop(first);
        let pool = |manager: &Manager| {
            Pool::builder()
                .max_size(options.pool_size)
                // connected only when somebody waits for it
                .min_idle(Some(0))
                .connection_timeout(options.timeout)
                .test_on_check_out(matches!(manager.target, Target::Postgres(_)))
                .error_handler(Box::new(LogErrors))
                .build(manager.clone())
                .map_err(|e| Error::Unavailable(e.into()))
        };
        let write = match &manager.target {
            Target::Postgres(_) => Write::Pool(pool(&manager)?, options.on_commit),
            Target::Sqlite(_) => {
                let opener = manager.clone();
                let connect = Box::new(move || opener.connect().map_err(|e| Error::Unavailable(e.into())));
                let on_commit = options.on_commit;
                Write::Group(Arc::new(Writer::start(connect, Box::new(move |s| on_commit(s)))?))
            }
        };
        let settled = Arc::new(Settled(opening));
        Ok(Self { read: pool(&manager)?, write, manager, _lock: None, _settled: settled })
    }

    /// Takes the SQLite file for this process alone, until the last clone of the answer is gone: two engines on one
    /// file would each take the other's pages for those of a dead process. PostgreSQL has node rows for that.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another service holds the file.
    pub fn exclusive(mut self, url: &str) -> Result<Self> {
        if let Target::Sqlite(path) = Target::parse(url)? {
            let mut name = path.into_os_string();
            name.push(".lock");
            let file = std::fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&name)
                .map_err(|e| Error::Unavailable(e.into()))?;
            file.try_lock().map_err(|_| {
                Error::Conflict(format!(
                    "another fanfare serves this database ({} is locked); stop it, or use PostgreSQL for several nodes",
                    name.display()
                ))
            })?;
            self._lock = Some(Arc::new(file));
        }
        Ok(self)
    }

    /// Whether one file on this machine is the database: no other node can hold pages then.
    pub fn is_single_node(&self) -> bool {
        matches!(self.write, Write::Group(_))
    }

    /// Opens connections beside the pools.
    pub(super) fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Runs `f` on the blocking pool with a connection for reading.
    ///
    /// # Errors
    /// What `f` answers; [`Error::Unavailable`] when there is no connection in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        let pool = self.read.clone();
        blocking(move || f(&mut *checkout(&pool)?)).await
    }

    /// Runs `f` in one transaction, committed and on disk if it answers `Ok`, without a trace otherwise.
    ///
    /// # Errors
    /// What `f` answers; [`Error::Unavailable`] when the database is away or did not commit.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    {
        match &self.write {
            Write::Group(writer) => writer.write(f).await,
            Write::Pool(pool, on_commit) => {
                let (pool, on_commit) = (pool.clone(), Arc::clone(on_commit));
                blocking(move || {
                    let mut connection = checkout(&pool)?;
                    let began = Instant::now();
                    let outcome = <AnyConnection as Connection>::transaction(&mut connection, f);
                    on_commit(began.elapsed().as_secs_f64());
                    outcome
                })
                .await
            }
        }
    }

    /// How busy the pools are.
    pub fn pools(&self) -> Vec<PoolState> {
        let state = |name, pool: &Pool<Manager>| {
            let now = pool.state();
            PoolState {
                pool: name,
                idle: now.idle_connections,
                in_use: now.connections - now.idle_connections,
            }
        };
        let mut states = vec![state("read", &self.read)];
        if let Write::Pool(pool, _) = &self.write {
            states.push(state("write", pool));
        }
        states
    }
}

fn checkout(pool: &Pool<Manager>) -> Result<r2d2::PooledConnection<Manager>> {
    pool.get().map_err(|e| Error::Unavailable(e.into()))
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(|e| Error::Internal(e.into()))?
}

fn cannot_open(target: &Target, source: diesel::r2d2::Error) -> Error {
    let what = match target {
        // the URL holds a password: it is not repeated
        Target::Postgres(_) => "PostgreSQL does not accept the connection of DATABASE_URL".to_owned(),
        Target::Sqlite(path) => format!("the SQLite file {} cannot be opened", path.display()),
    };
    Error::Unavailable(format!("{what}: {source}").into())
}

/// r2d2 opens connections in the background; its failures are seen only here.
#[derive(Debug)]
struct LogErrors;

impl r2d2::HandleError<diesel::r2d2::Error> for LogErrors {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        tracing::warn!(%error, "a database connection could not be opened");
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        let away = match &error {
            QueryError::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction,
                _,
            )
            | QueryError::BrokenTransactionManager => true,
            QueryError::DatabaseError(_, info) => is_outage(info.message()),
            _ => false,
        };
        if away { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

/// diesel has no kind for these: SQLite's full disk and held lock, PostgreSQL's shutdown and start-up, deadlock.
fn is_outage(message: &str) -> bool {
    [
        "disk is full",
        "database is locked",
        "disk I/O error",
        "out of memory",
        "unable to open database",
        "terminating connection",
        "the database system is",
        "server closed the connection",
        "deadlock detected",
        "no connection to the server",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

/// Whether the database will never take just these values: the same work with others may succeed, and waiting helps
/// nothing.
pub fn refuses_values(error: &Error) -> bool {
    let Error::Internal(source) = error else { return false };
    match source.downcast_ref::<QueryError>() {
        Some(QueryError::SerializationError(_)) => true,
        Some(QueryError::DatabaseError(kind, info)) => {
            matches!(kind, DatabaseErrorKind::NotNullViolation | DatabaseErrorKind::CheckViolation)
                || ["invalid byte sequence", "out of range", "too long", "too big"]
                    .iter()
                    .any(|sign| info.message().contains(sign))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_no_known_scheme_is_refused_and_never_becomes_a_file() {
        for url in
            ["", "fanfare.db", "postgre://x", "mysql://x", "sqlite://", "sqlite://:memory:", "sqlite:x"]
        {
            assert!(matches!(Target::parse(url), Err(Error::Invalid(_))), "{url}");
        }
        assert_eq!(Target::parse("sqlite://a/b.db").unwrap(), Target::Sqlite("a/b.db".into()));
        assert!(matches!(Target::parse("postgres://u@h/d").unwrap(), Target::Postgres(_)));
    }
}
