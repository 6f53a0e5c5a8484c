//! Phone numbers in everyday notation on every input path. It runs the real binary because the home country is a
//! setting of the process.

use serde_json::{Value, json};

use crate::on_each_database;
use crate::process::{Launch, Limit, Provider, Server};
use crate::support::TestDb;

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");

async fn start(db: &TestDb, country: &str) -> (Server, Provider) {
    let provider = Provider::start(BINARY, db.dir(), &[]).await;
    let base = provider.base.clone();
    let env = [("DATABASE_URL", db.url.as_str()), ("PROVIDER_BASE_URL", &base), ("DEFAULT_COUNTRY", country)];
    let launch = Launch { binary: BINARY, dir: db.dir(), name: "serve", env: &env, limit: Limit::None };
    (Server::start(&launch).await, provider)
}

/// Sends a number to each input path. Returns the number that each stores, or the reason of its refusal.
async fn on_every_path(server: &Server, text: &str) -> Vec<Result<String, String>> {
    let kept = |(status, answer): (u16, Value), path: &str| match status {
        200..300 => {
            Ok(answer.pointer(path).and_then(Value::as_str).expect("a number").trim_matches('+').to_owned())
        }
        422 => {
            let error = &answer["errors"][0];
            assert!(
                error["field"].as_str().is_some_and(|field| path.ends_with(field) || field == "recipient"),
                "{answer}"
            );
            Err(error["reason"].as_str().expect("a reason").to_owned())
        }
        other => panic!("{text}: {other} {answer}"),
    };
    let client = server.call("POST", "/clients", Some(json!({"phone_number": text}))).await;
    if let Some(id) = client.1["id"].as_str() {
        server.call("DELETE", &format!("/clients/{id}"), None).await;
    }
    let sms = json!({"channel": "sms", "recipient": text, "content": "hello"});
    let notification = server.call("POST", "/notifications", Some(sms)).await;
    let csv = format!("phone_number\n\"{text}\"\n");
    let imported = server.import_csv(csv).await.expect("an import");
    let imported = match imported["rejected"].as_array().expect("a list").first() {
        Some(rejection) => Err(rejection["reason"].as_str().expect("a reason").to_owned()),
        None => {
            let client = server.get("/clients?limit=1").await["items"][0].clone();
            let id = client["id"].as_str().expect("an id");
            server.call("DELETE", &format!("/clients/{id}"), None).await;
            Ok(client["phone_number"].as_str().expect("a number").to_owned())
        }
    };
    vec![kept(client, "/phone_number"), kept(notification, "/recipient"), imported]
}

on_each_database! {
    async fn with_a_home_country_national_numbers_are_accepted_on_every_path(kind: Database) {
        let db = TestDb::new(kind);
        let (server, _provider) = start(&db, "RU").await;
        for text in [
            "+7 (903) 123-45-67", "7 903 123 45 67", "8 (903) 123-45-67", "9031234567", "8\u{a0}903\u{2011}123\u{2013}45 67",
            "007 903 123 45 67", "79031234567.0",
        ] {
            for kept in on_every_path(&server, text).await {
                assert_eq!(kept.as_deref(), Ok("79031234567"), "{text}");
            }
        }
        for text in ["999999999999999", "1234567", "2125550142", "7,90312E+10", "7.90312E+10"] {
            for kept in on_every_path(&server, text).await {
                let why = kept.expect_err(text);
                assert_eq!(why.contains("spreadsheet"), text.contains('E'), "{text}: {why}");
            }
        }
    }
}

on_each_database! {
    async fn without_a_home_country_national_numbers_are_refused(kind: Database) {
        let db = TestDb::new(kind);
        let (server, _provider) = start(&db, "").await;
        for text in ["89031234567", "9031234567", "2125550142", "0151 12345678"] {
            for kept in on_every_path(&server, text).await {
                assert!(kept.expect_err(text).contains("country code"), "{text}");
            }
        }
        for kept in on_every_path(&server, "+49 (0)151 12345678").await {
            assert_eq!(kept.as_deref(), Ok("4915112345678"));
        }
    }
}
