//! Strict parsing of bodies: duplicate keys and control characters are refused, numbers keep their digits, and a key or
//! an id belongs to one request.

use std::time::Duration;

use diesel::RunQueryDsl;
use fanfare::db::AnyConnection;
use serde_json::json;

use crate::api::ask::{Answer, ask, database, fields, request, send};
use crate::on_each_database;
use crate::support::{Service, after};

/// Numbers that no floating-point type can represent exactly.
const LONG: &str = "12345678901234567890123";
const AMOUNT: &str = "123456789012345678.01";

async fn post(service: &Service, path: &str, key: Option<&str>, body: impl Into<String>) -> Answer {
    let mut asked =
        request(service, "POST", path).header("content-type", "application/json").body(body.into());
    if let Some(key) = key {
        asked = asked.header("Idempotency-Key", key);
    }
    send(asked).await
}

async fn with_a_route(kind: crate::support::Database) -> Service {
    let service =
        Service::start_with(kind, &[("events.unknown", "accept"), ("egress.allow", "127.0.0.1")]).await;
    let text = "{{ payload.id }} {{ payload.amount }} {{ payload.yes }}";
    service
        .post("/templates", json!({"name": "paid", "channel": "in_app", "subject": "s", "text": text}))
        .await;
    service
        .post(
            "/routes",
            json!({"event": "order.*", "deliveries": [{"channel": "in_app", "template": "paid"}]}),
        )
        .await;
    service
}

