//! Single notifications: accepted, sent, awaited, cancelled, rescheduled and repeated.

mod batches;
mod idempotency;
mod lists;

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{Answer, ask, fields, id_of, request, send, wrong_fields};
use crate::on_each_database;
use crate::support::{Service, after};

const HOUR: Duration = Duration::from_secs(3600);

fn sms(content: &str) -> Value {
    json!({"channel": "sms", "recipient": "+905551234567", "content": content})
}

/// Returns a notification that is due an hour from now.
fn later() -> Value {
    let mut body = sms("later");
    body["scheduled_at"] = json!(after(HOUR));
    body
}

async fn posted(service: &Service, body: Value) -> String {
    id_of(&ask(service, "POST", "/notifications", Some(body)).await.success(201))
}

async fn ended(service: &Service, id: &str) -> Value {
    let over = ["sent", "failed", "expired", "cancelled"];
    let path = format!("/notifications/{id}");
    service.wait_for(&path, |n| over.contains(&n["status"].as_str().expect("a status"))).await
}

/// Sends a POST with a header.
async fn post_with(service: &Service, path: &str, (name, value): (&str, &str), body: &Value) -> Answer {
    send(request(service, "POST", path).header(name, value).json(body)).await
}

on_each_database! {
    async fn a_notification_has_the_documented_form_and_is_sent(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"channel": "sms", "recipient": "+905551234567", "content": "Your order has shipped.", "priority": "high"});
        let answer = post_with(&service, "/notifications", ("X-Idempotency-Key", "order-shipped-42"), &body).await;
        let created = answer.success(201);
        let names: Vec<&str> = created.as_object().expect("an object").keys().map(String::as_str).collect();
        let seed = ["channel", "content", "created_at", "id", "max_retries", "priority", "recipient", "retry_count", "status", "updated_at"];
        assert_eq!(names, seed);
        for (name, value) in [("status", json!("queued")), ("retry_count", json!(0)), ("max_retries", json!(3))] {
            assert_eq!(created[name], value);
        }
        for (name, value) in body.as_object().expect("an object") {
            assert_eq!(&created[name], value);
        }
        let id = id_of(&created);
        assert_eq!(answer.header("location"), format!("/api/v1/notifications/{id}"));
        let sent = ended(&service, &id).await;
        assert_eq!((&sent["status"], sent["attempts"].as_array().map(Vec::len)), (&json!("sent"), Some(1)));
        assert_eq!(sent["attempts"][0]["outcome"], "delivered");
        assert_eq!(service.sandbox.stats().distinct, 1);
        assert_eq!(service.get(&format!("/messages/{id}")).await["status"], "sent");
    }
}

on_each_database! {
    async fn each_channel_that_has_a_provider_delivers(kind: Database) {
        let service = Service::start(kind).await;
        let addresses = [
            ("sms", "+905551234567"), ("email", "user@example.com"), ("push", "device-token"),
            ("discord", "https://discord.com/api/webhooks/1/x"), ("in_app", "user-1"),
        ];
        for (channel, recipient) in addresses {
            let mut body = json!({
                "channel": channel, "recipient": recipient, "content": "hello", "subject": "Greetings",
                "data": {"order": 7}, "metadata": {"mine": [1, 2]},
            });
            if channel == "email" {
                body["html"] = json!("<p>hello</p>");
            }
            let html = body["html"].clone();
            let id = posted(&service, body).await;
            let sent = ended(&service, &id).await;
            assert_eq!((&sent["status"], &sent["channel"]), (&json!("sent"), &json!(channel)), "{sent}");
            assert_eq!((&sent["metadata"], &sent["data"]), (&json!({"mine": [1, 2]}), &json!({"order": 7})));
            assert_eq!(sent["html"], html);
        }
        let webhook = json!({"channel": "webhook", "recipient": "https://example.com/hook", "content": "hello"});
        let problem = ask(&service, "POST", "/notifications", Some(webhook)).await.problem(422);
        assert_eq!(fields(&problem), ["channel"]);
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("WEBHOOK_SECRET")), "{problem}");
    }
}

