//! Repeated requests, concurrent or one after the other.

use std::collections::HashSet;
use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::json;

use super::{HOUR, later, post_with, sms};
use crate::api::ask::{ask, fields, id_of, request, send};
use crate::on_each_database;
use crate::support::api::{Api, LOOK};
use crate::support::{Database, Service, after};

on_each_database! {
    async fn a_hundred_equal_concurrent_requests_make_one_notification(kind: Database) {
        let service = Service::start(kind).await;
        let body = sms("once");
        let requests = (0..100).map(|_| post_with(&service, "/notifications", ("Idempotency-Key", "one"), &body));
        let answers = futures_util::future::join_all(requests).await;
        let ids: HashSet<String> = answers.iter().map(|answer| id_of(&answer.success(201))).collect();
        let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
        assert_eq!((ids.len(), replayed), (1, 99));
        assert_eq!(service.get("/notifications").await["items"].as_array().map(Vec::len), Some(1));
        let bodies: HashSet<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        assert_eq!(bodies.len(), 1, "the stored response, byte for byte");
    }
}

on_each_database! {
    async fn a_key_belongs_to_one_request_and_a_refused_request_uses_none(kind: Database) {
        let service = Service::start(kind).await;
        let key = ("Idempotency-Key", "mine");
        let bad = json!({"channel": "sms", "recipient": "x", "content": "x"});
        post_with(&service, "/notifications", key, &bad).await.problem(422);
        post_with(&service, "/notifications", key, &sms("right")).await.success(201);
        let other = post_with(&service, "/notifications", key, &sms("other")).await.problem(422);
        assert_eq!(fields(&other), ["Idempotency-Key"]);
        let spaced = request(&service, "POST", "/notifications").header(key.0, key.1)
            .header("content-type", "application/json")
            .body(r#"{ "content": "right",   "recipient": "+905551234567", "channel": "sms" }"#);
        assert_eq!(send(spaced).await.header("idempotency-replayed"), "true", "requests are compared by their content");
        let batch = json!({"notifications": [sms("a"), sms("b")]});
        let first = post_with(&service, "/notifications/batch", ("Idempotency-Key", "batch"), &batch).await;
        let again = post_with(&service, "/notifications/batch", ("Idempotency-Key", "batch"), &batch).await;
        assert_eq!(first.success(201), again.success(201));
        assert_eq!(again.header("location"), first.header("location"));
    }
}

on_each_database! {
    async fn every_creating_post_accepts_an_idempotency_key(kind: Database) {
        let service = Service::start(kind).await;
        for (path, body) in [
            ("/clients", json!({"phone_number": "79031234567"})),
            ("/mailings", json!({"text": "hello", "filter": "nobody", "ends_at": after(HOUR)})),
        ] {
            let key = ("Idempotency-Key", path);
            let first = post_with(&service, path, key, &body).await;
            let again = post_with(&service, path, key, &body).await;
            assert_eq!(first.success(201), again.success(201), "{path}");
            assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
            assert_eq!(first.header("location"), again.header("location"));
            assert_eq!(service.get(path).await["items"].as_array().map(Vec::len), Some(1), "{path}");
        }
    }
}

on_each_database! {
    async fn a_key_returns_the_stored_response_after_its_resource_was_deleted(kind: Database) {
        let key = ("credentials.key", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=");
        let service = Service::start_with(kind, &[key]).await;
        service.post("/templates", json!({"name": "kept", "channel": "sms", "text": "x"})).await;
        for (path, body) in [
            ("/mailings", json!({"text": "hello", "filter": "nobody", "starts_at": after(HOUR), "ends_at": after(HOUR * 2)})),
            ("/templates", json!({"name": "gone", "channel": "sms", "text": "x"})),
            ("/routes", json!({"event": "gone", "deliveries": [{"channel": "sms", "template": "kept"}]})),
            ("/credentials", json!({"name": "gone", "kind": "bearer", "token": "x"})),
        ] {
            let key = ("Idempotency-Key", path);
            let first = post_with(&service, path, key, &body).await;
            first.success(201);
            let place = first.header("location").trim_start_matches("/api/v1").to_owned();
            assert_eq!(ask(&service, "DELETE", &place, None).await.status, 204, "{place}");
            let again = post_with(&service, path, key, &body).await;
            again.success(201);
            assert_eq!((again.text, again.headers["idempotency-replayed"].to_str().ok()), (first.text, Some("true")), "{path}");
            ask(&service, "GET", &place, None).await.problem(404);
            let other = post_with(&service, path, ("Idempotency-Key", &format!("{path} again")), &body).await;
            other.success(201);
            assert_eq!(other.header("idempotency-replayed"), "", "{path}");
        }
    }
}

on_each_database! {
    async fn a_key_of_a_waiting_request_is_in_progress(kind: Database) {
        let service = Service::start(kind).await;
        service.faults(Faults { hang_rate: 1.0, ..Faults::default() });
        let (key, body) = (("Idempotency-Key", "waits"), sms("slow"));
        let first = send(
            request(&service, "POST", "/notifications").header(key.0, key.1).header("prefer", "wait=3").json(&body),
        );
        let second = async {
            service.wait_for("/notifications", |list| list["items"][0]["status"] == "processing").await;
            let answer = post_with(&service, "/notifications", key, &body).await;
            answer.problem(409);
            assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1));
        };
        let (first, ()) = futures_util::future::join(first, second).await;
        let known = first.success(202);
        let again = post_with(&service, "/notifications", key, &body).await;
        assert_eq!((again.success(202), again.header("idempotency-replayed")), (known, "true"));
    }
}

