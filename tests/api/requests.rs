//! Scheduled requests and the reports of their results.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, ask, fields, id_of, request, send, texts, wrong_fields};
use crate::on_each_database;
use crate::support::listener::{Arrival, Listener, Reply};
use crate::support::{Database, Service, after};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LOCAL: (&str, &str) = ("egress.allow", "127.0.0.0/8");
const SOON: (&str, &str) = ("request.retry_delays", "10ms, 20ms, 30ms");

async fn service(kind: Database) -> Service {
    Service::start_with(kind, &[LOCAL, SOON, ("webhook.secret", SECRET)]).await
}

fn accepting_listener() -> Listener {
    Listener::start(|_, _| 200_u16).expect("a listener")
}

async fn post(service: &Service, body: Value) -> Answer {
    ask(service, "POST", "/requests", Some(body)).await
}

/// Waits until the request has ended and returns it.
async fn ended(service: &Service, id: &str) -> Value {
    service.wait_for(&format!("/requests/{id}"), |seen| !seen["finished_at"].is_null()).await
}

/// Waits until `count` requests have arrived at a path and returns them.
async fn wait_for_arrivals(service: &Service, listener: &Listener, path: &str, count: usize) -> Vec<Arrival> {
    // polls the service, so that the usual timeout applies
    service.wait_for("/channels", |_| listener.at(path).len() >= count).await;
    listener.at(path)
}

on_each_database! {
    async fn the_example_request_runs_and_its_result_is_reported(kind: Database) {
        let (service, listener) = (service(kind).await, Listener::start(|arrival: &Arrival, _| {
            if arrival.path == "/run" { Reply::of(201, "made").with("x-order", "7") } else { Reply::of(200, "") }
        }).expect("a listener"));
        let body = json!({
            "execute_at": "2023-06-17T17:50:00-03:00",
            "notify": {"request": {
                "url": format!("{}/report", listener.base), "timeout": 30,
                "header": {"content-type": "application/json", "teste": "blablabla"}
            }},
            "request": {
                "url": format!("{}/run?x=1", listener.base), "verb": "POST", "timeout": 30,
                "header": {"content-type": "application/json", "teste": "blablabla"},
                "body": {"firebaseToken": "blablabla"}
            }
        });
        let answer = post(&service, body).await;
        let made = answer.success(202);
        let id = id_of(&made);
        assert_eq!(answer.header("location"), format!("/api/v1/requests/{id}"));
        assert_eq!((&made["status"], &made["request"]["body"]["firebaseToken"]), (&json!("queued"), &json!("blablabla")));

        let run = wait_for_arrivals(&service, &listener, "/run", 1).await.pop().expect("a request");
        assert_eq!((run.method.as_str(), run.json()), ("POST", json!({"firebaseToken": "blablabla"})));
        assert_eq!((run.header("teste"), run.header("content-type")), ("blablabla", "application/json"));
        assert_eq!(run.header("idempotency-key"), id);

        let report = wait_for_arrivals(&service, &listener, "/report", 1).await.pop().expect("a report");
        assert_eq!((report.method.as_str(), report.header("teste")), ("POST", "blablabla"));
        let said = report.json();
        assert_eq!((&said["id"], &said["status"], &said["attempts"]), (&json!(id), &json!("sent"), &json!(1)));
        assert_eq!(said["response"]["status"], 201);
        assert_eq!((&said["response"]["body"], &said["response"]["body_encoding"]), (&json!("made"), &json!("utf-8")));
        assert_eq!((&said["response"]["headers"]["x-order"], &said["response"]["truncated"]), (&json!("7"), &json!(false)));
        assert!(said["error"].is_null() && said["executed_at"].is_string() && said["duration_ms"].is_number(), "{said}");
        let secret: fanfare::channels::webhook::Secret = SECRET.parse().expect("a secret");
        let at: i64 = report.header("webhook-timestamp").parse().expect("a time");
        let text = String::from_utf8(report.body.clone()).expect("a text");
        assert_eq!(report.header("webhook-signature"), secret.sign(report.header("webhook-id"), at, &text));
        assert_eq!(report.header("idempotency-key"), report.header("webhook-id"));

        let seen = service
            .wait_for(&format!("/requests/{id}"), |seen| seen["reports"][0]["status"] == "sent")
            .await;
        assert_eq!((&seen["status"], &seen["attempt_count"]), (&json!("sent"), &json!(1)));
        assert_eq!(seen["response"], said["response"]);
        assert_eq!(seen["attempts"][0]["status_code"], 201);
        assert_eq!(seen["reports"][0]["id"], report.header("webhook-id"));
        assert_eq!(texts(&all_pages(&service, "/requests", 1).await, "id"), std::slice::from_ref(&id), "lists do not contain reports");
        ask(&service, "GET", &format!("/requests/{}", report.header("webhook-id")), None).await.problem(404);
        assert!(service.get("/notifications").await["items"].as_array().is_some_and(Vec::is_empty));
    }
}

