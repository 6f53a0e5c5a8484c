//! Query parameters: unknown ones are refused everywhere, and `dry_run` stores and sends nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{ask, fields, request, send};
use crate::on_each_database;
use crate::support::{Service, after};

/// Returns the method, an example path and the query parameters of each documented operation.
async fn operations(service: &Service) -> Vec<(String, String, Vec<String>)> {
    let document = service.get("/openapi.json").await;
    let mut operations = Vec::new();
    for (pattern, methods) in document["paths"].as_object().expect("paths") {
        let path: Vec<&str> =
            pattern.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for (method, operation) in methods.as_object().expect("methods") {
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let taken = parameters.iter().filter(|parameter| parameter["in"] == "query");
            let taken = taken.map(|parameter| parameter["name"].as_str().expect("a name").to_owned());
            operations.push((method.to_uppercase(), path.join("/"), taken.collect()));
        }
    }
    operations
}

on_each_database! {
    async fn unknown_and_repeated_parameters_are_refused_at_every_operation(kind: Database) {
        let service = Service::start(kind).await;
        let operations = operations(&service).await;
        assert!(operations.len() > 100, "{}", operations.len());
        for (method, path, taken) in operations {
            let ask = |method: &str, query: &str| {
                let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
                send(service.http.request(method, format!("{}{path}?{query}", service.base)))
            };
            let refused = ask(&method, "bogus=1").await;
            assert_eq!(refused.status, 422, "{method} {path}: {}", refused.text);
            assert_eq!(fields(&refused.problem(422)), ["bogus"], "{method} {path}");
            if method == "GET" {
                assert_eq!(ask("HEAD", "bogus=1").await.status, 422, "{path}");
            }
            for name in taken {
                let refused = ask(&method, &format!("{name}=1&{name}=2")).await;
                assert_eq!(refused.status, 422, "{method} {path} {name}: {}", refused.text);
                assert_eq!(fields(&refused.problem(422)), [name], "{method} {path}");
            }
        }
    }
}

on_each_database! {
    async fn control_characters_in_paths_and_queries_are_refused(kind: Database) {
        let service = Service::start(kind).await;
        for (path, field) in [
            ("/events/a%00b", "id"),
            ("/clients/a%00b", "id"),
            ("/credentials/%1b", "name"),
            ("/inbox/a%00b", "user_id"),
            ("/clients?tag=a%00b", "tag"),
            ("/notifications?channel=in_app&recipient=%00", "recipient"),
        ] {
            assert_eq!(fields(&ask(&service, "GET", path, None).await.problem(422)), [field], "{path}");
        }
    }
}

/// Returns the contents of all lists, without the time of the statistics.
async fn lists(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for path in [
        "/mailings",
        "/notifications",
        "/events",
        "/requests",
        "/requests/recurring",
        "/clients",
        "/templates",
        "/routes",
        "/messages",
        "/dead-letters/replays",
    ] {
        all.push(service.get(path).await);
    }
    all
}

