//! Routes: created, changed, matched with events, and tested.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::api::ask::{ask, fields, id_of};
use crate::on_each_database;
use crate::support::Service;

async fn template(service: &Service, name: &str, channel: &str, text: &str) {
    let mut body = json!({"name": name, "channel": channel, "text": text});
    if channel == "email" {
        body["subject"] = json!("s");
    }
    ask(service, "POST", "/templates", Some(body)).await.success(201);
}

async fn route(service: &Service, event: &str, deliveries: Value) -> Value {
    ask(service, "POST", "/routes", Some(json!({"event": event, "deliveries": deliveries})))
        .await
        .success(201)
}

/// Returns the result of testing the routes with an event.
async fn test_routes(service: &Service, event: Value) -> Value {
    ask(service, "POST", "/routes/test", Some(event)).await.success(200)
}

/// Returns the texts of the messages that an event would cause.
async fn texts(service: &Service, event: Value) -> Vec<String> {
    let tried = test_routes(service, event).await;
    let messages = tried["notifications"].as_array().expect("a list");
    messages.iter().map(|message| message["content"].as_str().expect("a text").to_owned()).collect()
}

on_each_database! {
    async fn a_route_is_created_read_changed_and_deleted(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "sms", "Hello").await;
        let made = route(&service, "order.*", json!([{"channel": "sms", "template": "hello"}])).await;
        let path = format!("/routes/{}", id_of(&made));
        assert_eq!(service.get(&path).await, made);
        assert_eq!(made["deliveries"], json!([{"channel": "sms", "target": "user", "template": "hello", "priority": "normal"}]));
        assert_eq!((&made["enabled"], &made["transactional"], &made["group"]), (&json!(true), &json!(false), &Value::Null));
        let patch = json!({"event": "order.shipped", "group": "orders", "description": "words", "transactional": true, "enabled": false});
        let patched = ask(&service, "PATCH", &path, Some(patch.clone())).await.success(200);
        for (name, value) in patch.as_object().expect("an object") {
            assert_eq!(&patched[name], value);
        }
        assert_eq!(patched["deliveries"], made["deliveries"]);
        let cleared = ask(&service, "PATCH", &path, Some(json!({"group": null, "description": null}))).await.success(200);
        assert_eq!((&cleared["group"], &cleared["description"]), (&Value::Null, &Value::Null));
        assert_eq!(service.get("/routes").await["items"], json!([cleared]));
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        for method in ["GET", "DELETE"] {
            ask(&service, method, &path, None).await.problem(404);
        }
    }
}

on_each_database! {
    async fn two_routes_never_have_the_same_pattern(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "sms", "Hello").await;
        let deliveries = json!([{"channel": "sms", "template": "hello"}]);
        route(&service, "a.*", deliveries.clone()).await;
        let other = route(&service, "b.*", deliveries.clone()).await;
        let again = ask(&service, "POST", "/routes", Some(json!({"event": "a.*", "deliveries": deliveries}))).await;
        again.problem(409);
        let moved = ask(&service, "PATCH", &format!("/routes/{}", id_of(&other)), Some(json!({"event": "a.*"}))).await;
        moved.problem(409);
    }
}

on_each_database! {
    async fn invalid_fields_of_a_route_are_named(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "sms", "Hello").await;
        let good = json!({"channel": "sms", "template": "hello"});
        let with = |name: &str, value: Value| {
            let mut delivery = good.clone();
            delivery[name] = value;
            json!({"event": "a", "deliveries": [delivery]})
        };
        for (body, wrong) in [
            (json!({"event": "a b", "deliveries": [good]}), "event"),
            (json!({"event": "a", "deliveries": []}), "deliveries"),
            (json!({"event": "a", "deliveries": vec![good.clone(); 21]}), "deliveries"),
            (json!({"event": "a", "deliveries": [good], "group": "Groß"}), "group"),
            (json!({"event": "a", "deliveries": [good], "description": "a\nb"}), "description"),
            (with("channel", json!("pigeon")), "deliveries[0].channel"),
            // the channel has no provider here
            (with("channel", json!("webhook")), "deliveries[0].channel"),
            (with("template", json!("goodbye")), "deliveries[0].template"),
            (with("template", Value::Null), "deliveries[0].template"),
            (with("target", json!("a.b")), "deliveries[0].target"),
            (with("target", json!("payload.")), "deliveries[0].target"),
            (with("recipient", json!("nobody")), "deliveries[0].recipient"),
            (with("priority", json!("urgent")), "deliveries[0].priority"),
            (with("delay", json!("soon")), "deliveries[0].delay"),
            (with("expires_after", json!("400days")), "deliveries[0].expires_after"),
            (with("condition", json!("payload.total >")), "deliveries[0].condition"),
            (with("condition", json!("payload | nonsense")), "deliveries[0].condition"),
            (with("colour", json!("red")), "deliveries[0].colour"),
        ] {
            let answer = ask(&service, "POST", "/routes", Some(body.clone())).await;
            let fields = fields(&answer.problem(422));
            assert!(fields.iter().any(|field| field == wrong), "{body}: {fields:?}");
        }
        assert_eq!(service.get("/routes").await["items"], json!([]));
    }
}

