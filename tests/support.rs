//! Code shared by the test binaries: a fresh database of either kind, and the service with a sandbox provider.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod api;
pub mod checker;
pub mod chromium;
pub mod evidence;
pub mod kafka;
pub mod listener;
pub mod postgres;
pub mod proxy;

use std::ops::Deref;
use std::time::Duration;

use diesel::{Connection, PgConnection, RunQueryDsl};
use fanfare::app::App;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::sandbox::{Faults, Sandbox, SandboxArgs};
use serde_json::{Value, json};
use tempfile::TempDir;

use api::Api;

/// Runs one test body on both databases, as `sqlite::name` and `postgres::name`.
#[macro_export]
macro_rules! on_each_database {
    ($(#[$meta:meta])* async fn $name:ident($kind:ident: Database) $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "a body may need none of them")]
            use super::*;
            async fn body($kind: $crate::support::Database) $body
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                body($crate::support::Database::Sqlite).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                body($crate::support::Database::Postgres).await;
            }
        }
    };
}

/// The database system that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file in a temporary directory.
    Sqlite,
    /// A database of its own on the server of `TEST_POSTGRES_URL`.
    Postgres,
}

/// Disables TLS and Kerberos for the server on loopback. A test process that ends while a pool still connects would run
/// the exit handlers of those libraries while their threads are active, and crash after the test has passed.
const PLAIN: &str = "sslmode=disable&gssencmode=disable";

/// An empty database that is deleted when the value is dropped.
pub struct TestDb {
    /// The value for `DATABASE_URL`.
    pub url: String,
    name: Option<String>,
    dir: TempDir,
}

impl TestDb {
    /// Creates a database. A missing PostgreSQL fails the test: it is never skipped.
    pub fn new(kind: Database) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        match kind {
            Database::Sqlite => {
                Self { url: format!("sqlite://{}", dir.path().join("test.db").display()), name: None, dir }
            }
            Database::Postgres => {
                let name = format!("test_{}", uuid::Uuid::now_v7().simple());
                run_on_server(&format!("CREATE DATABASE {name}"));
                let (server, _) =
                    server().rsplit_once('/').map(|(s, d)| (s.to_owned(), d.to_owned())).expect("a path");
                Self { url: format!("{server}/{name}?{PLAIN}"), name: Some(name), dir }
            }
        }
    }

    /// Wraps a database on the test's own server, which is removed together with the server.
    pub fn at(url: String) -> Self {
        Self { url, name: None, dir: TempDir::new().expect("a temporary directory") }
    }

    /// Returns a directory for the test's files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            run_on_server(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

fn server() -> String {
    std::env::var("TEST_POSTGRES_URL").expect(
        "TEST_POSTGRES_URL is not set: run the tests by `make test`, which starts a server of their own",
    )
}

fn run_on_server(sql: &str) {
    let mut connection = PgConnection::establish(&format!("{}?{PLAIN}", server())).expect("the test server");
    diesel::sql_query(sql).execute(&mut connection).expect("a statement on the test server");
}

/// The service on a free port, with its own sandbox provider and database.
pub struct Service {
    api: Api,
    /// The sandbox provider.
    pub sandbox: Sandbox,
    app: Option<App>,
    settings: Vec<(String, String)>,
    /// The database. It is the last field, so that it is dropped last.
    pub db: TestDb,
}

impl Deref for Service {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Service {
    /// Starts the service with the defaults, a poll interval of 50 ms and no rate limit.
    pub async fn start(kind: Database) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts the service with these settings over the defaults, for example `("retry.limit", "1")`. An empty value is
    /// the same as an unset one.
    pub async fn start_with(kind: Database, settings: &[(&str, &str)]) -> Self {
        let db = TestDb::new(kind);
        let sandbox = Sandbox::start(SandboxArgs::on_free_port()).expect("a sandbox");
        let mut all = vec![
            ("http.port".to_owned(), "0".to_owned()),
            ("database.url".to_owned(), db.url.clone()),
            ("sms.base_url".to_owned(), sandbox.base_url()),
            ("channels.rate_per_second".to_owned(), "0".to_owned()),
            ("delivery.poll".to_owned(), "50ms".to_owned()),
        ];
        // webhook has no provider
        for channel in ["email", "push", "discord", "in_app"] {
            all.push((format!("{channel}.base_url"), sandbox.base_url()));
        }
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let unset: Vec<&str> =
            settings.iter().filter(|(_, text)| text.is_empty()).map(|(key, _)| *key).collect();
        all.retain(|(key, _)| !unset.contains(&key.as_str()));
        let api = Api::new(String::new());
        let mut service = Self { api, sandbox, app: None, settings: all, db };
        service.go_on().await;
        service
    }