on_each_database! {
    async fn a_key_outlives_a_restart(kind: Database) {
        let mut service = Service::start(kind).await;
        let (key, body) = (("X-Idempotency-Key", "long"), later());
        let first = post_with(&service, "/notifications", key, &body).await.success(201);
        service.stop().await;
        service.go_on().await;
        assert_eq!(post_with(&service, "/notifications", key, &body).await.success(201), first);
        ask(&service, "DELETE", &format!("/notifications/{}", id_of(&first)), None).await;
        assert_eq!(service.get("/notifications?status=cancelled").await["items"].as_array().map(Vec::len), Some(1));
    }
}

on_each_database! {
    async fn a_repeated_request_gets_its_response_even_when_its_times_are_past(kind: Database) {
        let service = Service::start(kind).await;
        let client = id_of(&service.post("/clients", json!({"phone_number": "79031234567", "attributes": {"name": "Anna"}})).await);
        let times = after(Duration::from_secs(2));
        let single = json!({"channel": "sms", "client_id": client, "content": "x", "expires_at": times});
        let requests = [
            ("/notifications", single.clone()),
            ("/notifications/batch", json!({"notifications": [single.clone()]})),
            ("/mailings", json!({"text": "hello", "filter": "nobody", "ends_at": times})),
        ];
        let mut first = Vec::new();
        for (path, body) in &requests {
            first.push(post_with(&service, path, ("Idempotency-Key", path), body).await.success(201));
        }
        while ask(&service, "POST", "/notifications?dry_run=true", Some(single.clone())).await.status == 200 {
            tokio::time::sleep(LOOK).await;
        }
        for ((path, body), first) in requests.iter().zip(first) {
            let again = post_with(&service, path, ("Idempotency-Key", path), body).await;
            assert_eq!((again.success(201), again.header("idempotency-replayed")), (first, "true"), "{path}");
            post_with(&service, path, ("Idempotency-Key", "new"), body).await.problem(422);
        }
    }
}

/// Keys are stored in the database, so they work on every node.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_requests_at_two_nodes_make_one_notification() {
    let service = Service::start(Database::Postgres).await;
    let other = service.beside(&[]).await;
    let body = sms("once");
    let ask_one = |number: usize| {
        let node: &Api = if number.is_multiple_of(2) { &service } else { &other };
        send(request(node, "POST", "/notifications").header("Idempotency-Key", "one").json(&body))
    };
    let answers = futures_util::future::join_all((0..100).map(ask_one)).await;
    let ids: HashSet<String> = answers.iter().map(|answer| id_of(&answer.success(201))).collect();
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
    assert_eq!((ids.len(), replayed), (1, 99));
    assert_eq!(service.get("/notifications").await["items"].as_array().map(Vec::len), Some(1));
    other.stop().await;
}