on_each_database! {
    async fn a_client_provides_the_address_of_the_channel(kind: Database) {
        let service = Service::start(kind).await;
        let client = id_of(&service.post("/clients", json!({"phone_number": "79031234567", "email": "anna@example.com"})).await);
        for (channel, address) in [("sms", "+79031234567"), ("email", "anna@example.com"), ("in_app", client.as_str())] {
            let body = json!({"channel": channel, "client_id": client, "content": "hello"});
            let sent = ended(&service, &posted(&service, body).await).await;
            assert_eq!((&sent["recipient"], &sent["client_id"]), (&json!(address), &json!(client)));
        }
        let body = json!({"channel": "push", "client_id": client, "content": "hello"});
        assert_eq!(wrong_fields(&service, "/notifications", body).await, ["client_id"]);
        let body = json!({"channel": "sms", "client_id": "01a1fd78-dce9-703e-ab9c-ffd64ca17562", "content": "hello"});
        assert_eq!(wrong_fields(&service, "/notifications", body).await, ["client_id"]);
    }
}

on_each_database! {
    async fn a_scheduled_notification_waits_and_is_sent_after_a_restart(kind: Database) {
        let mut service = Service::start(kind).await;
        // the documented example: a time in the past means now
        let past = json!({"channel": "email", "recipient": "user@example.com", "content": "Your weekly digest is ready.", "priority": "normal", "scheduled_at": "2026-03-01T09:00:00Z"});
        assert_eq!(ended(&service, &posted(&service, past).await).await["status"], "sent");
        let id = posted(&service, later()).await;
        let path = format!("/notifications/{id}");
        assert_eq!(service.get(&path).await["status"], "scheduled");
        service.stop().await;
        service.go_on().await;
        assert_eq!(service.get(&path).await["status"], "scheduled");
        let soon = json!({"scheduled_at": after(Duration::from_millis(50)), "priority": "high"});
        let moved = ask(&service, "PATCH", &path, Some(soon)).await.success(200);
        assert_eq!(moved["priority"], "high");
        let sent = ended(&service, &id).await;
        assert_eq!(sent["status"], "sent");
        assert_eq!(ask(&service, "PATCH", &path, Some(json!({"priority": "low"}))).await.problem(409)["status"], 409);
        assert_eq!(service.sandbox.stats().distinct, 2);
    }
}

on_each_database! {
    async fn a_waiting_request_returns_the_outcome_and_others_return_at_once(kind: Database) {
        let service = Service::start(kind).await;
        let answer = post_with(&service, "/notifications", ("Prefer", "wait=30"), &sms("wait")).await;
        assert_eq!(answer.success(200)["status"], "sent");
        assert_eq!(answer.header("preference-applied"), "wait=30");
        let answer = post_with(&service, "/notifications", ("Prefer", "respond-async"), &sms("no")).await;
        assert!(["queued", "processing", "sent"].contains(&answer.success(202)["status"].as_str().expect("a status")));
        let mut body = later();
        let answer = post_with(&service, "/notifications", ("Prefer", "wait=0"), &body).await;
        assert_eq!(answer.success(202)["status"], "scheduled");
        body["content"] = json!("the short paths");
        let root = |path: &str| service.http.post(format!("{}{path}", service.base));
        let sent = send(root("/notification").json(&sms("sync"))).await.success(200);
        assert_eq!(sent["status"], "sent");
        let accepted = send(root("/notification/asynchronous").json(&sms("async"))).await.success(202);
        let read = service.http.get(format!("{}/notification/{}", service.base, id_of(&accepted)));
        assert_eq!(send(read).await.success(200)["id"], accepted["id"]);
    }
}

