//! The worked examples of docs/requests-examples.md: its commands verbatim, against stand-ins that check requests by
//! Google's and Discord's documentation.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use serde_json::{Value, json};

use crate::channels::peer::Peer;
use crate::on_each_database;
use crate::support::api::LOOK;
use crate::support::listener::Listener;
use crate::support::{Service, after};

const PAGE: &str = include_str!("../../docs/requests-examples.md");

/// The key that encrypts credentials in these tests.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Returns the code blocks of a language, in the page's order.
fn code(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let pieces = PAGE.split(fence.as_str()).skip(1);
    pieces.map(|rest| rest.split_once("```").expect("an end of the code").0).collect()
}

/// Returns the request that a command would post: the path under the API's root, and the body as the shell reads it.
fn posted(command: &str, dir: &Path) -> (String, Value) {
    // the shell parses the command, so the test sees the arguments that curl gets
    let script = format!("curl() {{ for a; do printf '%s\\0' \"$a\"; done; }}\n{command}");
    let run = Command::new("sh").args(["-c", &script]).current_dir(dir).output().expect("a shell");
    assert!(run.status.success() && run.stderr.is_empty(), "{command}: {run:?}");
    let said = String::from_utf8(run.stdout).expect("a text");
    let words: Vec<&str> = said.split('\0').collect();
    let ["-X", "POST", url, "-H", "Content-Type: application/json", "-d", body, ""] = words[..] else {
        panic!("not a command that this test knows: {words:?}");
    };
    let path = url.strip_prefix("http://127.0.0.1:8083/api/v1").expect("a path of the API");
    (path.to_owned(), serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {body}")))
}

/// Returns the page's request whose URL begins with `begins`, with another URL, a report to the listener and an early
/// time.
fn request(begins: &str, url: impl Fn(&str) -> String, results: &Listener) -> (Value, String) {
    let nowhere = std::env::temp_dir();
    let requests = code("sh").into_iter().filter(|command| command.contains("/requests "));
    let mut found = requests
        .map(|command| posted(command, &nowhere).1)
        .filter(|body| body["request"]["url"].as_str().is_some_and(|url| url.starts_with(begins)));
    let mut body = found.next().expect("an example");
    assert_eq!(body["notify"]["request"]["url"], "https://example.com/results");
    body["notify"]["request"]["url"] = json!(format!("{}/results", results.base));
    let there = body["request"]["url"].as_str().expect("a URL").to_owned();
    body["request"]["url"] = json!(url(&there));
    let at = after(Duration::from_millis(300));
    body["execute_at"] = json!(at);
    (body, at)
}

fn time(value: &Value) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339(value.as_str().expect("a time")).expect("a time")
}

