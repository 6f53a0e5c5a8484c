//! How connections to the databases are opened, and what each is told at its start.

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

    pub(super) fn roll_back(&mut self) -> QueryResult<()> {
        <Self as Connection>::TransactionManager::rollback_transaction(self)
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

/// Parameters of libpq unless the URL has others: a server that does not take the connection is given up after two
/// seconds (libpq takes no less), and a peer that is gone without a word after some ten.
const POSTGRES_PARAMETERS: &[(&str, &str)] = &[
    ("connect_timeout", "2"),
    ("keepalives", "1"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
];

/// The URL with those of [`POSTGRES_PARAMETERS`] that it does not have.
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

/// The database that connections are opened to.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Postgres(String),
    Sqlite(Arc<DatabaseFile>),
}

/// Opens connections for the pools and for the writer.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    source: Source,
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

/// Characters that are escaped in the path of a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Opener {
    /// Opens connections to the database of this URL. A SQLite file that is not there is created.
    ///
    /// # Errors
    /// A URL of no known scheme, a file that cannot be opened.
    pub(super) fn new(url: &str, opening: Arc<Opening>) -> Result<Self> {
        let source = match Target::parse(url)? {
            Target::Postgres(url) => Source::Postgres(url),
            Target::Sqlite(path) => Source::Sqlite(DatabaseFile::open(&path).map_err(|e| {
                Error::Unavailable(format!("the SQLite file {} cannot be opened: {e}", path.display()).into())
            })?),
        };
        Ok(Self { source, opening })
    }

    /// The file, if the database is one.
    pub(super) fn file(&self) -> Option<&Arc<DatabaseFile>> {
        match &self.source {
            Source::Postgres(_) => None,
            Source::Sqlite(file) => Some(file),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the server does not take it, or the file is not where it was.
    pub(super) fn open(&self) -> Result<AnyConnection> {
        let _one = self.opening.begin();
        let refused =
            |what: String, why: &dyn std::fmt::Display| Error::Unavailable(format!("{what}: {why}").into());
        match &self.source {
            Source::Postgres(url) => {
                // the URL holds a password: it is not repeated
                let what = || "PostgreSQL does not accept the connection of DATABASE_URL".to_owned();
                let mut c = PgConnection::establish(url).map_err(|e| refused(what(), &e))?;
                c.batch_execute(POSTGRES_SETTINGS).map_err(|e| refused(what(), &e))?;
                Ok(AnyConnection::Postgres(c))
            }
            Source::Sqlite(file) => {
                let what = || format!("the SQLite file {} cannot be opened", file.path().display());
                let path = file.path().to_string_lossy();
                // it was created once, before the first connection: a file that is gone must not come again empty
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
            assert!(matches!(Target::parse(url), Err(Error::Invalid(_))), "{url}");
        }
        assert_eq!(Target::parse("sqlite://a/b.db").unwrap(), Target::Sqlite("a/b.db".into()));
        assert!(matches!(Target::parse("postgres://u@h/d").unwrap(), Target::Postgres(_)));
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
