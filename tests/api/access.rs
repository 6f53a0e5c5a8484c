//! Access with the API key.

use fanfare::config::Config;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;

use crate::api::ask::{Answer, send};
use crate::on_each_database;
use crate::support::Service;

const KEY: &str = "correct horse battery staple and so on";

/// Every path that the key protects, including the OpenAPI document and its page.
const CLOSED: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/api/v1/docs"),
    ("GET", "/api/v1/docs/"),
    ("GET", "/api/v1/docs/swagger-ui.css"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/clients"),
    ("POST", "/api/v1/clients"),
    ("POST", "/api/v1/clients/import"),
    ("DELETE", "/api/v1/clients/0198c2d0-0000-7000-8000-000000000001"),
    ("GET", "/api/v1/mailings"),
    ("POST", "/api/v1/mailings"),
    ("POST", "/api/v1/mailings/preview"),
    ("GET", "/api/v1/mailings/stats"),
    ("POST", "/api/v1/mailings/0198c2d0-0000-7000-8000-000000000001/cancel"),
    ("GET", "/api/v1/messages"),
    ("GET", "/nope"),
    ("GET", "/health/"),
    ("GET", "//health"),
    ("GET", "/%68ealth"),
    ("GET", "/metrics/../api/v1/clients"),
    ("OPTIONS", "/api/v1/clients"),
];

async fn call(service: &Service, method: &str, path: &str, authorization: Option<&str>) -> Answer {
    call_by(&service.http, service, (method, path), authorization).await
}

/// Returns an HTTP client with its own source address.
#[expect(clippy::disallowed_methods, reason = "the rule applies to the service, not to its tests")]
fn caller(number: u8) -> reqwest::Client {
    reqwest::Client::builder()
        .local_address(std::net::IpAddr::from([127, 0, 1, number]))
        .no_proxy()
        .build()
        .expect("a client")
}

async fn call_by(
    client: &reqwest::Client,
    service: &Service,
    (method, path): (&str, &str),
    authorization: Option<&str>,
) -> Answer {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = client.request(method, format!("{}{path}", service.base));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    send(request).await
}

on_each_database! {
    async fn without_the_key_only_the_probes_and_the_metrics_respond(kind: Database) {
        let service = Service::start_with(kind, &[("access.api_key", KEY)]).await;
        let wrong = [
            None,
            Some(String::new()),
            Some("Bearer".to_owned()),
            Some("Bearer ".to_owned()),
            Some(KEY.to_owned()),
            Some(format!("Basic {KEY}")),
            Some(format!("Bearer {KEY}x")),
            Some(format!("Bearer {}", &KEY[1..])),
            Some(format!("Bearer {}", KEY.to_uppercase())),
        ];
        for (number, (method, path)) in (1..).zip(CLOSED) {
            // a single caller would be throttled after this many wrong keys
            let caller = caller(number);
            for authorization in &wrong {
                let answer = call_by(&caller, &service, (method, path), authorization.as_deref()).await;
                let problem = answer.problem(401);
                assert_eq!(problem["type"], "/problems/unauthorized", "{method} {path} {authorization:?}");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                assert!(!answer.text.contains(KEY));
            }
        }
        for path in ["/health", "/ready", "/metrics"] {
            assert_eq!(call(&service, "GET", path, None).await.status, 200, "{path}");
        }
        let right = format!("Bearer {KEY}");
        for (method, path) in CLOSED {
            let status = call(&service, method, path, Some(&right)).await.status;
            assert!(status != 401 && status < 500, "{method} {path}: {status}");
        }
        for path in ["/api/v1/clients", "/api/v1/docs/", "/api/v1/openapi.json"] {
            for right in [&right, &format!("bearer {KEY}")] {
                assert_eq!(call(&service, "GET", path, Some(right)).await.status, 200, "{path}");
            }
        }
    }
}