on_each_database! {
    async fn failures_are_retried_and_the_last_one_is_reported(kind: Database) {
        let service = service(kind).await;
        let listener = Listener::start(|arrival: &Arrival, before| match (arrival.path.as_str(), before) {
            ("/heals", 0) => Reply::from(404),
            ("/heals", 1) => Reply::from(503),
            ("/broken", _) => Reply::of(500, vec![0xff, 0xfe]),
            ("/strict", _) => Reply::from(404),
            ("/report", 0) => Reply::from(502),
            _ => Reply::from(200),
        }).expect("a listener");
        let notify = json!({"request": {"url": format!("{}/report", listener.base)}});
        let of = |path: &str| json!({"request": {"url": format!("{}{path}", listener.base)}, "notify": notify});
        let heals = id_of(&post(&service, of("/heals")).await.success(202));
        let seen = ended(&service, &heals).await;
        assert_eq!((&seen["status"], &seen["attempt_count"]), (&json!("sent"), &json!(3)));
        let statuses: Vec<&Value> = seen["attempts"].as_array().expect("attempts").iter().map(|a| &a["status_code"]).collect();
        assert_eq!(statuses, [404, 503, 200]);
        assert_eq!(listener.at("/heals")[0].method, "GET", "there is no body");

        let broken = id_of(&post(&service, of("/broken")).await.success(202));
        let seen = ended(&service, &broken).await;
        assert_eq!((&seen["status"], &seen["attempt_count"]), (&json!("failed"), &json!(4)));
        let keys: Vec<_> = listener.at("/broken").iter().map(|a| a.header("idempotency-key").to_owned()).collect();
        assert_eq!(keys, vec![broken.clone(); 4]);
        let letter = service.get(&format!("/dead-letters/{broken}")).await;
        assert_eq!((&letter["class"], &letter["channel"]), (&json!("exhausted"), &json!("request")));

        let mut strict = of("/strict");
        strict["retry"] = json!({"on": ["5xx", "429", "timeout"]});
        let strict = id_of(&post(&service, strict).await.success(202));
        assert_eq!(ended(&service, &strict).await["attempt_count"], 1);
        // the first report was refused once and repeated with the same id
        let reports = wait_for_arrivals(&service, &listener, "/report", 4).await;
        assert_eq!(reports[0].header("webhook-id"), reports[1].header("webhook-id"));
        let of_broken = reports.iter().map(Arrival::json).find(|said| said["id"] == broken.as_str()).expect("a report");
        assert_eq!((&of_broken["status"], &of_broken["attempts"]), (&json!("failed"), &json!(4)));
        assert_eq!(of_broken["response"]["body"], STANDARD.encode([0xff, 0xfe]));
        assert_eq!(of_broken["response"]["body_encoding"], "base64");
        assert!(of_broken["error"].as_str().is_some_and(|why| why.contains("500")), "{of_broken}");

        // a replay runs with a full retry schedule and is reported again
        let again = ask(&service, "POST", &format!("/requests/{broken}/replay"), None).await.success(202);
        assert_eq!(again["id"], broken.as_str());
        let seen = service.wait_for(&format!("/requests/{broken}"), |seen| seen["attempt_count"] == 8 && seen["reports"][1]["status"] == "sent").await;
        assert_eq!(seen["status"], "failed");
        ask(&service, "POST", &format!("/requests/{heals}/replay"), None).await.problem(409);
        assert_eq!(all_pages(&service, "/requests?status=failed", 1).await.len(), 2);
        assert_eq!(all_pages(&service, "/requests?status=sent", 10).await.len(), 1);
    }
}

