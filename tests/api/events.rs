//! Events: accepted, routed, rendered, sent and awaited; and the errors of refused events.

use figment::Figment;
use figment::providers::{Format, Toml};
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, ask, fields, id_of, request, send, texts};
use crate::on_each_database;
use crate::support::Service;

/// The file that `make run` loads.
const STARTER: &str = include_str!("../../db/routes/starter.toml");

/// Starts a service with the routes of the repository.
async fn with_routes(kind: crate::support::Database, settings: &[(&str, &str)]) -> Service {
    let mut all = vec![("webhook.base_url", "http://127.0.0.1:9")];
    all.extend_from_slice(settings);
    let service = Service::start_with(kind, &all).await;
    load(&service).await;
    service
}

/// Loads the routes through the API, as the command does.
async fn load(service: &Service) {
    let set: Value = Figment::from(Toml::string(STARTER)).extract().expect("TOML");
    for (kind, path) in [("templates", "/templates"), ("routes", "/routes")] {
        for entry in set[kind].as_array().expect("a list") {
            ask(service, "POST", path, Some(entry.clone())).await.success(201);
        }
    }
}

fn registered() -> Value {
    json!({"event": "user.registered", "user_target": "reno", "payload": {
        "email": "reno@example.com", "name": "Reno", "reset_link": "http://example.com/reset", "msg": "Welcome Reno!"
    }})
}

async fn client(service: &Service, body: Value) -> String {
    id_of(&ask(service, "POST", "/clients", Some(body)).await.success(201))
}

async fn post_and_wait(service: &Service, body: &Value) -> Answer {
    send(request(service, "POST", "/events").header("Prefer", "wait=30").json(body)).await
}

/// Returns the channel, recipient and status of each message of an event.
fn outcomes(answer: &Value) -> Vec<(String, String, String)> {
    let text = |message: &Value, name: &str| message[name].as_str().expect("a text").to_owned();
    let messages = answer["notifications"].as_array().expect("a list");
    messages.iter().map(|m| (text(m, "channel"), text(m, "recipient"), text(m, "status"))).collect()
}

fn sent(channel: &str, recipient: &str) -> (String, String, String) {
    (channel.to_owned(), recipient.to_owned(), "sent".to_owned())
}

on_each_database! {
    async fn the_example_event_is_accepted_and_its_mail_is_sent(kind: Database) {
        let service = with_routes(kind, &[]).await;
        // the short path, at the root
        let answer = service.http.post(format!("{}/events", service.base)).json(&registered()).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.expect("JSON");
        let names: Vec<&String> = answer.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["event_id", "message", "received_at", "status"]);
        assert_eq!((&answer["status"], &answer["message"]), (&json!("success"), &json!("event accepted")));
        let path = format!("/events/{}", answer["event_id"].as_str().expect("an id"));
        let event = service.wait_for(&path, |event| event["notifications"][0]["status"] == "sent").await;
        assert_eq!(event["received_at"], answer["received_at"]);
        assert_eq!(event["payload"], registered()["payload"]);
        assert_eq!((&event["event"], &event["user_target"], &event["source"]), (&json!("user.registered"), &json!("reno"), &json!("api")));
        let mail = &event["notifications"][0];
        assert_eq!(outcomes(&event), [sent("email", "reno@example.com")]);
        assert_eq!((&mail["subject"], &mail["content"]), (&json!("Welcome, Reno!"), &json!("Welcome Reno!")));
        assert_eq!((&mail["event_id"], &mail["group"]), (&answer["event_id"], &json!("user")));
        assert_eq!(event["skipped"], json!([]));
        assert_eq!(service.get("/events").await["items"][0]["event_id"], answer["event_id"]);
        let of_event = service.get(&format!("/notifications?event_id={}", answer["event_id"].as_str().expect("an id"))).await;
        assert_eq!(of_event["items"][0]["id"], mail["id"]);
    }
}

on_each_database! {
    async fn the_example_action_is_accepted_and_stored(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"id": "req-001", "action": "log", "created": "2026-01-11T10:00:00Z"});
        let call = || send(service.http.post(format!("{}/main", service.base)).json(&body));
        let answer = call().await.success(200);
        assert_eq!((&answer["code"], &answer["status"], &answer["message"]), (&json!(200), &json!("Success Received"), &json!("OK")));
        assert_eq!(call().await.success(200), answer, "the repetition is the same event");
        let event = service.get("/events/req-001").await;
        assert_eq!((&event["event_id"], &event["event"]), (&answer["data"], &json!("log")));
        assert_eq!((&event["occurred_at"], &event["notifications"]), (&json!("2026-01-11T10:00:00.000000Z"), &json!([])));
        for (name, wrong) in [("id", ""), ("action", "no way"), ("created", "yesterday")] {
            let mut body = body.clone();
            body[name] = json!(wrong);
            let answer = send(service.http.post(format!("{}/main", service.base)).json(&body)).await;
            assert_eq!(fields(&answer.problem(422)), [name]);
        }
    }
}