on_each_database! {
    async fn a_duplicate_key_is_refused_at_any_depth(kind: Database) {
        let service = with_a_route(kind).await;
        for (path, body, field) in [
            ("/events", r#"{"event": "order.paid", "user_target": "u", "payload": {"n": 1, "n": 2}}"#, "payload.n"),
            ("/events", r#"{"event": "a", "payload": {"list": [{"x": 1, "x": 1}]}}"#, "payload.list[0].x"),
            ("/events", r#"{"event": "a", "event": "b"}"#, "event"),
            ("/routes/test", r#"{"event": "a", "targets": {"b": "c", "b": "d"}}"#, "targets.b"),
            ("/clients", r#"{"phone_number": "79030000001", "attributes": {"a": 1, "a": 2}}"#, "attributes.a"),
            ("/clients", r#"{"phone_number": "79030000001", "phone_number": "79030000002"}"#, "phone_number"),
            ("/notifications", r#"{"channel": "sms", "recipient": "79030000001", "content": "x", "metadata": {"a": 1, "a": 2}}"#, "metadata.a"),
            ("/notifications", r#"{"channel": "sms", "recipient": "79030000001", "content": "x", "data": {"a": {"b": 1, "b": 2}}}"#, "data.a.b"),
            ("/notifications", r#"{"channel": "in_app", "recipient": "u", "template": "paid", "values": {"a": 1, "\u0061": 2}}"#, "values.a"),
            ("/requests", r#"{"request": {"url": "http://127.0.0.1:9/", "body": {"a": 1, "a": 2}}}"#, "request.body.a"),
            ("/templates/preview", r#"{"channel": "sms", "text": "x", "data": {"a": 1, "a": 2}}"#, "data.a"),
        ] {
            assert_eq!(fields(&post(&service, path, None, body).await.problem(422)), [field], "{path} {body}");
        }
    }
}

on_each_database! {
    async fn an_invalid_item_does_not_affect_its_batch(kind: Database) {
        let service = with_a_route(kind).await;
        service.post("/templates", json!({"name": "hi", "channel": "sms", "text": "{{ name }}"})).await;
        for (path, list, good, bad) in [
            ("/notifications/batch", "notifications",
                r#"{"channel": "sms", "recipient": "79030000001", "template": "hi", "values": {"name": "a"}}"#,
                &[
                    (r#"{"channel": "sms", "recipient": "79030000001", "template": "hi", "values": {"name": "a\u0000b"}}"#, "values.name"),
                    (r#"{"channel": "sms", "recipient": "79030000001", "template": "hi", "values": {"name": "a", "name": "b"}}"#, "values.name"),
                ]),
            ("/events/batch", "events", r#"{"event": "a", "payload": {"n": 1}}"#,
                &[
                    (r#"{"event": "a", "payload": {"n": "\u0007"}}"#, "payload.n"),
                    (r#"{"event": "a", "payload": {"n": 1, "n": 2}}"#, "payload.n"),
                ]),
        ] {
            for (bad, field) in bad {
                let mut items = vec![good; 99];
                items.insert(50, bad);
                let answer = post(&service, path, None, format!("{{\"{list}\": [{}]}}", items.join(","))).await;
                assert!((200..300).contains(&answer.status), "{}", answer.text);
                let answer = answer.json();
                assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(99), &json!(1)), "{answer}");
                let errors = &answer["items"][50]["errors"];
                assert_eq!(errors[0]["field"], *field, "{answer}");
            }
        }
    }
}

on_each_database! {
    async fn control_characters_except_line_breaks_are_refused(kind: Database) {
        let service = with_a_route(kind).await;
        for (path, body, field) in [
            ("/clients", json!({"phone_number": "79030000001", "attributes": {"a": "x\u{0}"}}), "attributes.a"),
            ("/clients", json!({"phone_number": "79030000001", "attributes": {"a": "x\u{85}"}}), "attributes.a"),
            ("/events", json!({"event": "a", "payload": {"k\u{0}": 1}}), "payload.k\u{fffd}"),
            ("/events", json!({"event": "a", "payload": {"k": ["\u{1b}"]}}), "payload.k[0]"),
            ("/notifications", json!({"channel": "in_app", "recipient": "u", "template": "paid", "values": {"payload": {"id": "\u{7f}"}}}), "values.payload.id"),
        ] {
            let answer = ask(&service, "POST", path, Some(body.clone())).await;
            assert_eq!(fields(&answer.problem(422)), [field], "{path} {body}");
        }
        for (path, body) in [
            ("/clients", json!({"phone_number": "79030000001", "attributes": {"a": "x\r\n\ty"}})),
            ("/events", json!({"event": "a", "payload": {"k": "x\r\n\ty"}})),
        ] {
            assert!(ask(&service, "POST", path, Some(body)).await.status < 300, "{path}");
        }
    }
}

on_each_database! {
    async fn numbers_keep_their_digits(kind: Database) {
        let service = with_a_route(kind).await;
        let event = format!(r#"{{"event": "order.paid", "user_target": {{"external_id": "u-1"}}, "payload": {{"id": {LONG}, "amount": {AMOUNT}, "yes": true}}}}"#);
        let shown = post(&service, "/events?dry_run=true", None, event.clone()).await;
        assert!(shown.text.contains(&format!("{LONG} {AMOUNT} true")), "{}", shown.text);
        let sent = send(request(&service, "POST", "/events").header("content-type", "application/json").header("Prefer", "wait=30").body(event)).await;
        let id = sent.success(200)["event_id"].as_str().expect("an id").to_owned();
        let read = send(request(&service, "GET", &format!("/events/{id}"))).await.text;
        assert!(read.contains(&format!("\"id\":{LONG}")) || read.contains(&format!("\"id\": {LONG}")), "{read}");
        assert!(read.contains(AMOUNT), "{read}");
        let attributes = format!(r#"{{"phone_number": "79030000001", "attributes": {{"n": {LONG}, "d": {AMOUNT}, "flag": true}}}}"#);
        let made = post(&service, "/clients", None, attributes).await;
        assert!(made.text.contains(LONG) && made.text.contains(AMOUNT), "{}", made.text);
        let preview = json!({"text": "{{ n }} {{ d }} {{ flag }}", "ends_at": after(Duration::from_secs(600))});
        let preview = ask(&service, "POST", "/mailings?dry_run=true", Some(preview)).await.success(200);
        assert_eq!(preview["sample"][0]["text"], format!("{LONG} {AMOUNT} true"));
        let note = format!(r#"{{"channel": "in_app", "recipient": "u-2", "subject": "s", "content": "x", "data": {{"n": {LONG}}}, "metadata": {{"d": {AMOUNT}}}}}"#);
        let note = post(&service, "/notifications", None, note).await.text;
        assert!(note.contains(LONG) && note.contains(AMOUNT), "{note}");
        let delayed = json!({"request": {"url": "http://127.0.0.1:9/"}, "retry": {"delays": [1.5, 2, "3s"]}, "execute_at": after(Duration::from_secs(600))});
        ask(&service, "POST", "/requests", Some(delayed)).await.success(202);
    }
}

on_each_database! {
    async fn a_number_that_is_too_large_is_refused_where_it_is_used(kind: Database) {
        let service = Service::start(kind).await;
        let body = format!(r#"{{"text": "x", "ends_at": "{}", "rate_per_second": 1e999}}"#, after(Duration::from_secs(600)));
        assert_eq!(fields(&post(&service, "/mailings", None, body).await.problem(422)), ["rate_per_second"]);
    }
}

on_each_database! {
    async fn a_key_of_a_request_with_events_belongs_to_one_body(kind: Database) {
        let service = with_a_route(kind).await;
        let event = |name: &str, n: &str| format!(r#"{{"event": "{name}", "payload": {{"n": {n}}}}}"#);
        for (path, wrap) in [("/events", ("", "")), ("/events/batch", ("{\"events\": [", "]}"))] {
            let ask = |key: &'static str, body: String| {
                let body = format!("{}{body}{}", wrap.0, wrap.1);
                let (service, key) = (&service, format!("{path}{key}"));
                async move { post(service, path, Some(&key), body).await }
            };
            let first = ask("k", event("paid", LONG)).await;
            let again = ask("k", event("paid", LONG)).await;
            assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
            assert_eq!(first.success(202), again.success(202));
            for other in [event("cancelled", LONG), event("paid", "12345678901234567890124")] {
                assert_eq!(fields(&ask("k", other).await.problem(422)), ["Idempotency-Key"]);
            }
            ask("other", event("cancelled", LONG)).await.success(202);
        }
        assert_eq!(service.get("/events").await["items"].as_array().map(Vec::len), Some(4));
        // eight concurrent requests
        let at_once = (0..8).map(|_| post(&service, "/events", Some("at-once"), event("paid", "1")));
        let answers = futures_util::future::join_all(at_once).await;
        assert!(answers.iter().all(|answer| answer.success(202) == answers[0].json()));
        assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);
        // a waiting caller gets the event that its key created
        let waited = request(&service, "POST", "/events").header("Idempotency-Key", "at-once").header("Prefer", "wait=30")
            .header("content-type", "application/json").body(event("paid", "1"));
        let waited = send(waited).await;
        assert_eq!(waited.header("idempotency-replayed"), "true");
        assert_eq!(waited.success(200)["event_id"], answers[0].json()["event_id"]);
    }
}

on_each_database! {
    async fn an_id_belongs_to_one_event_and_namespaces_are_separate(kind: Database) {
        let service = with_a_route(kind).await;
        let event = |n: &str| format!(r#"{{"event": "paid", "id": "m1", "payload": {{"n": {n}}}}}"#);
        let main = |action: &str| {
            let body = json!({"id": "m1", "action": action, "created": "2026-01-11T10:00:00Z"});
            send(service.http.post(format!("{}/main", service.base)).json(&body))
        };
        let action = main("log").await.success(200)["data"].clone();
        assert_eq!(main("log").await.success(200)["data"], action);
        assert_eq!(fields(&main("other").await.problem(422)), ["id"]);
        let first = post(&service, "/events", None, event(LONG)).await.success(202);
        assert_ne!(first["event_id"], action);
        let again = post(&service, "/events", None, event(LONG)).await;
        assert_eq!((again.header("idempotency-replayed"), &again.success(202)), ("true", &first));
        for path in ["/events", "/events?dry_run=true"] {
            let other = post(&service, path, None, event("12345678901234567890124")).await;
            assert_eq!(fields(&other.problem(422)), ["id"], "{path}");
        }
        // an idempotency key is not an event id
        assert_ne!(post(&service, "/events", Some("m1"), event("1").replace("\"id\": \"m1\",", "")).await.success(202)["event_id"], first["event_id"]);
        let batch = format!("{{\"events\": [{}, {}]}}", event(LONG), event("2"));
        let taken = post(&service, "/events/batch", Some("b"), batch.clone()).await.success(202);
        assert_eq!((&taken["accepted"], &taken["rejected"]), (&json!(1), &json!(1)));
        assert_eq!(taken["items"][0]["event_id"], first["event_id"]);
        assert_eq!(taken["items"][1]["errors"][0]["field"], "id");
        let again = post(&service, "/events/batch", Some("b"), batch).await;
        assert_eq!((again.header("idempotency-replayed"), &again.success(202)), ("true", &taken));
        assert_eq!(service.get("/events/m1").await["event_id"], first["event_id"]);
        assert_eq!(service.get("/events").await["items"].as_array().map(Vec::len), Some(3));
        // a refused request does not use up its key
        post(&service, "/events", Some("free"), event("3")).await.problem(422);
        post(&service, "/events", Some("free"), event("3").replace("m1", "m2")).await.success(202);
    }
}

on_each_database! {
    async fn every_creating_post_accepts_an_idempotency_key(kind: Database) {
        let service = with_a_route(kind).await;
        // a token is derived from the request without storing anything; the others change existing resources
        let others = ["create_inbox_token", "import_clients", "run_request", "replay_request"];
        let document = service.get("/openapi.json").await;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            let post = &methods["post"];
            let creates = post["responses"].get("201").is_some() || post["responses"].get("202").is_some();
            let takes_a_key = post["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "Idempotency-Key"));
            let id = post["operationId"].as_str().unwrap_or_default();
            assert!(!creates || takes_a_key || others.contains(&id), "{path}");
        }
        let later = after(Duration::from_secs(600));
        let endpoint = ask(&service, "POST", "/webhook-endpoints", Some(json!({"url": "https://a.example/"}))).await.success(201);
        for (path, body, other) in [
            ("/clients", json!({"phone_number": "79030000001"}), json!({"phone_number": "79030000002"})),
            ("/templates", json!({"name": "a", "channel": "sms", "text": "x"}), json!({"name": "b", "channel": "sms", "text": "x"})),
            ("/routes", json!({"event": "a.*", "deliveries": [{"channel": "in_app", "template": "paid"}]}),
                json!({"event": "b.*", "deliveries": [{"channel": "in_app", "template": "paid"}]})),
            ("/mailings", json!({"text": "x", "ends_at": later}), json!({"text": "y", "ends_at": later})),
            ("/requests", json!({"request": {"url": "http://127.0.0.1:9/a"}}), json!({"request": {"url": "http://127.0.0.1:9/b"}})),
            ("/dead-letters/replays", json!({"filter": {}}), json!({"filter": {"channel": "sms"}})),
            ("/webhook-endpoints", json!({"url": "https://b.example/"}), json!({"url": "https://c.example/"})),
            (&format!("/webhook-endpoints/{}/secret/rotate", endpoint["id"].as_str().expect("an id")), json!(null), json!(null)),
        ] {
            let first = post(&service, path, Some(path), body.to_string()).await;
            let again = post(&service, path, Some(path), body.to_string()).await;
            assert!((200..300).contains(&first.status), "{path}: {}", first.text);
            assert_eq!((first.status, &first.text), (again.status, &again.text), "{path}");
            assert_eq!(first.header("location"), again.header("location"), "{path}");
            assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"), "{path}");
            if body != other {
                assert_eq!(fields(&post(&service, path, Some(path), other.to_string()).await.problem(422)), ["Idempotency-Key"]);
            }
        }
    }
}

#[derive(diesel::QueryableByName)]
struct Kept {
    #[diesel(sql_type = diesel::sql_types::Text)]
    body: String,
}

on_each_database! {
    async fn a_response_with_a_secret_is_stored_encrypted(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"url": "https://a.example/"}).to_string();
        let first = post(&service, "/webhook-endpoints", Some("k"), body.clone()).await.success(201);
        let kept = diesel::sql_query("SELECT body FROM idempotency_key");
        let kept: Vec<Kept> = match database(&service) {
            AnyConnection::Sqlite(mut c) => kept.load(&mut c).expect("rows"),
            AnyConnection::Postgres(mut c) => kept.load(&mut c).expect("rows"),
        };
        let secret = first["secret"].as_str().expect("a secret");
        assert!(kept.len() == 1 && !kept[0].body.contains(secret) && !kept[0].body.contains("a.example"), "{}", kept[0].body);
        assert_eq!(post(&service, "/webhook-endpoints", Some("k"), body).await.success(201), first);
    }
}