on_each_database! {
    async fn a_waiting_request_can_be_cancelled_or_run_at_once(kind: Database) {
        let (service, listener) = (service(kind).await, accepting_listener());
        let later = |path: &str| json!({
            "execute_at": after(Duration::from_secs(3600)),
            "request": {"url": format!("{}{path}", listener.base), "body": "as it is", "header": {"Content-Type": "text/plain", "authorization": "Bearer planted"}},
            "notify": {"request": {"url": format!("{}/report", listener.base)}}
        });
        let one = post(&service, later("/one")).await;
        assert!(!one.text.contains("planted"), "{}", one.text);
        let one = one.success(202);
        assert_eq!((&one["status"], &one["request"]["verb"]), (&json!("scheduled"), &json!("POST")));
        let two = id_of(&post(&service, later("/two")).await.success(202));
        let one = id_of(&one);
        assert_eq!(texts(&all_pages(&service, "/requests?status=scheduled", 1).await, "id"), [two.clone(), one.clone()]);
        assert_eq!(ask(&service, "DELETE", &format!("/requests/{two}"), None).await.status, 204);
        assert_eq!(service.get(&format!("/requests/{two}")).await["status"], "cancelled");
        for (method, path) in [("DELETE", ""), ("POST", "/run"), ("POST", "/replay")] {
            ask(&service, method, &format!("/requests/{two}{path}"), None).await.problem(409);
        }
        let run = ask(&service, "POST", &format!("/requests/{one}/run"), None).await.success(202);
        assert_eq!(run["id"], one.as_str());
        assert_eq!(ended(&service, &one).await["status"], "sent");
        let came = listener.at("/one");
        assert_eq!((came[0].body.as_slice(), came[0].header("content-type")), (&b"as it is"[..], "text/plain"));
        assert_eq!(came[0].header("authorization"), "Bearer planted");
        ask(&service, "DELETE", &format!("/requests/{one}"), None).await.problem(409);
        assert!(listener.at("/two").is_empty());
        let nobody = uuid::Uuid::now_v7();
        for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/replay")] {
            ask(&service, method, &format!("/requests/{nobody}{path}"), None).await.problem(404);
        }
    }
}

on_each_database! {
    async fn the_end_of_retries_is_respected_and_a_slow_server_may_use_its_timeout(kind: Database) {
        let service = service(kind).await;
        let listener = Listener::start(|arrival: &Arrival, _| match arrival.path.as_str() {
            "/slow" => Reply::from(200).after(Duration::from_secs(20)),
            "/limited" => Reply::from(429).with("retry-after", "3600"),
            _ => Reply::from(200),
        }).expect("a listener");
        let notify = json!({"request": {"url": format!("{}/report", listener.base), "verb": "PUT"}});
        let slow = json!({
            "request": {"url": format!("{}/slow", listener.base), "timeout": 0.05},
            "retry": {"delays": [0.001, "1ms"]}, "notify": notify
        });
        let slow = ended(&service, &id_of(&post(&service, slow).await.success(202))).await;
        assert_eq!((&slow["status"], &slow["attempt_count"]), (&json!("failed"), &json!(3)));
        assert!(slow["response"].is_null(), "{slow}");
        let not_again = json!({
            "request": {"url": format!("{}/slow", listener.base), "timeout": 0.05}, "retry": {"on": ["connection", "5xx"]}
        });
        let not_again = ended(&service, &id_of(&post(&service, not_again).await.success(202))).await;
        assert_eq!((&not_again["status"], &not_again["attempt_count"]), (&json!("failed"), &json!(1)));
        // the server's Retry-After is past the end
        let limited = json!({
            "request": {"url": format!("{}/limited", listener.base)},
            "retry": {"until": after(Duration::from_secs(1800))}, "notify": notify
        });
        let limited = ended(&service, &id_of(&post(&service, limited).await.success(202))).await;
        assert_eq!((&limited["status"], &limited["attempt_count"]), (&json!("expired"), &json!(1)));
        let patient = json!({"request": {"url": format!("{}/limited", listener.base)}});
        let patient = id_of(&post(&service, patient).await.success(202));
        let waits = service.wait_for(&format!("/requests/{patient}"), |seen| seen["attempt_count"] == 1 && seen["status"] == "queued").await;
        let wait = waits["next_attempt_at"].as_str().expect("a time");
        assert!(wait > after(Duration::from_secs(3500)).as_str(), "Retry-After is respected: {waits}");
        let reports = wait_for_arrivals(&service, &listener, "/report", 2).await;
        let mut ends: Vec<String> = reports.iter().map(|r| r.json()["status"].as_str().expect("a status").to_owned()).collect();
        ends.sort();
        assert_eq!((ends, reports[0].method.as_str()), (vec!["expired".to_owned(), "failed".to_owned()], "PUT"));
    }
}

