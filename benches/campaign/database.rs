//! Databases with clients. They are imported once and copied for every measurement, so that all start with the same
//! data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{Connection, PgConnection, RunQueryDsl, SqliteConnection};
use fanfare::demo::generator;

use crate::Result;
use crate::args::{Kind, Provider};
use crate::machine::{Cpu, parent_of};
use crate::process::{Sandbox, Service};

/// The seed of the generated clients, so that they are the same in every run.
pub const SEED: u64 = 1;
/// Disables TLS, as in the tests: loopback does not need it, and it would distort the figures.
const PLAIN: &str = "sslmode=disable&gssencmode=disable";
/// Run before measuring sizes: the data that is not yet in the files is large compared with a mailing's.
const CHECKPOINT: &str = "CHECKPOINT";

/// The PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    postmaster: u32,
    pub version: String,
}

impl Server {
    /// Connects to the server started by `scripts/with-postgres --durable`.
    pub fn new() -> Result<Self> {
        let url = std::env::var("TEST_POSTGRES_URL")
            .map_err(|_| "TEST_POSTGRES_URL is not set: run the benchmark by `make bench`")?;
        let mut server = Self { url, postmaster: 0, version: String::new() };
        let mut connection = server.connect("postgres")?;
        let text = |setting: &str| diesel::select(sql::<Text>(&format!("current_setting('{setting}')")));
        for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
            let value: String = text(setting).get_result(&mut connection)?;
            if value != "on" {
                return Err(format!(
                    "the PostgreSQL server has {setting}={value}, so committed data may not be on disk"
                )
                .into());
            }
        }
        server.version = text("server_version").get_result(&mut connection)?;
        // the connection's backend process is a child of the server
        let backend: i32 = diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(&mut connection)?;
        server.postmaster = parent_of(u32::try_from(backend)?)?;
        Ok(server)
    }

    fn url_of(&self, database: &str) -> String {
        let server = self.url.rsplit_once('/').map_or(self.url.as_str(), |(server, _)| server);
        format!("{server}/{database}?{PLAIN}")
    }

    fn connect(&self, database: &str) -> Result<PgConnection> {
        Ok(PgConnection::establish(&self.url_of(database))?)
    }

    fn run(&self, database: &str, statement: &str) -> Result {
        Ok(self.connect(database)?.batch_execute(statement)?)
    }

    fn number(&self, expression: &str) -> Result<f64> {
        self.number_in("postgres", expression).map(|number| number as f64)
    }

    fn number_in(&self, database: &str, expression: &str) -> Result<i64> {
        Ok(diesel::select(sql::<BigInt>(expression)).get_result(&mut self.connect(database)?)?)
    }
}

/// Returns the version of the built-in SQLite.
pub fn sqlite_version() -> Result<String> {
    let mut memory = SqliteConnection::establish(":memory:")?;
    Ok(diesel::select(sql::<Text>("sqlite_version()")).get_result(&mut memory)?)
}

/// A separate database that is deleted when the value is dropped.
pub enum Database {
    Sqlite {
        path: PathBuf,
        /// The bytes in use when it was created.
        used: f64,
    },
    Postgres {
        server: Server,
        name: String,
    },
}

impl Database {
    /// Creates an empty database.
    pub fn empty(kind: Kind, directory: &Path, server: Option<&Server>) -> Result<Self> {
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        match (kind, server) {
            (Kind::Sqlite, _) => Ok(Self::Sqlite { path: directory.join(format!("{name}.db")), used: 0.0 }),
            (Kind::Postgres, Some(server)) => {
                server.run("postgres", &format!("CREATE DATABASE {name}"))?;
                Ok(Self::Postgres { server: server.clone(), name })
            }
            (Kind::Postgres, None) => Err("no PostgreSQL server is configured".into()),
        }
    }

    /// Creates a database with this number of clients, imported by a service and vacuumed.
    pub async fn with_clients(
        kind: Kind,
        directory: &Path,
        server: Option<&Server>,
        clients: u64,
    ) -> Result<Self> {
        let database = Self::empty(kind, directory, server)?;
        let provider = Provider { delay: std::time::Duration::ZERO, in_flight: 1 };
        let sandbox = Sandbox::start(directory, provider).await?;
        let service = Service::start(directory, &database.url(), &sandbox.base, provider.in_flight).await?;
        let chunks = generator::csv_chunks(clients, SEED)?.map(Ok::<_, std::io::Error>);
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        service.api.import(body, clients).await?;
        service.stop().await?;
        match &database {
            Self::Sqlite { path, .. } => checkpoint(path)?,
            // autovacuum would do this within minutes, in the middle of a measurement
            Self::Postgres { server, name } => server.run(name, "VACUUM (ANALYZE)")?,
        }
        Ok(database)
    }