on_each_database! {
    async fn the_starter_routes_use_the_documented_channels_and_targets(kind: Database) {
        let service = with_routes(kind, &[]).await;
        client(&service, json!({"phone_number": "79030000001", "external_id": "seller-1", "email": "seller@example.com", "push_token": "seller-device"})).await;
        client(&service, json!({"phone_number": "79030000002", "external_id": "buyer-1", "email": "buyer@example.com", "push_token": "buyer-device"})).await;
        let to_seller = vec![sent("email", "seller@example.com"), sent("push", "seller-device")];
        let to_buyer = vec![sent("push", "buyer-device")];
        for (event, expected) in [
            ("chat.message_sent", &to_seller),
            ("order.purchased", &to_seller),
            ("order.payment_reminder", &to_buyer),
            ("order.shipped", &to_buyer),
        ] {
            let body = json!({
                "event": event, "targets": {"seller": "seller-1", "buyer": "buyer@example.com"},
                "payload": {"order_id": 17, "product": "a lamp", "buyer_name": "Ann", "text": "Is it new?"},
            });
            let answer = post_and_wait(&service, &body).await.success(200);
            assert_eq!(&outcomes(&answer), expected, "{event}");
        }
        let reset = json!({"event": "password.reset", "user_target": "reno", "payload": {"email": "reno@example.com", "reset_link": "https://example.com/r"}});
        let answer = post_and_wait(&service, &reset).await.success(200);
        assert_eq!(outcomes(&answer), [sent("email", "reno@example.com"), sent("in_app", "reno")]);
        assert_eq!(answer["notifications"][0]["transactional"], true);
    }
}

on_each_database! {
    async fn a_completed_order_sends_the_whole_event_to_the_users_webhook(kind: Database) {
        let service = with_routes(kind, &[("egress.allow", "127.0.0.0/8")]).await;
        let body = json!({"event": "order.completed", "payload": {"order_id": 17, "webhook_url": "http://127.0.0.1:9/hook"}, "id": "order-17"});
        let dry = ask(&service, "POST", "/routes/test", Some(body.clone())).await.success(200);
        let message = &dry["notifications"][0];
        assert_eq!((&message["channel"], &message["recipient"]), (&json!("webhook"), &json!("http://127.0.0.1:9/hook")));
        assert_eq!(message["data"]["payload"], body["payload"]);
        assert_eq!((&message["data"]["event"]["name"], &message["data"]["event"]["id"]), (&json!("order.completed"), &json!("order-17")));
        assert_eq!(service.get("/events").await["items"], json!([]), "a test stores nothing");
    }
}

on_each_database! {
    async fn a_repeated_id_is_one_event_on_every_path(kind: Database) {
        let service = with_routes(kind, &[]).await;
        let mut body = registered();
        body["id"] = json!("reno-registered");
        let says_known = |answer: &Answer| answer.header("idempotency-replayed") == "true";
        let answer = ask(&service, "POST", "/events", Some(body.clone())).await;
        assert!(!says_known(&answer));
        let first = answer.success(202);
        let again = ask(&service, "POST", "/events", Some(body.clone())).await;
        assert_eq!((&again.success(202), says_known(&again)), (&first, true));
        let waited = post_and_wait(&service, &body).await;
        assert_eq!((&waited.success(200)["event_id"], says_known(&waited)), (&first["event_id"], true));
        let batch = ask(&service, "POST", "/events/batch", Some(json!({"events": [body]}))).await;
        assert!(says_known(&batch), "no event of the batch is new");
        let batch = ask(&service, "POST", "/events/batch", Some(json!({"events": [body, registered()]}))).await;
        assert!(!says_known(&batch));
        let batch = batch.success(202);
        assert_eq!((&batch["items"][0]["event_id"], &batch["accepted"]), (&first["event_id"], &json!(2)));
        // eight concurrent requests with a new id
        let at_once = (0..8).map(|_| {
            let mut body = registered();
            body["id"] = json!("at-once");
            let request = request(&service, "POST", "/events").json(&body);
            async move { send(request).await.success(202)["event_id"].clone() }
        });
        let ids = futures_util::future::join_all(at_once).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        // the idempotency key of a request is not an event id
        let keyed = || send(request(&service, "POST", "/events").header("Idempotency-Key", "reno-registered").json(&registered()));
        assert_eq!(keyed().await.success(202), keyed().await.success(202));
        let all = service.get("/events").await;
        assert_eq!(all["items"].as_array().map(Vec::len), Some(4));
        assert_eq!(service.get("/events/reno-registered").await["event_id"], first["event_id"]);
        assert_eq!(service.get("/notifications").await["items"].as_array().map(Vec::len), Some(4));
    }
}