on_each_database! {
    async fn a_request_that_waits_past_its_end_expires_and_is_reported(kind: Database) {
        let listener = accepting_listener();
        let mut service = service(kind).await;
        let body = json!({
            "execute_at": after(Duration::from_millis(600)),
            "request": {"url": format!("{}/run", listener.base)},
            "retry": {"until": after(Duration::from_millis(700))},
            "notify": {"request": {"url": format!("{}/report", listener.base)}}
        });
        let id = id_of(&post(&service, body).await.success(202));
        service.stop().await;
        let end = after(Duration::from_millis(700));
        while after(Duration::ZERO) < end {
            tokio::task::yield_now().await;
        }
        service.go_on().await;
        let report = wait_for_arrivals(&service, &listener, "/report", 1).await;
        assert_eq!((&report[0].json()["id"], &report[0].json()["status"]), (&json!(id), &json!("expired")));
        assert!(report[0].json()["response"].is_null() && listener.at("/run").is_empty());
    }
}

on_each_database! {
    async fn invalid_fields_are_named_and_repeated_requests_make_one(kind: Database) {
        let (service, listener) = (service(kind).await, accepting_listener());
        let url = format!("{}/run", listener.base);
        let wrong = json!({
            "execute_at": "tomorrow",
            "request": {"url": "ftp://example.com", "verb": "CONNECT", "timeout": 301, "header": {"a b": "x", "x": "a\nb", "Host": "x", "y": " z"}},
            "retry": {"on": ["2xx", "5xx"], "delays": [0, "1s", "never"], "until": "x"},
            "notify": {"request": {"url": "https://127.1.2.3:x/", "verb": "GET", "header": {"webhook-id": "1"}}},
            "timezone": "UTC"
        });
        assert_eq!(wrong_fields(&service, "/requests", wrong).await, [
            "execute_at", "notify.request.header", "notify.request.verb", "request.header.Host", "request.header.a b",
            "request.header.x", "request.header.y", "request.timeout", "request.verb", "retry.delays[0]",
            "retry.delays[2]", "retry.on[0]", "retry.until", "timezone",
        ]);
        let wrong = json!({
            "execute_at": "2999-01-01T00:00:00Z", "request": {"url": "http://10.0.0.1/x"},
            "notify": {"request": {"url": "nope"}}
        });
        assert_eq!(wrong_fields(&service, "/requests", wrong).await, ["execute_at", "notify.request.url", "request.url"]);
        for (body, field) in [
            (json!({}), "request"),
            (json!({"request": {}}), "request.url"),
            (json!({"request": {"url": url, "nope": 1}}), "request.nope"),
            (json!({"request": {"url": url}, "nope": 1}), "nope"),
            (json!({"request": {"url": url}, "notify": {"request": {"url": url, "body": 1}}}), "notify.request.body"),
            (json!({"request": {"url": url, "body": "x".repeat(256 * 1024 + 1)}}), "request.body"),
            (json!({"request": {"url": url}, "retry": {"until": "2020-01-01T00:00:00Z"}}), "retry.until"),
        ] {
            assert_eq!(fields(&post(&service, body).await.problem(422)), [field]);
        }
        for path in ["/requests?status=nope", "/requests?recurring_id=x", "/requests?limit=0", "/requests?cursor=x", "/requests?nope=1"] {
            ask(&service, "GET", path, None).await.problem(422);
        }
        let with_key = |body: &Value| request(&service, "POST", "/requests").header("Idempotency-Key", "one").json(body);
        let body = json!({"request": {"url": url, "body": null}});
        let first = send(with_key(&body)).await.success(202);
        let second = send(with_key(&body)).await;
        assert_eq!((second.header("idempotency-replayed"), second.success(202)), ("true", first.clone()));
        send(with_key(&json!({"request": {"url": url, "body": 1}}))).await.problem(422);
        ended(&service, &id_of(&first)).await;
        assert_eq!(listener.at("/run").len(), 1);
    }
}