    /// Creates a copy and syncs it to disk, so that the measurement's syncs do not include it.
    pub fn copy(&self, directory: &Path) -> Result<Self> {
        let new = format!("bench_{}", uuid::Uuid::now_v7().simple());
        match self {
            Self::Sqlite { path, .. } => {
                let copy = directory.join(format!("{new}.db"));
                fs::copy(path, &copy)?;
                File::open(&copy)?.sync_all()?;
                let used = used_bytes(&copy)?;
                Ok(Self::Sqlite { path: copy, used })
            }
            Self::Postgres { server, name } => {
                server.run("postgres", &format!("CREATE DATABASE {new} TEMPLATE {name}"))?;
                server.run("postgres", CHECKPOINT)?;
                Ok(Self::Postgres { server: server.clone(), name: new })
            }
        }
    }

    /// Returns the value for `DATABASE_URL`.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => format!("sqlite://{}", path.display()),
            Self::Postgres { server, name } => server.url_of(name),
        }
    }

    /// Returns the number that a subquery selects. Its SQL must be valid in both systems.
    pub fn count(&self, subquery: &str) -> Result<u64> {
        let expression = format!("({subquery})");
        let number = match self {
            Self::Sqlite { path, .. } => {
                let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
                diesel::select(sql::<BigInt>(&expression)).get_result(&mut connection)?
            }
            Self::Postgres { server, name } => server.number_in(name, &expression)?,
        };
        Ok(u64::try_from(number)?)
    }

    /// Returns the time that a subquery selects, in microseconds since the epoch.
    pub fn time(&self, subquery: &str) -> Result<i64> {
        match self {
            Self::Sqlite { path, .. } => {
                let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
                Ok(diesel::select(sql::<BigInt>(&format!("({subquery})"))).get_result(&mut connection)?)
            }
            Self::Postgres { server, name } => {
                server.number_in(name, &format!("(extract(epoch FROM ({subquery})) * 1000000)::bigint"))
            }
        }
    }

    /// Returns the seconds of CPU that the server has used so far, or `None` for SQLite, which runs in the service.
    pub fn cpu(&self, cpu: &Cpu) -> Result<Option<f64>> {
        match self {
            Self::Sqlite { .. } => Ok(None),
            Self::Postgres { server, .. } => cpu.of_tree(server.postmaster).map(Some),
        }
    }

    /// Returns the bytes that the server has written to its write-ahead log so far, or `None` for SQLite.
    pub fn wal(&self) -> Result<Option<f64>> {
        match self {
            Self::Sqlite { .. } => Ok(None),
            Self::Postgres { server, .. } => {
                server.number("pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").map(Some)
            }
        }
    }

    /// Returns the size at the beginning. For an SQLite file it counts the pages in use, because the pages that the
    /// import left free are used first.
    pub fn bytes_before(&self) -> Result<f64> {
        match self {
            Self::Sqlite { used, .. } => Ok(*used),
            Self::Postgres { .. } => self.bytes_after(),
        }
    }

    /// Returns the present size in bytes. The service on an SQLite file must have ended.
    pub fn bytes_after(&self) -> Result<f64> {
        match self {
            Self::Sqlite { path, .. } => {
                checkpoint(path)?;
                Ok(fs::metadata(path)?.len() as f64)
            }
            Self::Postgres { server, name } => server.number(&format!("pg_database_size('{name}')")),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // leftovers are removed with the temporary directory or with the server
        match self {
            Self::Sqlite { path, .. } => {
                for suffix in ["", "-wal", "-shm", ".lock"] {
                    let mut name = path.clone().into_os_string();
                    name.push(suffix);
                    let _ = fs::remove_file(name);
                }
            }
            Self::Postgres { server, name } => {
                let _ = server.run("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            }
        }
    }
}

/// Moves the contents of the write-ahead log into the database file and truncates the log.
fn checkpoint(path: &Path) -> Result {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    Ok(connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?)
}

fn used_bytes(path: &Path) -> Result<f64> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    let pages =
        "(SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)";
    let bytes = format!("({pages}) * (SELECT page_size FROM pragma_page_size)");
    Ok(diesel::select(sql::<BigInt>(&bytes)).get_result::<i64>(&mut connection)? as f64)
}