on_each_database! {
    async fn an_invalid_event_is_refused_with_its_field(kind: Database) {
        let service = with_routes(kind, &[]).await;
        let long = "x".repeat(201);
        for (body, wrong) in [
            (json!({"event": "order.lost"}), "event"),
            (json!({"event": "order..x"}), "event"),
            (json!({"event": ""}), "event"),
            (json!({}), "event"),
            (json!({"event": "user.registered"}), "user_target"),
            (json!({"event": "user.registered", "user_target": 1}), "user_target"),
            (json!({"event": "user.registered", "user_target": {"email": "x"}}), "user_target.email"),
            (json!({"event": "user.registered", "payload": []}), "payload"),
            (json!({"event": "user.registered", "payload": {"a": "\u{0}"}}), "payload.a"),
            (json!({"event": "user.registered", "user_target": "a", "id": ""}), "id"),
            (json!({"event": "user.registered", "user_target": "a", "id": long}), "id"),
            (json!({"event": "user.registered", "user_target": "a", "occurred_at": "now"}), "occurred_at"),
            (json!({"event": "user.registered", "user_target": "a", "colour": "red"}), "colour"),
            (json!({"event": "order.shipped", "payload": {"order_id": 1}}), "targets.buyer"),
            (json!({"event": "order.shipped", "targets": []}), "targets"),
            (json!({"event": "order.shipped", "targets": {"buyer": {"push_token": "t"}}}), "payload"),
        ] {
            let answer = ask(&service, "POST", "/events", Some(body.clone())).await;
            assert_eq!(fields(&answer.problem(422)), [wrong], "{body}");
        }
        let unknown = ask(&service, "POST", "/events", Some(json!({"event": "order.lost"}))).await;
        let known = unknown.problem(422)["errors"][0]["reason"].as_str().expect("a reason").to_owned();
        assert!(known.contains("user.registered") && known.contains("order.shipped"), "{known}");
        let missing = json!({"event": "order.shipped", "targets": {"buyer": {"push_token": "t"}}});
        let why = ask(&service, "POST", "/events", Some(missing)).await.problem(422)["errors"][0]["reason"].to_string();
        assert!(why.contains("order_id") && why.contains("order.shipped"), "{why}");
        assert_eq!(service.get("/events").await["items"], json!([]), "no event was stored");
    }
}

on_each_database! {
    async fn an_unknown_event_is_stored_if_configured(kind: Database) {
        let service = with_routes(kind, &[("events.unknown", "accept")]).await;
        let answer = post_and_wait(&service, &json!({"event": "order.lost"})).await.success(200);
        assert_eq!((&answer["notifications"], &answer["skipped"]), (&json!([]), &json!([])));
    }
}

on_each_database! {
    async fn a_webhook_without_a_secret_is_skipped_with_a_reason(kind: Database) {
        // the route is created while all channels use the sandbox, before SMS has a provider
        let mut service = Service::start_with(kind, &[("sms.base_url", "")]).await;
        let route = json!({"event": "order.paid", "deliveries": [{"channel": "webhook", "target": "shop"}]});
        ask(&service, "POST", "/routes", Some(route)).await.success(201);
        service.stop().await;
        service.set("sms.base_url", "http://127.0.0.1:9");
        service.go_on().await;
        let event = json!({"event": "order.paid", "id": "paid-1", "targets": {"shop": {"webhook_url": "https://example.com/hook"}}});
        let said = |answer: &Value| {
            let skipped = &answer["skipped"][0];
            assert_eq!((&skipped["channel"], &skipped["target"]), (&json!("webhook"), &json!("shop")), "{answer}");
            assert!(skipped["reason"].as_str().is_some_and(|why| why.contains("WEBHOOK_SECRET")), "{answer}");
        };
        // at once, repeated, in a batch, and with a wait
        for _ in 0..2 {
            said(&ask(&service, "POST", "/events", Some(event.clone())).await.success(202));
        }
        let batch = ask(&service, "POST", "/events/batch", Some(json!({"events": [event]}))).await.success(202);
        said(&batch["items"][0]);
        said(&post_and_wait(&service, &event).await.success(200));
    }
}

