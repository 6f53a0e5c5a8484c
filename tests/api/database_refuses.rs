//! A database that responds but refuses work: held locks, a full disk, a standby server, lost responses.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::api::ask::{ask, id_of, send};
use crate::support::api::{LOOK, PATIENCE};
use crate::support::proxy::{Proxy, Way};
use crate::support::{Database, Service, after};

/// The longest time until a response.
const ANSWER: Duration = Duration::from_secs(3);

/// Returns calls that change data, and paths that only read.
async fn calls(service: &Service) -> (Vec<(&'static str, String, Option<Value>)>, Vec<String>) {
    service.import(3, "all").await;
    let ends_at = after(Duration::from_secs(3600));
    let client = format!("/clients/{}", id_of(&service.get("/clients").await["items"][0]));
    let later = json!({"text": "x", "starts_at": after(Duration::from_secs(600)), "ends_at": ends_at});
    let mailing = format!("/mailings/{}", id_of(&service.post("/mailings", later.clone()).await));
    let template = json!({"name": "t", "channel": "sms", "text": "x"});
    let scheduled = json!({"channel": "sms", "recipient": "+79031234567", "content": "x",
        "scheduled_at": after(Duration::from_secs(600))});
    let notification = service.post("/notifications", scheduled.clone()).await;
    let notification = format!("/notifications/{}", notification["id"].as_str().expect("an id"));
    let writes = vec![
        ("POST", "/clients".to_owned(), Some(json!({"phone_number": "79031234567"}))),
        ("PUT", client.clone(), Some(json!({"phone_number": "79031234567"}))),
        ("PATCH", client.clone(), Some(json!({"tag": "x"}))),
        ("DELETE", client.clone(), None),
        ("POST", "/mailings".to_owned(), Some(later)),
        ("PATCH", mailing.clone(), Some(json!({"text": "y"}))),
        ("POST", format!("{mailing}/cancel"), None),
        ("DELETE", mailing.clone(), None),
        ("POST", "/notifications".to_owned(), Some(scheduled)),
        ("DELETE", notification.clone(), None),
        ("POST", "/templates".to_owned(), Some(template)),
    ];
    let reads = vec!["/clients".to_owned(), client, mailing, notification, "/messages".to_owned()];
    (writes, reads)
}

/// Checks that each call returns 503 in time, and that no internal error is counted.
async fn assert_unavailable(service: &Service, calls: &[(&str, String, Option<Value>)]) {
    let answers = calls.iter().map(|(method, path, body)| async move {
        let began = Instant::now();
        let answer = ask(service, method, path, body.clone()).await;
        assert!(began.elapsed() < ANSWER, "{method} {path} after {:?}", began.elapsed());
        assert_eq!(answer.problem(503)["type"], "/problems/unavailable", "{method} {path}");
    });
    join_all(answers).await;
}

/// Waits until `/ready` reports this state. Each of its responses must arrive within a second.
async fn wait_until_ready_is(service: &Service, wanted: bool) {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = send(service.http.get(format!("{}/ready", service.base))).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "/ready responded after {:?}", asked.elapsed());
        if (answer.status == 200) == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "/ready does not become {wanted}");
        tokio::time::sleep(LOOK).await;
    }
}

fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).expect("the test server")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_makes_every_operation_return_503_in_time() {
    let service = Service::start(Database::Postgres).await;
    let (writes, reads) = calls(&service).await;
    let mut holder = connect(&service.db.url);
    holder
        .batch_execute(
            "BEGIN; DO $$ DECLARE t record; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
             LOOP EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', t.tablename); END LOOP; END $$",
        )
        .expect("every lock");
    let reads: Vec<_> = reads.into_iter().map(|path| ("GET", path, None)).collect();
    // a few at a time, so that each waits for the lock on its own connection and not for a connection
    for some in writes.chunks(4).chain(reads.chunks(4)) {
        assert_unavailable(&service, some).await;
    }
    holder.batch_execute("ROLLBACK").expect("the end of the locks");
    service.get("/clients").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_every_change_return_503() {
    let service = Service::start(Database::Postgres).await;
    let (writes, reads) = calls(&service).await;
    // PostgreSQL's error when a table cannot grow
    connect(&service.db.url)
        .batch_execute(
            "CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION \
             'konnte Datei nicht erweitern: Auf dem Gerät ist kein Speicherplatz mehr verfügbar' USING ERRCODE = '53100'; END $$; \
             DO $$ DECLARE t record; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP \
             EXECUTE format('CREATE TRIGGER a_full BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT \
             EXECUTE FUNCTION full()', t.tablename); END LOOP; END $$",
        )
        .expect("triggers");
    assert_unavailable(&service, &writes).await;
    for path in reads {
        service.get(&path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_makes_changes_return_503_and_is_not_ready() {
    let service = Service::start(Database::Postgres).await;
    let (writes, _) = calls(&service).await;
    let (head, _) = service.db.url.split_once('?').expect("options");
    let name = head.rsplit_once('/').expect("a database").1.to_owned();
    let mut other = connect(&service.db.url);
    let turn = |to: &str| {
        format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = {to}; SELECT pg_terminate_backend(pid) \
             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    };
    other.batch_execute(&turn("on")).expect("a standby");
    assert_unavailable(&service, &writes).await;
    wait_until_ready_is(&service, false).await;
    other
        .batch_execute(&format!("SET default_transaction_read_only = off; {}", turn("off")))
        .expect("a primary");
    wait_until_ready_is(&service, true).await;
    service.post("/clients", json!({"phone_number": "79031234567"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_refused_in_time_while_another_program_holds_the_sqlite_lock() {
    let service = Service::start(Database::Sqlite).await;
    let (writes, reads) = calls(&service).await;
    let path = service.db.url.strip_prefix("sqlite://").expect("a path");
    let mut holder = SqliteConnection::establish(path).expect("a connection");
    holder.batch_execute("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").expect("the lock");
    assert_unavailable(&service, &writes).await;
    for path in reads {
        service.get(&path).await;
    }
    wait_until_ready_is(&service, false).await;
    holder.batch_execute("ROLLBACK").expect("the end of the lock");
    wait_until_ready_is(&service, true).await;
    // refused changes were not made later
    let clients = service.get("/clients").await["items"].as_array().expect("clients").len();
    assert_eq!(clients, 3);
}

/// Loses the response to a commit: the caller gets "outcome unknown", and a repetition with the same key finds the
/// committed resource.
async fn lose_a_response(way: Way) {
    let service = Service::start(Database::Postgres).await;
    let (proxy, through) = Proxy::before(&service.db.url).await;
    let node = service.beside(&[("database.url", &through), ("node.role", "api")]).await;
    let post = |path: &str, key: &str, body: Value| {
        send(node.http.post(node.url(path)).header("idempotency-key", key).json(&body))
    };
    let body = json!({"channel": "sms", "recipient": "+79031234567", "content": "x",
        "scheduled_at": after(Duration::from_secs(600))});
    for (path, body) in [("/notifications", body), ("/clients", json!({"phone_number": "79031234567"}))] {
        proxy.set(way);
        let answer = post(path, path, body.clone()).await;
        let problem = answer.problem(503);
        assert_eq!(problem["type"], "/problems/outcome-unknown", "{path}: {problem}");
        let done = service.get(path).await["items"].as_array().expect("a list").len();
        assert_eq!(done, 1, "{path}: it was committed");
        proxy.set(Way::Open);
        let began = Instant::now();
        let again = loop {
            let again = post(path, path, body.clone()).await;
            if again.status != 503 {
                break again;
            }
            assert!(began.elapsed() < PATIENCE, "{path}: {}", again.text);
        };
        assert!(again.status < 300, "{path}: {} {}", again.status, again.text);
        let done = service.get(path).await["items"].as_array().expect("a list").len();
        assert_eq!(done, 1, "{path}: it was committed only once");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_is_unknown_when_the_response_to_a_commit_is_missing() {
    lose_a_response(Way::SilentAtCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_is_unknown_when_the_connection_breaks_at_a_commit() {
    lose_a_response(Way::ClosedAtCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_true_while_sessions_are_terminated() {
    let service = Service::start(Database::Postgres).await;
    let (over, url) = (Arc::new(AtomicBool::new(false)), service.db.url.clone());
    let ending = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            let mut other = connect(&url);
            while !over.load(Ordering::Acquire) {
                other
                    .batch_execute(
                        "SELECT pg_terminate_backend(pid), pg_sleep(0.002) FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    )
                    .expect("their end");
            }
        })
    };
    let post = |number: u64| {
        let body = json!({"phone_number": number.to_string()});
        let request =
            service.http.post(service.url("/clients")).header("idempotency-key", number.to_string());
        async move { (number, send(request.json(&body)).await) }
    };
    let callers = (0..24).map(|caller| async move {
        let mut answers = Vec::new();
        for i in 0..20 {
            answers.push(post(79_030_000_000 + caller * 100 + i).await);
        }
        answers
    });
    let answers: Vec<_> = join_all(callers).await.into_iter().flatten().collect();
    over.store(true, Ordering::Release);
    ending.join().expect("a thread");

    let clients = service.wait_for("/clients?limit=1000", |page| page["items"].is_array()).await;
    let stored: HashSet<String> = clients["items"]
        .as_array()
        .expect("clients")
        .iter()
        .map(|client| client["phone_number"].as_str().expect("a number").trim_start_matches('+').to_owned())
        .collect();
    let (mut refused, mut unknown) = (0, 0);
    for (number, answer) in &answers {
        let is_stored = stored.contains(&number.to_string());
        if answer.status == 201 {
            assert!(is_stored, "{number} was accepted but is not stored");
            continue;
        }
        match answer.problem(503)["type"].as_str() {
            Some("/problems/unavailable") => {
                assert!(!is_stored, "{number} was stored, but the response says that nothing was changed");
                refused += 1;
            }
            Some("/problems/outcome-unknown") => unknown += 1,
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(refused + unknown > 0, "sessions were ended while requests ran");
}