on_each_database! {
    async fn all_matching_routes_create_their_messages(kind: Database) {
        let service = Service::start(kind).await;
        for text in ["exact", "word", "rest", "all", "big"] {
            template(&service, text, "sms", text).await;
        }
        let sms = |template: &str| json!([{"channel": "sms", "template": template}]);
        route(&service, "order.shipped", sms("exact")).await;
        route(&service, "*.shipped", sms("word")).await;
        route(&service, "order.*", sms("rest")).await;
        route(&service, "*", sms("all")).await;
        let big = route(&service, "order.shipped.*", json!([{"channel": "sms", "template": "big", "condition": "payload.total > 100"}])).await;
        let event = |name: &str, total: u32| json!({"event": name, "payload": {"phone": "+79031234567", "total": total}});
        for (name, total, expected) in [
            ("order.shipped", 1, vec!["exact", "word", "rest", "all"]),
            ("order.lost", 1, vec!["rest", "all"]),
            ("user", 1, vec!["all"]),
            ("order.shipped.late", 100, vec!["rest", "all"]),
            ("order.shipped.late", 101, vec!["rest", "all", "big"]),
        ] {
            assert_eq!(texts(&service, event(name, total)).await, expected, "{name} {total}");
        }
        ask(&service, "PATCH", &format!("/routes/{}", id_of(&big)), Some(json!({"enabled": false}))).await.success(200);
        assert_eq!(texts(&service, event("order.shipped.late", 101)).await, ["rest", "all"]);
    }
}

on_each_database! {
    async fn a_target_is_a_client_by_any_of_its_names_or_an_address(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "email", "Hello {{ first_name | default('you') }}").await;
        let client = json!({"phone_number": "79030000001", "external_id": "crm 1", "email": "ann@example.com", "attributes": {"first_name": "Ann"}});
        let id = id_of(&ask(&service, "POST", "/clients", Some(client)).await.success(201));
        route(&service, "a", json!([{"channel": "email", "target": "user", "template": "hello"}])).await;
        route(&service, "b", json!([{"channel": "email", "target": "payload.order.owner", "template": "hello"}])).await;
        route(&service, "c", json!([{"channel": "email", "target": "user", "template": "hello", "recipient": "office@example.com"}])).await;
        let ann = ("ann@example.com", "Hello Ann", true);
        for (event, (recipient, text, is_client)) in [
            (json!({"event": "a", "user_target": id}), ann),
            (json!({"event": "a", "user_target": "crm 1"}), ann),
            (json!({"event": "a", "user_target": "ANN@example.com"}), ann),
            (json!({"event": "a", "user_target": "ann@example.com"}), ann),
            (json!({"event": "a", "user_target": "+79030000001"}), ann),
            (json!({"event": "a", "user_target": {"phone_number": "79030000001"}}), ann),
            (json!({"event": "a", "user_target": {"external_id": "crm 1", "email": "other@example.com"}}), ann),
            (json!({"event": "a", "user_target": "bob", "payload": {"email": "bob@example.com", "first_name": "Bob"}}), ("bob@example.com", "Hello Bob", false)),
            (json!({"event": "b", "payload": {"order": {"owner": "crm 1"}}}), ann),
            (json!({"event": "b", "payload": {"order": {"owner": "bob@example.com"}}}), ("bob@example.com", "Hello you", false)),
            (json!({"event": "c"}), ("office@example.com", "Hello you", false)),
        ] {
            let made = test_routes(&service, event.clone()).await;
            let message = &made["notifications"][0];
            assert_eq!((&message["recipient"], &message["content"]), (&json!(recipient), &json!(text)), "{event} {made}");
            assert_eq!(message["client_id"].is_string(), is_client, "{event}");
        }
        let missing = ask(&service, "POST", "/routes/test", Some(json!({"event": "b"}))).await;
        assert_eq!(fields(&missing.problem(422)), ["payload.order.owner"]);
    }
}