on_each_database! {
    async fn only_a_caller_with_wrong_keys_is_throttled(kind: Database) {
        let service = Service::start_with(kind, &[("access.api_key", KEY)]).await;
        let (guesser, wrong) = (caller(1), format!("Bearer {KEY}x"));
        let mut guesses: FuturesUnordered<_> = (0..60)
            .map(|_| call_by(&guesser, &service, ("GET", "/api/v1/inbox/u1"), Some(&wrong)))
            .collect();
        let refused = loop {
            let answer = guesses.next().await.expect("a refusal after many wrong keys");
            match answer.status {
                401 => {}
                _ => break answer,
            }
        };
        assert_eq!(refused.problem(429)["type"], "/problems/too-many-wrong-keys");
        assert_eq!(refused.header("retry-after"), "60");
        // neither the right key from the same address nor a wrong key from another address waits for the guesses
        let right = format!("Bearer {KEY}");
        call_by(&guesser, &service, ("GET", "/api/v1/clients"), Some(&right)).await.success(200);
        call_by(&caller(2), &service, ("GET", "/api/v1/clients"), Some(&wrong)).await.problem(401);
        assert!(!guesses.is_empty());
    }
}

on_each_database! {
    async fn the_key_may_be_in_a_file(kind: Database) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        std::fs::write(&file, format!("  {KEY}\n")).expect("a file");
        let path = file.to_str().expect("a path");
        let service = Service::start_with(kind, &[("access.api_key_file", path)]).await;
        call(&service, "GET", "/api/v1/clients", None).await.problem(401);
        let list = call(&service, "GET", "/api/v1/clients", Some(&format!("Bearer {KEY}"))).await.success(200);
        assert_eq!(list["next_cursor"], Value::Null);
    }
}

on_each_database! {
    async fn without_a_configured_key_every_caller_is_allowed(kind: Database) {
        let service = Service::start(kind).await;
        for authorization in [None, Some("Bearer whatever")] {
            call(&service, "GET", "/api/v1/clients", authorization).await.success(200);
        }
    }
}

#[test]
fn an_address_other_than_loopback_requires_a_key() {
    for host in ["0.0.0.0", "::", "192.168.1.5", "203.0.113.7"] {
        let error = Config::with(&[("http.host", host)]).expect_err("no key").to_string();
        assert!(error.contains("API_KEY") && error.contains(host), "{error}");
        assert!(Config::with(&[("http.host", host), ("access.api_key", KEY)]).is_ok(), "{host}");
        let repeated = "a".repeat(64);
        for weak in [&KEY[..31], &repeated] {
            let error =
                Config::with(&[("http.host", host), ("access.api_key", weak)]).expect_err("a weak key");
            let error = error.to_string();
            assert!(error.contains("API_KEY") && error.contains("32") && !error.contains(weak), "{error}");
            assert!(Config::with(&[("access.api_key", weak)]).is_ok(), "loopback needs no strong key");
        }
    }
    for host in ["127.0.0.1", "127.8.9.1", "::1"] {
        assert!(Config::with(&[("http.host", host)]).is_ok(), "{host}");
    }
}

#[test]
fn an_unusable_key_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (empty, fine) = (dir.path().join("empty"), dir.path().join("fine"));
    std::fs::write(&empty, "\n").expect("a file");
    std::fs::write(&fine, KEY).expect("a file");
    let (missing, empty, fine) = (dir.path().join("missing"), empty.as_path(), fine.as_path());
    let text = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    for (settings, named) in [
        (vec![("access.api_key", "short".to_owned())], "API_KEY"),
        (vec![("access.api_key", " ".repeat(16))], "API_KEY"),
        (vec![("access.api_key", format!("{KEY}\n"))], "API_KEY"),
        (vec![("access.api_key", "ключ от всех дверей".to_owned())], "API_KEY"),
        (vec![("access.api_key_file", text(&missing))], "API_KEY_FILE"),
        (vec![("access.api_key_file", text(empty))], "API_KEY"),
        (vec![("access.api_key_file", text(fine)), ("access.api_key", KEY.to_owned())], "API_KEY_FILE"),
    ] {
        let borrowed: Vec<(&str, &str)> =
            settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let error = Config::with(&borrowed).expect_err("no usable key").to_string();
        assert!(error.contains(named), "{settings:?}: {error}");
        assert!(!error.contains(KEY), "the key is in the message: {error}");
    }
}