on_each_database! {
    async fn an_unreachable_target_is_skipped_with_a_reason(kind: Database) {
        let service = with_routes(kind, &[]).await;
        client(&service, json!({"phone_number": "79030000001", "external_id": "seller-1", "email": "seller@example.com"})).await;
        let body = json!({"event": "order.purchased", "targets": {"seller": "seller-1"}, "payload": {"order_id": 1}});
        let answer = post_and_wait(&service, &body).await.success(200);
        assert_eq!(outcomes(&answer), [sent("email", "seller@example.com")]);
        let skipped = &answer["skipped"][0];
        assert_eq!((&skipped["channel"], &skipped["target"], &skipped["route"]), (&json!("push"), &json!("seller"), &json!("order.purchased")));
        assert!(skipped["reason"].as_str().expect("a reason").contains("push token"));
        let nobody = json!({"event": "order.shipped", "targets": {"buyer": "nobody"}, "payload": {"order_id": 1}});
        let answer = post_and_wait(&service, &nobody).await.success(200);
        assert_eq!(answer["notifications"], json!([]));
        let path = format!("/events/{}", answer["event_id"].as_str().expect("an id"));
        assert_eq!(service.get(&path).await["skipped"][0]["channel"], "push");
    }
}

on_each_database! {
    async fn events_of_a_batch_are_accepted_or_refused_individually(kind: Database) {
        let service = with_routes(kind, &[]).await;
        let events = json!({"events": [registered(), {"event": "order.lost"}, 7, registered()]});
        let answer = ask(&service, "POST", "/events/batch", Some(events)).await.success(202);
        assert_eq!((&answer["total"], &answer["accepted"], &answer["rejected"]), (&json!(4), &json!(2), &json!(2)));
        let wrong = |index: usize| answer["items"][index]["errors"][0]["field"].as_str().expect("a field").to_owned();
        assert_eq!((wrong(1).as_str(), wrong(2).as_str()), ("event", "body"));
        let none = ask(&service, "POST", "/events/batch", Some(json!({"events": [{"event": "order.lost"}]}))).await;
        assert_eq!(fields(&none.problem(422)), ["events[0].event"]);
        for count in [0, 1001] {
            let events: Vec<Value> = (0..count).map(|_| registered()).collect();
            let answer = ask(&service, "POST", "/events/batch", Some(json!({"events": events}))).await;
            assert_eq!(fields(&answer.problem(422)), ["events"]);
        }
        let thousand: Vec<Value> = (0..1000).map(|_| registered()).collect();
        let answer = ask(&service, "POST", "/events/batch", Some(json!({"events": thousand}))).await.success(202);
        assert_eq!(answer["accepted"], 1000);
    }
}

on_each_database! {
    async fn events_are_listed_by_type_and_time_a_page_at_a_time(kind: Database) {
        let service = with_routes(kind, &[]).await;
        for number in 0..5 {
            let mut body = registered();
            body["id"] = json!(format!("e{number}"));
            ask(&service, "POST", "/events", Some(body)).await.success(202);
        }
        let reset = json!({"event": "password.reset", "user_target": "reno", "payload": {"email": "a@b.com", "reset_link": "x"}});
        ask(&service, "POST", "/events", Some(reset)).await.success(202);
        let seen = texts(&all_pages(&service, "/events?event=user.registered", 2).await, "id");
        assert_eq!(seen, ["e4", "e3", "e2", "e1", "e0"]);
        let from = service.get("/events/e3").await["received_at"].as_str().expect("a time").to_owned();
        let late = service.get(&format!("/events?from={from}")).await;
        assert!(late["items"].as_array().expect("a list").len() >= 3, "{late}");
        assert_eq!(service.get("/events?to=2020-01-01T00:00:00Z").await["items"], json!([]));
        for (query, wrong) in [("event=a..b", "event"), ("from=x", "from"), ("cursor=x", "cursor"), ("limit=0", "limit"), ("a=1", "a")] {
            let answer = ask(&service, "GET", &format!("/events?{query}"), None).await;
            assert_eq!(fields(&answer.problem(422)), [wrong]);
        }
        ask(&service, "GET", "/events/nothing", None).await.problem(404);
    }
}
