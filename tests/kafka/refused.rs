//! Records that cannot be accepted.

use fanfare::broker::LARGEST_EVENT;
use krafka::{Compression, Record};
use serde_json::{Value, json};

use crate::kafka::house::{House, TOPIC, bodies, order, record, until};
use crate::kafka::records::outcome;
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
        // with a route it is accepted, under the type that its header named
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

/// Returns records that are refused whatever their publisher intended.
fn hostile() -> Vec<Record> {
    let headers: Vec<(&str, Vec<u8>)> = vec![
        ("id", b"a\0b".to_vec()),
        ("id", b"two words".to_vec()),
        ("id", vec![0xff, 0xfe]),
        ("id", vec![b'x'; 300_000]),
        ("event", b"a\0b".to_vec()),
        ("event", vec![0xc3]),
        ("event", vec![b'x'; 300_000]),
    ];
    let mut records: Vec<Record> = headers
        .into_iter()
        .map(|(name, value)| record(0, r#"{"payload": {}}"#).header(name, value))
        .collect();
    let bodies: Vec<Vec<u8>> = vec![
        vec![b'['; 500_000],
        br#"{"event": "#.repeat(50_000),
        vec![0xff; 100],
        br#"{"event": "a\u0000b"}"#.to_vec(),
        br#"{"event": "order.shipped", "a\u0000b": 1}"#.to_vec(),
        br#"{"event": "order.shipped", "payload": "\ud800"}"#.to_vec(),
        br#"{"event": "order.shipped", "id": "\u0000"}"#.to_vec(),
        br#"{"event": "order.shipped", "targets": {"user": "\u0000"}}"#.to_vec(),
        br#"{"event": "order.shipped", "payload": {"n": 1e999999}}"#.to_vec(),
        b"\0".to_vec(),
        b"null".to_vec(),
    ];
    records.extend(bodies.into_iter().map(|body| Record::new(TOPIC, body).partition(0)));
    records
}

crate::on_each_database! {
    async fn hostile_records_become_dead_letters_and_hold_nothing_up(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        let (mut records, count) = (hostile(), hostile().len());
        records.push(record(0, &order(1)));
        house.kafka.produce(records, Compression::None).await;
        let last = format!("{TOPIC}/0/{count}");
        until("the valid record", async || house.ids().await.contains_key(&last)).await;
        // each record is an event or a dead letter; a refused one may be tried again first
        let events = house.count().await;
        let is_whole = |page: &Value| events + page["items"].as_array().unwrap().len() == count + 1;
        let letters = server.wait_for("/dead-letters?class=poison&limit=100", is_whole).await;
        assert!(events < 4, "{events} events, {letters}");
        for letter in letters["items"].as_array().unwrap() {
            assert!(!letter["error"].as_str().unwrap().contains('\0'), "{letter}");
            let (status, answer) = server.call("POST", &format!("/dead-letters/{}/replay", letter["id"].as_str().unwrap()), None).await;
            assert!([200, 409, 422].contains(&status), "{status}: {answer}");
        }
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
            "record: it has no body",
            "record: its body has 1048577 bytes; at most 1048576 are accepted",
            "record: its body has 8000000 bytes; at most 1048576 are accepted",
        ];
        assert_eq!(errors, expected);
        house.events(1).await;
    }
}
