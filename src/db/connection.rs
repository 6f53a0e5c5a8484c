//! Opens connections to the databases, and applies their initial settings.

use std::path::PathBuf;
use std::sync::Arc;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::{Connection, PgConnection, QueryResult, SqliteConnection};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::any::AnyConnection;
use super::file::DatabaseFile;
use super::opening::Opening;
use crate::error::{Error, Result};

impl AnyConnection {
    /// Begins a transaction that may write. SQLite takes the write lock at once (`BEGIN IMMEDIATE`): a deferred
    /// transaction that reads first and then writes fails with `SQLITE_BUSY`, regardless of the busy timeout.
    pub(super) fn begin_write(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(c) => AnsiTransactionManager::begin_transaction(c),
            Self::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
        }
    }

    pub(super) fn commit_write(&mut self) -> QueryResult<()> {
        <Self as Connection>::TransactionManager::commit_transaction(self)
    }

    pub(super) fn roll_back(&mut self) -> QueryResult<()> {
        <Self as Connection>::TransactionManager::rollback_transaction(self)
    }
}

/// The location of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DatabaseUrl {
    Postgres(String),
    Sqlite(PathBuf),
}

impl DatabaseUrl {
    /// Parses a URL. Only its scheme decides: diesel's derived `establish` would treat a mistyped URL as a file name.
    fn parse(url: &str) -> Result<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(bounded(url)));
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

/// Default parameters of libpq, unless the URL has others: an attempt to connect times out after two seconds (libpq's
/// minimum), and a peer that disappears silently is detected after about ten.
const POSTGRES_PARAMETERS: &[(&str, &str)] = &[
    ("connect_timeout", "2"),
    ("keepalives", "1"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
];

/// Adds the missing [`POSTGRES_PARAMETERS`] to a URL.
fn bounded(url: &str) -> String {
    let query = url.split_once('?').map(|(_, query)| query);
    let has = |name: &str| {
        query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some(name)))
    };
    let mut bounded = url.to_owned();
    let mut separator = match query {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    for (name, value) in POSTGRES_PARAMETERS.iter().filter(|(name, _)| !has(name)) {
        bounded.push_str(separator);
        bounded.push_str(name);
        bounded.push('=');
        bounded.push_str(value);
        separator = "&";
    }
    bounded
}

/// The database to which connections are opened.
#[derive(Debug, Clone)]
pub(super) enum DatabaseSource {
    Postgres(String),
    Sqlite(Arc<DatabaseFile>),
}

/// Opens connections for the pools and for the writer.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    source: DatabaseSource,
    opening: Arc<Opening>,
}

/// The settings of SQLite. FULL syncs the log at every commit, since an accepted message must be on disk. mmap_size is
/// not set, since it makes the file count as memory.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA foreign_keys = ON; PRAGMA cache_size = -2000; PRAGMA journal_size_limit = 67108864;";

/// The settings of PostgreSQL, whose defaults may be another time zone or a weaker durability. A node that hangs in a
/// transaction (stopped, or disconnected) would keep its locks, and with the lock on a mailing's row block that mailing
/// on all nodes. The server therefore ends such a transaction, whether it waits for the node's next statement or for
/// the node to read rows. The service's transactions wait only for the database.
const POSTGRES_SETTINGS: &str = "SET TIME ZONE 'UTC'; SET synchronous_commit = on; \
    SET idle_in_transaction_session_timeout = '5s'; SET tcp_user_timeout = '5s'";

/// The characters that are escaped in the path of a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Opener {
    /// Creates an opener for the database of this URL. A missing SQLite file is created.
    ///
    /// # Errors
    /// The URL has an unknown scheme, or the file cannot be opened.
    pub(super) fn new(url: &str, opening: Arc<Opening>) -> Result<Self> {
        let source = match DatabaseUrl::parse(url)? {
            DatabaseUrl::Postgres(url) => DatabaseSource::Postgres(url),
            DatabaseUrl::Sqlite(path) => DatabaseSource::Sqlite(DatabaseFile::open(&path).map_err(|e| {
                Error::Unavailable(format!("cannot open the SQLite file {}: {e}", path.display()).into())
            })?),
        };
        Ok(Self { source, opening })
    }

    /// Returns the SQLite file; none for PostgreSQL.
    pub(super) fn file(&self) -> Option<&Arc<DatabaseFile>> {
        match &self.source {
            DatabaseSource::Postgres(_) => None,
            DatabaseSource::Sqlite(file) => Some(file),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the server refuses the connection, or the file is not in place.
    pub(super) fn open(&self) -> Result<AnyConnection> {
        let _one = self.opening.begin();
        let refused =
            |what: String, why: &dyn std::fmt::Display| Error::Unavailable(format!("{what}: {why}").into());
        match &self.source {
            DatabaseSource::Postgres(url) => {
                // the message omits the URL, which contains a password
                let what = || "cannot connect to PostgreSQL (DATABASE_URL)".to_owned();
                let mut c = PgConnection::establish(url).map_err(|e| refused(what(), &e))?;
                c.batch_execute(POSTGRES_SETTINGS).map_err(|e| refused(what(), &e))?;
                Ok(AnyConnection::Postgres(c))
            }
            DatabaseSource::Sqlite(file) => {
                let what = || format!("cannot open the SQLite file {}", file.path().display());
                let path = file.path().to_string_lossy();
                // it was created before the first connection: a missing file must not be replaced by an empty one
                let uri = format!("file:{}?mode=rw", utf8_percent_encode(&path, PATH));
                if !file.is_in_place() {
                    return Err(refused(what(), &"it was moved, replaced or removed"));
                }
                let mut c = SqliteConnection::establish(&uri).map_err(|e| refused(what(), &e))?;
                c.batch_execute(SQLITE_PRAGMAS).map_err(|e| refused(what(), &e))?;
                if !file.is_in_place() {
                    return Err(refused(what(), &"it was moved, replaced or removed"));
                }
                Ok(AnyConnection::Sqlite(c))
            }
        }
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
            assert!(matches!(DatabaseUrl::parse(url), Err(Error::Invalid(_))), "{url}");
        }
        assert_eq!(DatabaseUrl::parse("sqlite://a/b.db").unwrap(), DatabaseUrl::Sqlite("a/b.db".into()));
        assert!(matches!(DatabaseUrl::parse("postgres://u@h/d").unwrap(), DatabaseUrl::Postgres(_)));
    }

    #[test]
    fn a_connection_to_postgres_is_bounded_unless_its_url_says_otherwise() {
        let all = "connect_timeout=2&keepalives=1&keepalives_idle=5&keepalives_interval=2&keepalives_count=3\
                   &tcp_user_timeout=10000";
        assert_eq!(bounded("postgres://u@h/d"), format!("postgres://u@h/d?{all}"));
        assert_eq!(bounded("postgres://u@h/d?"), format!("postgres://u@h/d?{all}"));
        let own = "postgres://u@h/d?sslmode=require&connect_timeout=9";
        let rest = all.split_once('&').unwrap().1;
        assert_eq!(bounded(own), format!("{own}&{rest}"));
    }
}
