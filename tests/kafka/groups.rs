//! Several nodes: partitions that move between them, and stale owners.

use krafka::Compression;

use crate::kafka::house::{GROUP, House, TOPIC, bodies, record, until};
use crate::support::Database;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_the_partitions_and_the_group_shows_their_progress() {
    let mut house = House::new(Database::Postgres).await;
    house.kafka.create_topic(TOPIC, 4, &[]).await;
    let one = house.serve().await;
    let two = house.serve().await;
    until("both as members", async || house.kafka.members(GROUP).await == 2).await;
    until("both with partitions", async || {
        let rows = house.kafka.describe_group(GROUP);
        let mut members: Vec<_> = rows.into_iter().filter_map(|row| row.member).collect();
        members.sort();
        members.dedup();
        members.len() == 2
    })
    .await;
    house.produce(4, bodies(0..400)).await;
    house.events(400).await;
    for server in [&one, &two] {
        until("its part", async || server.metric("fanfare_broker_events_total").await >= 100.0).await;
    }
    until("no lag", async || {
        let rows = house.kafka.describe_group(GROUP);
        rows.len() == 4 && rows.iter().all(|row| row.committed == Some(100) && row.lag == Some(0))
    })
    .await;
    until("no lag in the metrics", async || {
        one.metric("fanfare_broker_lag").await + two.metric("fanfare_broker_lag").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_stores_nothing_after_it_lost_its_partitions() {
    let mut house = House::new(Database::Postgres).await;
    house.kafka.create_topic(TOPIC, 2, &[]).await;
    house.set("KAFKA_BATCH", "10");
    let frozen = house.serve().await;
    house.produce(2, bodies(0..100)).await;
    house.events(100).await;
    // during its work
    let producing = house.produce(2, bodies(100..3000));
    let freezing = async {
        until("some", async || house.count().await > 150).await;
        frozen.process.freeze();
    };
    tokio::join!(producing, freezing);
    let other = house.serve().await;
    house.events(3000).await;
    frozen.process.thaw();
    until("the group", async || house.kafka.members(GROUP).await == 2).await;
    house.produce(2, bodies(3000..3100)).await;
    house.events(3100).await;
    let numbers = house.numbers().await;
    assert!(numbers.len() == 3100 && numbers.values().all(|times| *times == 1));
    assert!(other.metric("fanfare_broker_rebalances_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_records_are_read_unless_the_start_is_latest() {
    for (start, expected) in [("earliest", 30), ("latest", 10)] {
        let mut house = House::new(Database::Sqlite).await;
        house.set("KAFKA_START", start);
        house.kafka.create_topic(TOPIC, 2, &[]).await;
        house.produce(2, bodies(0..20)).await;
        let mut server = house.serve().await;
        until("positions", async || house.positions(TOPIC).await.len() == 2).await;
        house.produce(2, bodies(20..30)).await;
        house.events(expected).await;
        server.process.kill();
        // a second start continues
        house.produce(2, bodies(30..40)).await;
        let _server = house.serve().await;
        house.events(expected + 10).await;
        assert_eq!(house.count().await, expected + 10, "{start}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_partition_become_events_in_their_order() {
    let mut house = House::new(Database::Sqlite).await;
    house.kafka.create_topic(TOPIC, 1, &[]).await;
    let server = house.serve().await;
    house.kafka.produce(bodies(0..1000).map(|body| record(0, &body)), Compression::None).await;
    house.events(1000).await;
    let mut numbers = Vec::new();
    let mut path = "/events?limit=1000".to_owned();
    loop {
        let page = server.get(&path).await;
        numbers.extend(
            page["items"].as_array().unwrap().iter().map(|event| event["payload"]["order"].as_u64().unwrap()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("/events?limit=1000&cursor={next}"),
            None => break,
        }
    }
    // the latest first
    assert!(numbers.iter().rev().copied().eq(0..1000));
}
