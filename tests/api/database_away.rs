//! A database that becomes unreachable. Only PostgreSQL, because SQLite is a file that this process holds open.

use std::time::Duration;

use diesel::{Connection, PgConnection, RunQueryDsl};
use futures_util::future::join_all;
use serde_json::json;

use crate::api::ask::{ask, id_of, send};
use crate::support::{Database, Service, after};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_requests_fail_with_503_and_never_with_500() {
    let service = Service::start(Database::Postgres).await;
    service.import(3, "all").await;
    let ends_at = after(Duration::from_secs(3600));
    let client = format!("/clients/{}", id_of(&service.get("/clients").await["items"][0]));
    let later = json!({"text": "x", "starts_at": after(Duration::from_secs(600)), "ends_at": ends_at});
    let mailing = format!("/mailings/{}", id_of(&service.post("/mailings", later).await));
    drop_database(&service.db.url);

    let ready = service.http.get(format!("{}/ready", service.base));
    let health = service.http.get(format!("{}/health", service.base));
    let metrics = service.http.get(format!("{}/metrics", service.base));
    let calls = [
        ("GET", "/clients".to_owned(), None),
        ("POST", "/clients".to_owned(), Some(json!({"phone_number": "79031234567"}))),
        ("GET", client.clone(), None),
        ("PUT", client.clone(), Some(json!({"phone_number": "79031234567"}))),
        ("PATCH", client.clone(), Some(json!({"tag": "x"}))),
        ("DELETE", client, None),
        ("GET", "/mailings".to_owned(), None),
        ("POST", "/mailings".to_owned(), Some(json!({"text": "x", "ends_at": ends_at}))),
        ("POST", "/mailings/preview".to_owned(), Some(json!({}))),
        ("GET", "/mailings/stats".to_owned(), None),
        ("GET", mailing.clone(), None),
        ("GET", format!("{mailing}/stats"), None),
        ("GET", format!("{mailing}/messages"), None),
        ("PATCH", mailing.clone(), Some(json!({"text": "y"}))),
        ("POST", format!("{mailing}/pause"), None),
        ("POST", format!("{mailing}/resume"), None),
        ("POST", format!("{mailing}/cancel"), None),
        ("DELETE", mailing, None),
        ("GET", "/messages".to_owned(), None),
        ("GET", "/messages/0198c2d0-0000-7000-8000-000000000001".to_owned(), None),
    ];
    let answers = calls.iter().map(|(method, path, body)| ask(&service, method, path, body.clone()));
    let import =
        crate::api::ask::request(&service, "POST", "/clients/import").header("content-type", "text/csv");
    let import = send(import.body("phone_number\n79031234567\n"));
    let (answers, import, ready, health, metrics) =
        tokio::join!(join_all(answers), import, send(ready), send(health), send(metrics));
    for ((method, path, _), answer) in calls.iter().zip(answers.iter()).chain([(&calls[0], &import)]) {
        let problem = answer.problem(503);
        assert_eq!(problem["type"], "/problems/unavailable", "{method} {path}");
        assert!(!answer.header("retry-after").is_empty(), "{method} {path}");
        for secret in ["postgres", "test_", "127.0.0.1", "password"] {
            assert!(!answer.text.contains(secret), "{method} {path} reveals the database: {}", answer.text);
        }
    }
    let ready = ready.success(503);
    assert_eq!((&ready["status"], &ready["database"]), (&json!("not ready"), &json!(false)));
    assert_eq!(health.status, 200, "the process is alive, and a restart would not help");
    assert_eq!(metrics.status, 200);
    // invalid requests are still refused at once
    ask(&service, "POST", "/clients", Some(json!({"phone_number": "nope"}))).await.problem(422);
}

/// Drops the database despite its connections.
fn drop_database(url: &str) {
    let (address, options) = url.split_once('?').expect("options in the URL");
    let (server, name) = address.rsplit_once('/').expect("a database in the URL");
    let mut connection =
        PgConnection::establish(&format!("{server}/postgres?{options}")).expect("the test server");
    diesel::sql_query(format!("DROP DATABASE {name} WITH (FORCE)"))
        .execute(&mut connection)
        .expect("its end");
}
