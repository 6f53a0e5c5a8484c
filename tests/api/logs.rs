//! The log of the real binary: one line for each request, and no private data.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use reqwest::Method;
use serde_json::{Value, json};

use crate::on_each_database;
use crate::process::{Launch, Limit, Provider, Server};
use crate::support::{Database, TestDb, after};

const KEY: &str = "planted-api-key-5c7e";
const WRONG_KEY: &str = "planted-wrong-key-19af";
const TOKEN: &str = "planted-provider-token-77d2";
const PHONE: &str = "79035550123";
const IMPORTED_PHONE: &str = "79165550199";
/// The private values that no log may contain. All of them pass through the service.
const PLANTED: &[&str] = &[
    KEY,
    WRONG_KEY,
    TOKEN,
    PHONE,
    IMPORTED_PHONE,
    "planted.address@example.com",
    "PlantedName",
    "planted-push-token",
    "planted-external-id",
    "PlantedText",
    "planted-in-path",
    "planted-in-query",
    "planted-in-header",
    "planted-in-json",
    "planted-in-csv",
];

/// A caller that records the request id of each response.
struct Caller {
    base: String,
    http: reqwest::Client,
    ids: Vec<String>,
}

impl Caller {
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(KEY);
        let request = request.header("content-type", kind).header("x-custom", "planted-in-header");
        self.send(request.body(body)).await
    }

    async fn post(&mut self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, &format!("/api/v1{path}"), "application/json", body.to_string()).await
    }

    async fn get(&mut self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, "text/plain", "").await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("an answer");
        let id = response.headers().get("x-request-id").expect("an id").to_str().expect("a text").to_owned();
        self.ids.push(id);
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
    }
}

/// Uses all features and triggers all errors, with a planted value in each place.
async fn use_every_feature(caller: &mut Caller, db: &TestDb, kind: Database) {
    let anna = json!({
        "phone_number": PHONE, "tag": "vip", "email": "planted.address@example.com", "push_token": "planted-push-token",
        "external_id": "planted-external-id", "attributes": {"name": "PlantedName"},
    });
    assert_eq!(caller.post("/clients", anna.clone()).await.0, 201);
    assert_eq!(caller.post("/clients", anna).await.0, 409);
    let wrong = json!({"phone_number": PHONE, "email": "planted-in-json", "planted-in-json": 1, "timezone": "planted-in-json"});
    assert_eq!(caller.post("/clients", wrong).await.0, 422);
    let csv = format!(
        "phone_number,email,name\n{IMPORTED_PHONE},,PlantedName\nplanted-in-csv,planted-in-csv,PlantedName\n"
    );
    let (status, report) = caller.call(Method::POST, "/api/v1/clients/import", "text/csv", csv).await;
    assert_eq!((status, &report["created"], &report["rejected_count"]), (200, &json!(1), &json!(1)));
    let header = "tag,planted-in-csv\n";
    assert_eq!(caller.call(Method::POST, "/api/v1/clients/import", "text/csv", header).await.0, 422);
    for (path, status) in [
        ("/api/v1/clients/planted-in-path", 422),
        ("/planted-in-path", 404),
        ("/api/v1/clients?tag=planted-in-query", 200),
        ("/api/v1/clients?planted-in-query=1", 422),
        ("/api/v1/clients?cursor=planted-in-query", 422),
        ("/health?planted-in-query", 422),
        ("/api/v1/inbox/planted-in-path?token=planted-in-query", 200),
        ("/api/v1/inbox/planted-in-path?token=planted-in-query&cursor=planted-in-query", 422),
        ("/api/v1/inbox/planted-in-path/planted-in-path", 404),
    ] {
        assert_eq!(caller.get(path).await.0, status, "{path}");
    }
    for (kind, status) in [("application/json", 400), ("planted-in-header", 415)] {
        let body = "{\"phone_number\": planted-in-json}";
        assert_eq!(caller.call(Method::POST, "/api/v1/clients", kind, body).await.0, status);
    }
    let unknown =
        json!({"text": "PlantedText {{ planted_in_json }}", "ends_at": after(Duration::from_secs(60))});
    assert_eq!(caller.post("/mailings", unknown).await.0, 422);
    let url = format!("{}/api/v1/clients", caller.base);
    let request = caller.http.get(url).bearer_auth(WRONG_KEY);
    assert_eq!(caller.send(request).await.0, 401);
    let url = format!("{}/api/v1/inbox/planted-in-path/stream?token=planted-in-query", caller.base);
    let request = caller.http.get(url);
    assert_eq!(caller.send(request).await.0, 401);
    let in_app = json!({"channel": "in_app", "recipient": "planted-in-json", "content": "PlantedText"});
    assert_eq!(caller.post("/notifications", in_app).await.0, 201);
    let began = Instant::now();
    while caller.get("/api/v1/inbox/planted-in-json/count").await.1["unread"] != 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "the message was not delivered");
    }

    let text = json!({"text": "PlantedText for {{ name }}", "ends_at": after(Duration::from_secs(60))});
    let (status, mailing) = caller.post("/mailings", text).await;
    assert_eq!(status, 201, "{mailing}");
    let path = format!("/api/v1/mailings/{}", mailing["id"].as_str().expect("an id"));
    let began = Instant::now();
    while caller.get(&path).await.1["finished_at"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(60), "the mailing did not finish");
    }
    assert_eq!(caller.get(&format!("{path}/messages")).await.0, 200);

    // an internal error in a row with private data
    break_clients(db, kind);
    let boris = json!({"phone_number": "79035550124", "email": "planted.address@example.com", "attributes": {"name": "PlantedName"}});
    assert_eq!(caller.post("/clients", boris).await.0, 500);
}