    /// Starts the service again after [`Service::stop`], on the same database.
    pub async fn go_on(&mut self) {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let app = App::start(Config::with(&settings).expect("a configuration"), Clock::System)
            .await
            .expect("a service");
        self.api.base = format!("http://{}", app.address());
        self.app = Some(app);
    }

    /// Starts another node on the same database, with these settings over this one's.
    pub async fn beside(&self, settings: &[(&str, &str)]) -> Node {
        self.beside_by(Clock::System, settings).await
    }

    /// Starts another node on the same database, with its own clock.
    pub async fn beside_by(&self, clock: Clock, settings: &[(&str, &str)]) -> Node {
        let own = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let all: Vec<(&str, &str)> = own.chain(settings.iter().copied()).collect();
        let config = Config::with(&all).expect("a configuration");
        let app = App::start(config, clock).await.expect("another node");
        Node { api: Api::new(format!("http://{}", app.address())), app }
    }

    /// Changes a setting for the next [`Service::go_on`].
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Stops the service as SIGTERM does.
    pub async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    /// Sets the provider's faults.
    pub fn faults(&self, faults: Faults) {
        self.sandbox.set_faults(faults).expect("faults");
    }

    /// Imports `count` clients with one tag and phone numbers from 79030000000 up.
    pub async fn import(&self, count: u32, tag: &str) {
        let mut csv = String::from("phone_number,tag,name\n");
        for i in 0..count {
            csv.push_str(&format!("{},{tag},name{i}\n", 79_030_000_000_u64 + u64::from(i)));
        }
        self.import_csv(csv).await.expect("an import");
    }

    /// Creates a mailing for a tag that starts now and lasts this long, and returns its id.
    pub async fn mail(&self, tag: &str, window: Duration) -> String {
        let mailing =
            self.post("/mailings", json!({"text": "hello", "filter": tag, "ends_at": after(window)})).await;
        mailing["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a mailing's counts are final and returns them. Panics with the last response when there is no
    /// progress for a minute.
    pub async fn finished(&self, id: &str) -> Value {
        self.wait_for(&format!("/mailings/{id}"), |mailing| !mailing["finished_at"].is_null()).await["counts"]
            .clone()
    }
}

/// Another node on a service's database.
pub struct Node {
    api: Api,
    app: App,
}

impl Deref for Node {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Node {
    /// Stops the node as SIGTERM does.
    pub async fn stop(self) {
        self.app.stop().await;
    }
}

impl Drop for Service {
    /// Stops the service before its database is dropped: it would otherwise try to reconnect for ten seconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is not an actix worker, and a drop cannot wait otherwise"
    )]
    fn drop(&mut self) {
        let Some(app) = self.app.take() else { return };
        let runtime = tokio::runtime::Handle::current();
        // requests that hang at the provider are not awaited
        let stop = async { tokio::time::timeout(Duration::from_millis(200), app.stop()).await };
        tokio::task::block_in_place(|| runtime.block_on(stop)).ok();
    }
}

/// Returns the time at this distance from now, in the API's format.
pub fn after(from_now: Duration) -> String {
    Clock::System.now().plus(from_now).to_string()
}

/// Returns true if the counts balance, as they must at any time.
pub fn balance(counts: &Value) -> bool {
    let of = |name: &str| counts[name].as_i64().expect("a count");
    let parts = ["queued", "sending", "sent", "failed", "expired", "cancelled"];
    of("total") == parts.iter().map(|name| of(name)).sum::<i64>() && parts.iter().all(|name| of(name) >= 0)
}
