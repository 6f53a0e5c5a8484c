//! Records that cannot be taken.

use fanfare::broker::LARGEST_EVENT;
use krafka::Compression;
use serde_json::json;

use crate::house::{House, TOPIC, bodies, order, record, until};
use crate::records::outcome;
use crate::support::kafka::Kafka;

crate::on_each_database! {
    async fn a_refused_record_holds_nothing_up_and_becomes_a_dead_letter(kind: Database) {
        let mut house = House::new(kind).await;
        house.set("EVENTS_UNKNOWN", "refuse");
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
        let deliveries = json!([{"channel": "sms", "template": "order"}]);
        server.post("/routes", json!({"event": "order.*", "deliveries": deliveries})).await;
        let lost = json!({"payload": {"order": 1, "phone": "+79031234567"}}).to_string();
        let mut records = vec![record(0, "nonsense"), record(0, &lost).header("event", "parcel.lost")];
        records.extend(bodies(0..20).map(|body| record(0, &body)));
        house.kafka.produce(records, Compression::None).await;
        house.provider.received(20, async || {}).await;
        let letters = server.wait_for("/dead-letters?class=poison", |page| page["items"].as_array().unwrap().len() == 2).await;
        let mut found = Vec::new();
        for letter in letters["items"].as_array().unwrap() {
            let whole = server.get(&format!("/dead-letters/{}", letter["id"].as_str().unwrap())).await;
            assert_eq!(whole["event"]["tries"], 2, "{whole}");
            let subject = whole["event"]["subject"].as_str().unwrap().to_owned();
            found.push((subject, letter["error"].as_str().unwrap().to_owned(), letter["id"].as_str().unwrap().to_owned()));
        }
        found.sort_unstable();
        assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("orders/0/0", "orders/0/1"));
        assert!(found[0].1.starts_with("body: ") && found[1].1.contains("event: is unknown"), "{found:?}");
        assert_eq!((outcome(&server, "refused").await, outcome(&server, "buried").await), (4.0, 2.0));
        // with a route it is taken, under the type that its header named
        let deliveries = json!([{"channel": "sms", "template": "order"}]);
        server.post("/routes", json!({"event": "parcel.*", "deliveries": deliveries})).await;
        let (status, answer) = server.call("POST", &format!("/dead-letters/{}/replay", found[1].2), None).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(server.get("/events/orders%2F0%2F1").await["event"], "parcel.lost");
        house.provider.received(21, async || {}).await;
    }
}

crate::on_each_database! {
    async fn a_refused_record_is_taken_once_its_route_is_there(kind: Database) {
        let mut house = House::new(kind).await;
        house.set("EVENTS_UNKNOWN", "refuse");
        house.set("KAFKA_TRIES", "50");
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        house.produce(1, bodies(0..3)).await;
        until("refusals", async || outcome(&server, "refused").await >= 3.0).await;
        assert_eq!(house.count().await, 0);
        server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
        let deliveries = json!([{"channel": "sms", "template": "order"}]);
        server.post("/routes", json!({"event": "order.*", "deliveries": deliveries})).await;
        house.provider.received(3, async || {}).await;
        assert_eq!(server.get("/dead-letters").await["items"], json!([]));
    }
}

crate::on_each_database! {
    async fn an_id_of_another_event_is_refused_in_the_transaction_that_meets_it(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        let records = [record(0, &order(1)).header("id", "same"), record(0, &order(2)).header("id", "same"), record(0, &order(3))];
        house.kafka.produce(records, Compression::None).await;
        let letters = server.wait_for("/dead-letters?class=poison", |page| page["items"] != json!([])).await;
        assert!(letters["items"][0]["error"].as_str().unwrap().contains("was used for another event"), "{letters}");
        house.events(2).await;
        let numbers = house.numbers().await;
        assert!(numbers.len() == 2 && numbers[&1] == 1 && numbers[&3] == 1, "{numbers:?}");
    }
}

crate::on_each_database! {
    async fn a_record_that_is_too_large_is_a_dead_letter_at_once(kind: Database) {
        let mut house = House::with(kind, Kafka::start_with(&[("message.max.bytes", "9000000")])).await;
        house.set("KAFKA_TRIES", "100");
        house.kafka.create_topic(TOPIC, 1, &[("max.message.bytes", "9000000")]).await;
        let server = house.serve().await;
        let large = |size: usize| "x".repeat(size);
        let records = [record(0, &large(LARGEST_EVENT + 1)), record(0, ""), record(0, &large(8_000_000)), record(0, &order(1))];
        house.kafka.produce(records, Compression::None).await;
        let letters = server.wait_for("/dead-letters?class=poison", |page| page["items"].as_array().unwrap().len() == 3).await;
        let mut errors: Vec<&str> = letters["items"].as_array().unwrap().iter().map(|l| l["error"].as_str().unwrap()).collect();
        errors.sort_unstable();
        let expected = [
            "body: it has no body",
            "body: its body has 1048577 bytes; at most 1048576 are taken",
            "body: its body has 8000000 bytes; at most 1048576 are taken",
        ];
        assert_eq!(errors, expected);
        house.events(1).await;
    }
}
