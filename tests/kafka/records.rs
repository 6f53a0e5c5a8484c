//! The content of records and the clients that write them.

use krafka::{Compression, Record};
use serde_json::{Value, json};

use crate::kafka::house::{GROUP, House, TOPIC, bodies, order, record, until};
use crate::support::kafka::produce::End;

crate::on_each_database! {
    async fn a_record_becomes_an_event_and_its_message(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 3, &[]).await;
        let server = house.serve().await;
        server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
        let deliveries = json!([{"channel": "sms", "template": "order"}]);
        server.post("/routes", json!({"event": "order.*", "deliveries": deliveries})).await;
        house.produce(3, bodies(0..30)).await;
        house.provider.received(30, async || {}).await;
        let event = server.get("/events?limit=1").await["items"][0].clone();
        assert_eq!(event["source"], "broker", "{event}");
        let ids = house.ids().await;
        assert!((0..3).all(|partition| (0..10).all(|offset| ids.contains_key(&format!("{TOPIC}/{partition}/{offset}")))));
        // the id with slashes is one segment of the path
        let event = server.get("/events/orders%2F0%2F0").await;
        assert_eq!(event["notifications"].as_array().map(Vec::len), Some(1), "{event}");
    }
}

crate::on_each_database! {
    async fn headers_and_the_body_name_the_event(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        let records = [
            record(0, &order(1)).header("id", "by-header"),
            record(0, &json!({"event": "order.paid", "id": "by-body"}).to_string()),
            record(0, &json!({"event": "order.paid", "id": "unseen"}).to_string()).header("id", "by-both"),
            record(0, "{}").header("event", "order.paid").header("id", "typed"),
            // equal ids and equal events become one event
            record(0, &order(1)).header("id", "by-header"),
            record(0, &order(2)),
        ];
        house.kafka.produce(records, Compression::None).await;
        house.events(5).await;
        until("the end of the records", async || house.positions(TOPIC).await[&0].1 == 6).await;
        let mut ids: Vec<String> = house.ids().await.into_keys().collect();
        ids.sort_unstable();
        assert_eq!(ids, ["by-body", "by-both", "by-header", "orders/0/5", "typed"]);
        assert_eq!(server.get("/events/typed").await["event"], "order.paid");
    }
}

crate::on_each_database! {
    async fn tombstones_and_aborted_records_are_no_events(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let server = house.serve().await;
        house.kafka.transaction("one", bodies(0..5).map(|body| record(0, &body)), End::Commit).await;
        house.kafka.transaction("two", bodies(100..105).map(|body| record(0, &body)), End::Abort).await;
        house.kafka.produce([Record::tombstone(TOPIC, "key").partition(0)], Compression::None).await;
        house.kafka.transaction("three", bodies(5..10).map(|body| record(0, &body)), End::Commit).await;
        house.events(10).await;
        let numbers = house.numbers().await;
        assert!(numbers.len() == 10 && (0..10).all(|number| numbers[&number] == 1), "{numbers:?}");
        assert_eq!(outcome(&server, "skipped").await, 1.0);
        assert_eq!(outcome(&server, "taken").await, 10.0);
        // markers and aborted records at the end are not lag
        house.kafka.transaction("four", bodies(200..205).map(|body| record(0, &body)), End::Abort).await;
        until("no lag", async || {
            let rows = house.kafka.describe_group(GROUP);
            rows.len() == 1 && rows[0].lag == Some(0)
        })
        .await;
        until("no lag in the metrics", async || server.metric("fanfare_broker_lag").await == 0.0).await;
    }
}

/// Returns the number of records with this outcome.
pub async fn outcome(server: &crate::process::Server, outcome: &str) -> f64 {
    let answer = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let series = format!("fanfare_broker_events_total{{broker=\"kafka\",outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_and_every_client_is_read() {
    let mut house = House::new(crate::support::Database::Sqlite).await;
    house.kafka.create_topic(TOPIC, 1, &[]).await;
    let _server = house.serve().await;
    let mut from = 0;
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        house.kafka.produce(bodies(from..from + 100).map(|body| record(0, &body)), compression).await;
        from += 100;
    }
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = bodies(from..from + 100).collect();
        house
            .kafka
            .kcat(&["-P", "-t", TOPIC, "-z", compression, "-H", "source=kcat"], lines.join("\n").as_bytes());
        from += 100;
    }
    let lines: Vec<String> =
        (from..from + 100).map(|number| format!("id:java-{number}\tkey\t{}", order(number))).collect();
    let properties = [("parse.headers", "true"), ("parse.key", "true")];
    house.kafka.console_producer(TOPIC, &properties, lines.join("\n").as_bytes());
    house.events(from + 100).await;
    let numbers = house.numbers().await;
    assert!((0..from + 100).all(|number| numbers[&number] == 1));
    let ids = house.ids().await;
    assert!((from..from + 100).all(|number| ids.contains_key(&format!("java-{number}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_left_in_a_compacted_topic_are_read() {
    let mut house = House::new(crate::support::Database::Sqlite).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    house.kafka.create_topic(TOPIC, 1, &configs).await;
    for number in 0..50 {
        let key = if number % 10 == 9 { format!("kept-{number}") } else { "overwritten".to_owned() };
        house.kafka.produce([record(0, &order(number)).key(key)], Compression::None).await;
    }
    // the last segment is not compacted: the new records in it close the one before
    let left = |text: String| text.lines().filter(|line| !line.is_empty()).count();
    until("a compaction", async || {
        house.kafka.produce([record(0, &order(1000)).key("last")], Compression::None).await;
        let text = house.kafka.kcat(&["-C", "-t", TOPIC, "-e", "-q", "-f", "%k\\n"], b"");
        left(text.lines().filter(|key| *key == "overwritten").collect::<Vec<_>>().join("\n")) <= 1
    })
    .await;
    let server = house.serve().await;
    until("all that is left", async || {
        let numbers = house.numbers().await;
        [9, 19, 29, 39, 49].iter().all(|number| numbers.contains_key(number))
    })
    .await;
    assert_eq!(server.metric("fanfare_broker_lost_total").await, 0.0, "what compaction removed is not lost");
    assert_eq!(server.get("/dead-letters").await["items"], Value::Array(Vec::new()));
}