on_each_database! {
    async fn the_short_path_returns_200_only_for_a_sent_message(kind: Database) {
        let service = Service::start(kind).await;
        let root = |body: &Value| service.http.post(format!("{}/notification", service.base)).json(body);
        let sent = send(root(&sms("well"))).await.success(200);
        assert_eq!(sent["status"], "sent");
        let waits = send(root(&later()).header("Prefer", "wait=0")).await.success(202);
        assert_eq!(waits["status"], "scheduled");

        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let mut body = sms("refused");
        body["retry"] = json!({"delays": ["1ms"]});
        let keyed = || root(&body).header("Idempotency-Key", "refused");
        let (first, again) = (send(keyed()).await, send(keyed()).await);
        let problem = first.problem(502);
        assert_eq!(problem["type"], "/problems/not-sent");
        let seen = service.get(&format!("/notifications/{}", id_of(&problem))).await;
        assert_eq!(seen["status"], "failed");
        assert!(problem["detail"].as_str().is_some_and(|why| why.contains("the provider returned")), "{problem}");
        assert_eq!(first.header("location"), format!("/api/v1/notifications/{}", id_of(&problem)));
        assert_eq!((again.problem(502), again.header("idempotency-replayed")), (problem, "true"));

        body["retry"] = json!({"delays": ["1ms", "1ms", "10s"]});
        body["expires_at"] = json!(after(Duration::from_millis(500)));
        let problem = send(root(&body)).await.problem(504);
        assert_eq!(service.get(&format!("/notifications/{}", id_of(&problem))).await["status"], "expired");
    }
}

on_each_database! {
    async fn a_notifications_own_retry_policy_applies(kind: Database) {
        let service = Service::start(kind).await;
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let mut body = sms("try");
        body["retry"] = json!({"delays": ["1ms", "2ms"]});
        let answer = post_with(&service, "/notifications", ("Prefer", "wait=60"), &body).await.success(200);
        assert_eq!((&answer["status"], &answer["retry_count"], &answer["max_retries"]), (&json!("failed"), &json!(2), &json!(2)));
        let read = service.get(&format!("/notifications/{}", id_of(&answer))).await;
        assert_eq!(read["attempts"].as_array().map(Vec::len), Some(3), "{read}");
        assert_eq!(service.sandbox.stats().requests, 3);
        body["retry"] = json!({"delays": []});
        let answer = post_with(&service, "/notifications", ("Prefer", "wait=60"), &body).await.success(200);
        assert_eq!((&answer["status"], &answer["retry_count"]), (&json!("failed"), &json!(0)));
    }
}

on_each_database! {
    async fn a_notification_that_expires_while_waiting_is_never_sent(kind: Database) {
        let service = Service::start(kind).await;
        // the first attempt fails and the retry is an hour away, but the message expires before
        service.faults(Faults { error_rate: 1.0, ..Faults::default() });
        let mut body = sms("never");
        body["retry"] = json!({"delays": ["1h"]});
        body["expires_at"] = json!(after(2 * HOUR));
        let id = posted(&service, body).await;
        let path = format!("/notifications/{id}");
        let waits = service.wait_for(&path, |n| n["next_retry_at"].is_string()).await;
        assert_eq!((&waits["status"], waits["attempts"].as_array().map(Vec::len)), (&json!("queued"), Some(1)));
        let soon = json!({"expires_at": after(Duration::from_millis(30)), "scheduled_at": after(HOUR)});
        let problem = ask(&service, "PATCH", &path, Some(soon)).await.problem(422);
        assert_eq!(fields(&problem), ["expires_at"], "expires before the scheduled time");
        let id = posted(&service, json!({"channel": "sms", "recipient": "+905551234567", "content": "x", "expires_at": after(Duration::from_millis(300)), "retry": {"delays": ["1ms", "1ms", "10s"]}})).await;
        let over = ended(&service, &id).await;
        assert_eq!(over["status"], "expired", "{over}");
    }
}

