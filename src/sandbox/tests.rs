//! The sandbox as its clients see it, and the counts that it keeps.

mod faults;
mod notify;

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const ID: &str = "0198c2d0-0000-7000-8000-000000000001";

#[expect(clippy::disallowed_methods, reason = "the rule is for the service: the tests stand outside")]
fn client() -> reqwest::Client {
    // The first test installs it; for the others it is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn with(faults: Faults) -> Sandbox {
    Sandbox::start(SandboxArgs { faults, ..SandboxArgs::on_free_port() }).unwrap()
}

async fn send(sandbox: &Sandbox, client: &reqwest::Client, id: &str) -> reqwest::Result<Response> {
    let body = json!({"id": id, "phone": 79_031_234_567_u64, "text": "Здравствуйте"});
    let url = format!("{}/v1/send/{id}", sandbox.base_url());
    client.post(url).header("Idempotency-Key", id).json(&body).send().await
}

fn log_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_received_and_answered_as_documented() {
    let sandbox = with(Faults::default());
    let answer = send(&sandbox, &client(), ID).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"code": 0, "message": "OK"}));
    let stats = sandbox.stats();
    assert_eq!((stats.requests, stats.received, stats.distinct, stats.repeats), (1, 1, 1, 0));
    assert!(stats.first_at.is_some() && stats.first_at == stats.last_at);
    sandbox.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_not_received() {
    let sandbox = with(Faults::default());
    let client = client();
    let url = format!("{}/v1/send/{ID}", sandbox.base_url());
    let wrong = [
        String::new(),
        "{}".to_owned(),
        format!(r#"{{"id":"{ID}","phone":79031234567}}"#),
        format!(r#"{{"id":"{ID}","phone":"79031234567","text":"x"}}"#),
        format!(r#"{{"id":"{ID}","phone":-1,"text":"x"}}"#),
        r#"{"id":"another","phone":79031234567,"text":"x"}"#.to_owned(),
        format!(r#"{{"id":"{ID}","phone":79031234567,"text":"{}"}}"#, "x".repeat(3_000_000)),
    ];
    for body in &wrong {
        let answer = client.post(&url).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["code"], 1);
        assert!(answer["message"].as_str().is_some_and(|message| message.len() > 5), "{answer}");
    }
    let stats = sandbox.stats();
    assert_eq!((stats.requests, stats.received), (7, 0));
    assert_eq!(stats.by_status.rejected, 7);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_a_401() {
    let token = Some(SecretString::from("secret"));
    let sandbox = Sandbox::start(SandboxArgs { token, ..SandboxArgs::on_free_port() }).unwrap();
    let client = client();
    let answer = send(&sandbox, &client, ID).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], 401);
    let url = format!("{}/v1/send/{ID}", sandbox.base_url());
    let body = json!({"id": ID, "phone": 1, "text": "x"});
    for (token, status) in [("wrong", StatusCode::UNAUTHORIZED), ("secret", StatusCode::OK)] {
        let answer = client.post(&url).bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
    let stats = sandbox.stats();
    assert_eq!((stats.by_status.unauthorized, stats.received), (2, 1));
    sandbox.stop().await;
}

#[tokio::test]
async fn the_log_has_every_line_before_its_answer() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let sandbox =
        Sandbox::start(SandboxArgs { log: Some(log.clone()), ..SandboxArgs::on_free_port() }).unwrap();
    let client = client();
    for answered in 1..=50 {
        send(&sandbox, &client, &format!("m-{answered}")).await.unwrap();
        assert_eq!(log_lines(&log).len(), answered);
    }
    let url = format!("{}/v1/send/bad", sandbox.base_url());
    client.post(url).body("no JSON").send().await.unwrap();
    let lines = log_lines(&log);
    let first = &lines[0];
    assert_eq!(
        (&first["id"], &first["key"], &first["outcome"]),
        (&json!("m-1"), &json!("m-1"), &json!("received"))
    );
    assert_eq!(first["phone"], 79_031_234_567_u64);
    assert_eq!(first["at_us"].as_u64().map(|at| at / 1000), sandbox.stats().first_at);
    assert_eq!(first.as_object().unwrap().len(), 5, "the text must not be in the log");
    assert_eq!((&lines[50]["outcome"], &lines[50]["phone"]), (&json!("rejected"), &Value::Null));
    sandbox.stop().await;
}

#[tokio::test]
async fn faults_are_read_and_replaced_over_http() {
    let sandbox = with(Faults::default());
    let client = client();
    let faults = format!("{}/faults", sandbox.base_url());
    let put = |body: &'static str| client.put(&faults).body(body).send();

    let answer = put(r#"{"latency":"5ms","error_rate":0.5,"rate_limit":9}"#).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let set = sandbox.faults();
    let rate_limit = std::num::NonZeroU32::new(9);
    let latency = Duration::from_millis(5);
    assert_eq!(set, Faults { latency, error_rate: 0.5, rate_limit, ..Faults::default() });
    for wrong in [r#"{"eror_rate":1}"#, r#"{"error_rate":2}"#, r#"{"latency":5}"#, r#"{"rate_limit":0}"#, "x"]
    {
        assert_eq!(put(wrong).await.unwrap().status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    let told: Faults = client.get(&faults).send().await.unwrap().json().await.unwrap();
    assert_eq!((told, sandbox.faults()), (set, set));
    // An absent fault stops.
    put("{}").await.unwrap();
    assert_eq!(sandbox.faults(), Faults::default());
    sandbox.stop().await;
}

#[tokio::test]
async fn stats_are_read_and_reset_over_http() {
    let sandbox = with(Faults::default());
    let client = client();
    send(&sandbox, &client, ID).await.unwrap();
    let stats = format!("{}/stats", sandbox.base_url());
    let told: Value = client.get(&stats).send().await.unwrap().json().await.unwrap();
    assert_eq!(told, serde_json::to_value(sandbox.stats()).unwrap());
    assert_eq!((&told["received"], &told["by_status"]["200"]), (&json!(1), &json!(1)));
    assert_eq!(client.delete(&stats).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(sandbox.stats(), Stats::default());
    for path in ["/", "/health"] {
        let url = format!("{}{path}", sandbox.base_url());
        assert_eq!(client.get(url).send().await.unwrap().status(), StatusCode::OK);
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn what_is_not_its_api_is_not_counted() {
    let sandbox = with(Faults::default());
    let client = client();
    for (method, path, status) in [
        ("GET", "/v1/send/x", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/v1/send/", StatusCode::NOT_FOUND),
        ("POST", "/v1/send/x/y", StatusCode::NOT_FOUND),
        ("POST", "/v2/send/x", StatusCode::NOT_FOUND),
        ("GET", "/v1/notify/x", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/v1/notify/", StatusCode::NOT_FOUND),
        ("POST", "/v1/notify/x/y", StatusCode::NOT_FOUND),
        ("POST", "/stats", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let url = format!("{}{path}", sandbox.base_url());
        let answer = client.request(method.parse().unwrap(), url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
    }
    assert_eq!(sandbox.stats(), Stats::default());
    // An id may need escaping in the path, and stays the same id.
    assert_eq!(send(&sandbox, &client, "a b").await.unwrap().status(), StatusCode::OK);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_port_file_names_the_address_and_the_port_is_free_after_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("port");
    let args = SandboxArgs { port_file: Some(path.clone()), ..SandboxArgs::on_free_port() };
    let sandbox = Sandbox::start(args).unwrap();
    let addr = sandbox.addr();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), addr.to_string());
    let taken = Sandbox::start(SandboxArgs { listen: addr, ..SandboxArgs::default() }).unwrap_err();
    assert!(taken.to_string().contains(&addr.to_string()), "{taken}");
    // With an open connection: a crash test starts the next sandbox on the same port at once.
    let client = client();
    send(&sandbox, &client, ID).await.unwrap();
    sandbox.stop().await;
    let again = Sandbox::start(SandboxArgs { listen: addr, ..SandboxArgs::default() }).unwrap();
    again.stop().await;
}