on_each_database! {
    async fn a_dry_run_validates_and_shows_and_stores_nothing(kind: Database) {
        let service = Service::start_with(kind, &[("egress.allow", "127.0.0.1")]).await;
        service.post("/clients", json!({"phone_number": "79030000001", "external_id": "c-1"})).await;
        service.post("/templates", json!({"name": "hello", "channel": "sms", "text": "Hello {{ payload.n }}"})).await;
        service.post("/routes", json!({"event": "order.*", "deliveries": [{"channel": "sms", "template": "hello"}]})).await;
        let event = json!({"event": "order.paid", "user_target": "c-1", "payload": {"n": 1}, "id": "e-1"});
        let note = json!({"channel": "sms", "recipient": "79030000002", "content": "hi"});
        let url = "https://example.com/x";
        let before = lists(&service).await;
        let dry = |path: &'static str, body: Value| {
            let service = &service;
            async move {
                // a dry run neither uses up nor looks up a key
                let ask = || send(request(service, "POST", &format!("{path}?dry_run=true")).header("idempotency-key", "k").json(&body));
                ask().await.success(200);
                ask().await.success(200)
            }
        };
        let preview = dry("/mailings", json!({"text": "sale", "ends_at": after(Duration::from_secs(60))})).await;
        assert_eq!((&preview["recipients"], &preview["sample"][0]["text"]), (&json!(1), &json!("sale")));
        assert_eq!(dry("/notifications", note.clone()).await["recipient"], "+79030000002");
        assert_eq!(dry("/notifications/batch", json!({"notifications": [note]})).await["accepted"], 1);
        let planned = dry("/events", event.clone()).await;
        assert_eq!((&planned["dry_run"], &planned["notifications"][0]["content"]), (&json!(true), &json!("Hello 1")));
        let planned = dry("/events/batch", json!({"events": [event, {"event": "order.paid", "user_target": 7}]})).await;
        assert_eq!((&planned["accepted"], &planned["rejected"]), (&json!(1), &json!(1)));
        assert_eq!(planned["items"][0]["notifications"], 1);
        assert_eq!(dry("/requests", json!({"request": {"verb": "GET", "url": url}})).await["request"]["url"], url);
        let recurring = json!({"request": {"verb": "GET", "url": url}, "cron": "0 0 * * *"});
        assert_eq!(dry("/requests", recurring).await["cron"], "0 0 * * *");
        assert_eq!(dry("/clients", json!({"phone_number": "79030000003"})).await["phone_number"], "79030000003");
        assert_eq!(dry("/templates", json!({"name": "other", "channel": "sms", "text": "x"})).await["name"], "other");
        let route = json!({"event": "x.*", "deliveries": [{"channel": "sms", "template": "hello"}]});
        assert_eq!(dry("/routes", route).await["event"], "x.*");
        assert_eq!(dry("/dead-letters/replays", json!({"filter": {}})).await["status"], "running");
        assert_eq!(dry("/dead-letters/drop", json!({"filter": {}})).await["dropped"], 0);
        assert_eq!(dry("/webhook-endpoints", json!({"url": "https://a.example/"})).await["url"], "https://a.example/");
        assert_eq!(dry("/channels/sms/test", json!({"recipient": "79030000002"})).await["channel"], "sms");
        for (path, body) in [
            ("main", json!({"id": "m", "action": "log", "created": "2026-01-11T10:00:00Z"})),
            ("events", json!({"event": "order.paid", "user_target": "c-1", "payload": {"n": 1}})),
            ("notification", json!({"channel": "sms", "recipient": "79030000002", "content": "hi"})),
            ("notification/asynchronous", json!({"channel": "sms", "recipient": "79030000002", "content": "hi"})),
        ] {
            let url = format!("{}/{path}?dry_run=true", service.base);
            send(service.http.post(url).json(&body)).await.success(200);
        }
        assert_eq!(lists(&service).await, before);
    }
}

on_each_database! {
    async fn a_dry_run_is_refused_as_the_request_itself_would_be(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79030000001"})).await;
        service.post("/templates", json!({"name": "hello", "channel": "sms", "text": "Hello"})).await;
        for (path, body, status) in [
            ("/clients", json!({"phone_number": "79030000001"}), 409),
            ("/clients", json!({"phone_number": "1"}), 422),
            ("/templates", json!({"name": "hello", "channel": "sms", "text": "x"}), 409),
            ("/mailings", json!({"text": "x", "ends_at": "2020-01-01T00:00:00Z"}), 422),
            ("/mailings", json!({"text": "{{ nobody_has_this }}", "ends_at": after(Duration::from_secs(60))}), 422),
            ("/events", json!({"event": "order.paid"}), 422),
            ("/routes", json!({"event": "x", "deliveries": [{"channel": "sms", "template": "none"}]}), 422),
            ("/requests", json!({"request": {"verb": "GET", "url": "nowhere"}}), 422),
        ] {
            let answer = ask(&service, "POST", &format!("{path}?dry_run=true"), Some(body.clone())).await;
            assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
            answer.problem(status);
        }
        for path in ["/clients?dry_run=yes", "/mailings?dry_run="] {
            assert_eq!(fields(&ask(&service, "POST", path, Some(json!({}))).await.problem(422)), ["dry_run"]);
        }
    }
}