/// Posts a request and waits for its end. Returns the request and its report.
async fn ended(service: &Service, body: Value, results: &Listener) -> (Value, Value) {
    let taken = service.post("/requests", body).await;
    let id = taken["id"].as_str().expect("an id").to_owned();
    let is_over = |request: &Value| !request["finished_at"].is_null();
    let ended = service.wait_for(&format!("/requests/{id}"), is_over).await;
    let mut report = None;
    while report.is_none() {
        report = results.arrivals().into_iter().find(|arrival| arrival.json()["id"] == id.as_str());
        tokio::time::sleep(LOOK).await;
    }
    let report = report.expect("a report");
    assert_eq!((report.path.as_str(), report.header("content-type")), ("/results", "application/json"));
    (ended, report.json())
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

async fn service(
    kind: crate::support::Database,
    settings: &[(&'static str, &'static str)],
) -> (Service, Listener) {
    let mut all = vec![("egress.allow", "127.0.0.1")];
    all.extend(settings);
    (Service::start_with(kind, &all).await, Listener::start(|_, _| 200_u16).expect("a listener"))
}

on_each_database! {
    async fn a_message_goes_out_through_firebase_as_the_page_shows_it(kind: Database) {
        let (service, results) = service(kind, &[("credentials.key", KEY)]).await;
        let mut google = Peer::python("fcm.py", &[]);
        let ready: Value = serde_json::from_str(&google.ready).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let key = serde_json::to_string_pretty(&ready["service_account"]).unwrap();
        std::fs::write(dir.path().join("service-account.json"), key).unwrap();

        let (path, credential) = posted(code("sh")[0], dir.path());
        assert_eq!(path, "/credentials");
        let kept = service.post(&path, credential).await;
        assert_eq!((&kept["name"], &kept["kind"]), (&json!("firebase"), &json!("google_service_account")));
        assert!(!kept.to_string().contains("PRIVATE KEY"), "{kept}");

        let base = ready["base"].as_str().unwrap();
        let url = |url: &str| url.replace("https://fcm.googleapis.com", base).replace("shop-1234", "demo-project");
        let (mut body, at) = request("https://fcm.googleapis.com/", url, &results);
        let message = body["request"]["body"].clone();
        let (sent, report) = ended(&service, body.clone(), &results).await;
        assert_eq!((&sent["status"], &sent["attempt_count"]), (&json!("sent"), &json!(1)), "{sent}");
        assert!(time(&sent["executed_at"]) >= time(&json!(at)), "{sent}");
        let token: Value = serde_json::from_str(&google.line()).unwrap();
        assert_eq!(token["token"], 1, "{token}");
        let sent: Value = serde_json::from_str(&google.line()).unwrap();
        assert_eq!(sent, json!({"sent": message, "bearer": "ya29.token-1"}));

        // the report matches the page
        let shown: Value = serde_json::from_str(code("json")[0]).unwrap();
        assert_eq!((names(&report), names(&report["response"])), (names(&shown), names(&shown["response"])));
        for field in ["status", "attempts", "error"] {
            assert_eq!(report[field], shown[field], "{report}");
        }
        let answer = report["response"]["body"].as_str().unwrap();
        assert_eq!(answer.replace("demo-project", "shop-1234"), shown["response"]["body"].as_str().unwrap());
        assert_eq!(report["response"]["headers"]["content-type"], shown["response"]["headers"]["content-type"]);

        // a dead device is not retried
        body["request"]["body"]["message"]["token"] = json!("unregistered");
        let (failed, report) = ended(&service, body, &results).await;
        assert_eq!((&failed["status"], &failed["attempt_count"]), (&json!("failed"), &json!(1)), "{failed}");
        assert_eq!((&report["status"], &report["response"]["status"]), (&json!("failed"), &json!(404)));
        assert!(report["response"]["body"].as_str().unwrap().contains("UNREGISTERED"), "{report}");
        let sent: Value = serde_json::from_str(&google.line()).unwrap();
        assert_eq!(sent["bearer"], "ya29.token-1", "the token is kept");
    }
}

on_each_database! {
    async fn a_message_is_posted_to_discord_as_the_page_shows_it(kind: Database) {
        let (service, results) = service(kind, &[]).await;
        let mut discord = Peer::python("discord.py", &[]);
        let there = format!("http://{}", discord.ready);
        let at_webhook = |id: &'static str| {
            let there = there.clone();
            move |url: &str| {
                url.replace("https://discord.com", &there).replace("WEBHOOK_ID", id).replace("WEBHOOK_TOKEN", "token")
            }
        };
        let (body, _) = request("https://discord.com/", at_webhook("1"), &results);
        let message = body["request"]["body"].clone();
        let (sent, report) = ended(&service, body, &results).await;
        assert_eq!((&sent["status"], &sent["attempt_count"]), (&json!("sent"), &json!(1)), "{sent}");
        let answer: Value = serde_json::from_str(report["response"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(answer["id"], "1200000000000000000", "{report}");
        let line = discord.line();
        let taken: Value = serde_json::from_str(line.strip_prefix("ok 1 ").expect("a message that was taken")).unwrap();
        assert_eq!(taken, message);

        // a wait of one second that the server asks for is respected
        let (body, _) = request("https://discord.com/", at_webhook("limited"), &results);
        let (later, report) = ended(&service, body, &results).await;
        assert_eq!((&later["status"], &later["attempt_count"]), (&json!("sent"), &json!(2)), "{later}");
        assert_eq!((&report["attempts"], &report["response"]["status"]), (&json!(2), &json!(200)), "{report}");
        let first = &later["attempts"][0];
        assert_eq!((&first["status_code"], &first["outcome"]), (&json!(429), &json!("retry")), "{later}");
        assert!(time(&later["executed_at"]) - time(&first["at"]) >= chrono::TimeDelta::seconds(1), "{later}");
        assert_eq!(discord.line(), "ok limited limited");
        assert!(discord.line().starts_with("ok limited {"));

        // a deleted webhook gets one request
        let (body, _) = request("https://discord.com/", at_webhook("unknown"), &results);
        let (gone, report) = ended(&service, body, &results).await;
        assert_eq!((&gone["status"], &gone["attempt_count"]), (&json!("failed"), &json!(1)), "{gone}");
        assert!(report["response"]["body"].as_str().unwrap().contains("10015"), "{report}");
        assert_eq!(discord.line(), "bad unknown");
    }
}
