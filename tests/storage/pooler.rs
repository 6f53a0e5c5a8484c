//! PgBouncer between the service and PostgreSQL.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::db::{Db, DbOptions};
use fanfare::error::{Error, Result};

use crate::support::{Database, TestDb};

/// A pooler that is stopped when the value is dropped.
struct Pooler {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Pooler {
    /// Starts a pooler for a database in this mode.
    fn start(url: &str, mode: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (credentials, rest) = url.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
        let (user, password) = credentials.split_once(':').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let (host, server_port) = server.split_once(':').unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        // PgBouncer runs as another user when the tests run as root
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::write(path("users"), format!("\"{user}\" \"{password}\"\n")).unwrap();
        let configuration = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n",
            path("users").display()
        );
        std::fs::write(path("configuration"), configuration).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let binary =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(binary.expect("pgbouncer: scripts/setup-test installs it"));
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command.arg(path("configuration")).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let url = format!("postgres://{credentials}@127.0.0.1:{port}/{database}");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = std::fs::read_to_string(path("log")).unwrap();
            assert!(began.elapsed() < Duration::from_secs(30), "it does not listen: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, url, _dir: dir }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn open(url: &str) -> Result<Db> {
    let options = DbOptions::new(url);
    tokio::task::spawn_blocking(|| Db::open(options)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_named_in_one_line_and_one_in_session_mode_works() {
    let database = TestDb::new(Database::Postgres);
    let pooler = Pooler::start(&database.url, "transaction");
    let Err(Error::Conflict(said)) = open(&pooler.url).await else { panic!("it was opened") };
    assert!(said.contains("pooler in transaction mode") && said.contains("pool_mode = session"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    drop(pooler);

    let pooler = Pooler::start(&database.url, "session");
    let db = open(&pooler.url).await.unwrap();
    db.write(fanfare::db::migrations::are_done).await.unwrap();
    drop(db);
}