on_each_database! {
    async fn a_clients_attributes_fill_only_its_own_message(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "email", "{{ first_name | default('Somebody') }} of {{ tag | default('none') }}").await;
        let client = json!({"phone_number": "79030000001", "external_id": "ann", "email": "ann@example.com", "tag": "vip", "attributes": {"first_name": "Ann"}});
        ask(&service, "POST", "/clients", Some(client)).await.success(201);
        let own = json!({"channel": "email", "target": "user", "template": "hello"});
        let fixed = json!({"channel": "email", "target": "user", "template": "hello", "recipient": "office@example.com"});
        route(&service, "own.first", json!([own, fixed])).await;
        route(&service, "fixed.first", json!([fixed, own])).await;
        let (of_ann, of_nobody) = ("Ann of vip", "Somebody of none");
        for (event, expected) in [("own.first", [of_ann, of_nobody]), ("fixed.first", [of_nobody, of_ann])] {
            assert_eq!(texts(&service, json!({"event": event, "user_target": "ann"})).await, expected, "{event}");
        }
    }
}

on_each_database! {
    async fn delays_expiries_priorities_groups_and_locales_follow_the_route(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "sms", "Hello").await;
        let german = json!({"name": "hello", "channel": "sms", "locale": "de", "text": "Hallo"});
        ask(&service, "POST", "/templates", Some(german)).await.success(201);
        let client = json!({"phone_number": "79030000001", "external_id": "anna", "locale": "de-AT"});
        ask(&service, "POST", "/clients", Some(client)).await.success(201);
        route(&service, "Order.shipped", json!([
            {"channel": "sms", "template": "hello", "delay": "10m", "expires_after": "1h", "priority": "high"},
        ])).await;
        let made = test_routes(&service, json!({"event": "Order.shipped", "user_target": "anna"})).await;
        let message = &made["notifications"][0];
        assert_eq!((&message["content"], &message["template"]["locale"]), (&json!("Hallo"), &json!("de")));
        assert_eq!((&message["priority"], &message["group"]), (&json!("high"), &json!("order")));
        let at = |name: &str| chrono::DateTime::parse_from_rfc3339(message[name].as_str().expect("a time")).expect("a time");
        assert_eq!(at("expires_at") - at("scheduled_at"), chrono::TimeDelta::hours(1));
        let taken = ask(&service, "POST", "/events", Some(json!({"event": "Order.shipped", "user_target": "anna"}))).await.success(202);
        let event = service.get(&format!("/events/{}", taken["event_id"].as_str().expect("an id"))).await;
        let stored = &event["notifications"][0];
        assert_eq!((&stored["status"], &stored["priority"], &stored["group"]), (&json!("scheduled"), &json!("high"), &json!("order")));
        let abroad = json!({"event": "Order.shipped", "user_target": "+79030000009", "payload": {"locale": "de"}});
        assert_eq!(texts(&service, abroad).await, ["Hallo"]);
        let plain = json!({"event": "Order.shipped", "user_target": "+79030000009"});
        assert_eq!(texts(&service, plain).await, ["Hello"]);
    }
}

on_each_database! {
    async fn an_address_gets_the_same_message_of_two_routes_once(kind: Database) {
        let service = Service::start(kind).await;
        template(&service, "hello", "sms", "Hello").await;
        let sms = json!([{"channel": "sms", "template": "hello"}]);
        route(&service, "a.b", sms.clone()).await;
        route(&service, "a.*", sms).await;
        let made = test_routes(&service, json!({"event": "a.b", "user_target": "+79030000001"})).await;
        let counts: HashMap<&str, usize> =
            ["notifications", "skipped"].map(|name| (name, made[name].as_array().expect("a list").len())).into();
        assert_eq!(counts, HashMap::from([("notifications", 1), ("skipped", 1)]));
    }
}