on_each_database! {
    async fn a_notification_cancelled_before_its_claim_is_never_sent(kind: Database) {
        let service = Service::start(kind).await;
        let path = format!("/notifications/{}", posted(&service, later()).await);
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        assert_eq!(service.get(&path).await["status"], "cancelled");
        ask(&service, "DELETE", &path, None).await.problem(409);
        let sent = posted(&service, sms("sent")).await;
        ended(&service, &sent).await;
        ask(&service, "DELETE", &format!("/notifications/{sent}"), None).await.problem(409);
        ask(&service, "DELETE", "/notifications/01a1fd78-dce9-703e-ab9c-ffd64ca17562", None).await.problem(404);
        // cancellations race against the claims: a message with 204 is never sent, and every other message is sent once
        let mut racing = Vec::new();
        for _ in 0..20 {
            let batch = json!({"notifications": vec![sms("race"); 50]});
            let answer = service.post("/notifications/batch", batch).await;
            let ids: Vec<String> = answer["items"].as_array().expect("items").iter().map(id_of).collect();
            let cancels = ids.iter().map(|id| {
                let path = format!("/notifications/{id}");
                let service = &service;
                async move { ask(service, "DELETE", &path, None).await.status }
            });
            let answers: Vec<u16> = futures_util::future::join_all(cancels).await;
            racing.extend(ids.into_iter().zip(answers));
        }
        let mut cancelled = 0;
        for (id, status) in &racing {
            let end = ended(&service, id).await;
            let expected = match status { 204 => "cancelled", 409 => "sent", other => panic!("{other}") };
            assert_eq!(end["status"], expected, "{end}");
            cancelled += u64::from(*status == 204);
        }
        let stats = service.sandbox.stats();
        assert_eq!((racing.len(), stats.distinct, stats.requests), (1000, 1001 - cancelled, 1001 - cancelled));
    }
}

on_each_database! {
    async fn invalid_fields_are_named(kind: Database) {
        let service = Service::start(kind).await;
        let good = || sms("x");
        let with = |name: &str, value: Value| {
            let mut body = good();
            body[name] = value;
            body
        };
        let year = Duration::from_secs(400 * 24 * 3600);
        for (body, wrong) in [
            (json!({"channel": "sms", "content": "x"}), vec!["recipient"]),
            (json!({"channel": "fax", "recipient": "1", "content": "x"}), vec!["channel"]),
            (json!({"channel": "sms", "recipient": "abc", "content": ""}), vec!["content", "recipient"]),
            (json!({"channel": "email", "recipient": "+905551234567", "content": "x"}), vec!["recipient"]),
            (with("client_id", json!("01a1fd78-dce9-703e-ab9c-ffd64ca17562")), vec!["client_id"]),
            (with("priority", json!("urgent")), vec!["priority"]),
            (with("scheduled_at", json!("tomorrow")), vec!["scheduled_at"]),
            (with("scheduled_at", json!(after(year))), vec!["scheduled_at"]),
            (with("expires_at", json!("2026-01-01T00:00:00Z")), vec!["expires_at"]),
            (with("retry", json!({"delays": ["soon"]})), vec!["retry.delays"]),
            (with("retry", json!({"delays": ["2d"]})), vec!["retry.delays"]),
            (with("data", json!([1])), vec!["data"]),
            (with("metadata", json!("x".repeat(20_000))), vec!["metadata"]),
            (with("content", json!("nul \0")), vec!["content"]),
            (with("subject", json!("two\nlines")), vec!["subject"]),
            (with("html", json!("<p>")), vec!["html"]),
            (with("colour", json!("red")), vec!["colour"]),
            (with("content", json!(7)), vec!["content"]),
        ] {
            assert_eq!(wrong_fields(&service, "/notifications", body.clone()).await, wrong, "{body}");
        }
        assert_eq!(fields(&ask(&service, "POST", "/notifications?dry_run=maybe", Some(good())).await.problem(422)), ["dry_run"]);
        let shown = ask(&service, "POST", "/notifications?dry_run=true", Some(good())).await.success(200);
        ask(&service, "GET", &format!("/notifications/{}", id_of(&shown)), None).await.problem(404);
        let long = "k".repeat(256);
        for key in ["", long.as_str()] {
            let answer = post_with(&service, "/notifications", ("Idempotency-Key", key), &good()).await;
            assert_eq!(fields(&answer.problem(422)), ["Idempotency-Key"]);
        }
        assert_eq!(service.get("/notifications").await["items"], json!([]), "nothing was accepted");
    }
}