/// Makes every insertion of a client fail in the database, whose error message may repeat the row.
fn break_clients(db: &TestDb, kind: Database) {
    match kind {
        Database::Sqlite => {
            let path = db.url.strip_prefix("sqlite://").expect("a path");
            let trigger = "CREATE TRIGGER broken BEFORE INSERT ON client BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END";
            SqliteConnection::establish(path).expect("the file").batch_execute(trigger).expect("a trigger");
        }
        Database::Postgres => {
            let check = "ALTER TABLE client ADD CONSTRAINT broken CHECK (email IS NULL)";
            PgConnection::establish(&db.url)
                .expect("the database")
                .batch_execute(&format!("DELETE FROM client; {check}"))
                .expect("a constraint");
        }
    }
}

async fn logs_at(kind: Database, level: &str) -> (Vec<Value>, String, Vec<String>) {
    let db = TestDb::new(kind);
    let binary = env!("CARGO_BIN_EXE_fanfare");
    let faults = ["--token", TOKEN, "--error-rate", "0.4", "--drop-rate", "0.2", "--seed", "1"];
    let provider = Provider::start(binary, db.dir(), &faults).await;
    let env = [
        ("DATABASE_URL", db.url.as_str()),
        ("API_KEY", KEY),
        ("PROVIDER_BASE_URL", &provider.base),
        ("PROVIDER_TOKEN", TOKEN),
        ("RETRY_FIRST_DELAY", "20ms"),
        ("RETRY_LIMIT", "20"),
        ("RETRY_FACTOR", "1"),
        ("LOG_LEVEL", level),
    ];
    let mut server =
        Server::start(&Launch { binary, dir: db.dir(), name: "serve", env: &env, limit: Limit::None }).await;
    let http = fanfare::egress::client().expect("a client");
    let mut caller = Caller { base: server.base.clone(), http, ids: Vec::new() };
    use_every_feature(&mut caller, &db, kind).await;
    server.process.terminate();
    assert!(server.process.ended().await.success());
    let (log, other) = (server.process.log(), provider.process.log());
    let lines = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let mut all = log;
    all.push_str(&other);
    (lines, all, caller.ids)
}

fn assert_no_private_data(log: &str) {
    for planted in PLANTED {
        let line = log.lines().find(|line| line.contains(planted));
        assert!(line.is_none(), "`{planted}` is in the log: {}", line.unwrap_or_default());
    }
    if let Some(password) = std::env::var("TEST_POSTGRES_URL")
        .ok()
        .and_then(|url| Some(url.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_owned()))
    {
        assert!(!log.contains(&password), "the database's password is in the log");
    }
}

on_each_database! {
    async fn each_request_is_logged_once_with_its_id_and_without_private_data(kind: Database) {
        let (lines, log, ids) = logs_at(kind, "").await;
        assert_no_private_data(&log);
        for line in &lines {
            for field in ["timestamp", "level", "message"] {
                assert!(line[field].is_string(), "{field}: {line}");
            }
        }
        assert!(ids.len() > 15);
        for id in &ids {
            let found: Vec<&Value> = lines.iter().filter(|line| line.to_string().contains(id.as_str())).collect();
            assert_eq!(found.len(), 1, "request {id}: {found:#?}");
            assert!(found[0]["status"].as_u64().is_some_and(|status| (200..600).contains(&status)), "{}", found[0]);
            assert!(found[0]["span"]["method"].is_string() && found[0]["span"]["route"].is_string(), "{}", found[0]);
        }
        let failed: Vec<&Value> = lines.iter().filter(|line| line["status"] == 500).collect();
        assert_eq!(failed.len(), 1, "{failed:#?}");
        assert_eq!(failed[0]["level"], "ERROR");
        assert!(failed[0]["error"].as_str().is_some_and(|error| error.contains("broken")), "its cause: {}", failed[0]);
    }
}

on_each_database! {
    async fn no_private_data_is_logged_at_the_finest_level(kind: Database) {
        let (lines, log, _) = logs_at(kind, "trace").await;
        assert!(lines.len() > 100, "the level had no effect");
        assert_no_private_data(&log);
    }
}
