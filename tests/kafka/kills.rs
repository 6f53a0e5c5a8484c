//! Records through kills of the services and of the broker: each becomes one event.

use crate::kafka::house::{House, TOPIC, bodies};
use crate::process::Server;
use crate::support::Database;

/// The number of records for three nodes; one node on SQLite reads a tenth of them. `make crash-test` sets more.
fn records() -> usize {
    std::env::var("FANFARE_TEST_RECORDS").map_or(100_000, |count| count.parse().expect("a number"))
}

/// Produces records during the kills, in parts, since the broker dies in between.
async fn produce(house: &House, from: usize, to: usize) {
    house.produce(12, bodies(from..to)).await;
}

async fn check(house: &House, count: usize) {
    house.events(count).await;
    let numbers = house.numbers().await;
    assert_eq!(numbers.len(), count, "events lost");
    let doubled: Vec<_> = numbers.iter().filter(|(_, times)| **times > 1).take(10).collect();
    assert!(doubled.is_empty(), "events doubled: {doubled:?}");
    let read: i64 = house.positions(TOPIC).await.values().map(|(_, next)| next).sum();
    assert_eq!(read, i64::try_from(count).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_lose_and_double_nothing_through_kills_rebalances_and_a_dead_broker() {
    let all = records();
    let mut house = House::new(Database::Postgres).await;
    house.kafka.create_topic(TOPIC, 12, &[]).await;
    let mut nodes: Vec<Server> = Vec::new();
    for _ in 0..3 {
        nodes.push(house.serve().await);
    }
    produce(&house, 0, all / 2).await;
    for (part, node) in nodes.iter_mut().enumerate() {
        house.events(all / 10 * (part + 1)).await;
        node.process.kill();
        *node = house.serve().await;
    }
    house.kafka.kill();
    house.kafka.start_again();
    produce(&house, all / 2, all).await;
    house.events(all / 10 * 6).await;
    // one stops in order, one is killed, and two join
    nodes[0].process.terminate();
    nodes[0].process.ended().await;
    nodes[1].process.kill();
    for node in nodes.iter_mut().take(2) {
        *node = house.serve().await;
    }
    check(&house, all).await;
    for node in &mut nodes {
        assert!(!node.process.log().contains("panicked"), "{}", node.process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_on_sqlite_loses_and_doubles_nothing_through_kills_and_a_dead_broker() {
    let all = records() / 10;
    let mut house = House::new(Database::Sqlite).await;
    house.kafka.create_topic(TOPIC, 12, &[]).await;
    let mut node = house.serve().await;
    produce(&house, 0, all / 2).await;
    for part in 1..4 {
        house.events(all / 10 * part).await;
        node.process.kill();
        node = house.serve().await;
    }
    house.kafka.kill();
    house.kafka.start_again();
    produce(&house, all / 2, all).await;
    house.events(all / 10 * 6).await;
    node.process.kill();
    let _node = house.serve().await;
    check(&house, all).await;
}

crate::on_each_database! {
    async fn a_death_before_or_after_the_commit_loses_and_doubles_nothing(kind: Database) {
        let mut house = House::new(kind).await;
        house.set("KAFKA_BATCH", "20");
        house.kafka.create_topic(TOPIC, 2, &[]).await;
        let mut count = 0;
        for point in ["event-before-commit:2", "event-after-commit:2"] {
            house.set("FANFARE_FAILPOINT", point);
            let mut node = house.serve().await;
            house.produce(2, bodies(count..count + 100)).await;
            count += 100;
            node.process.ended().await;
            assert!(node.process.log().contains("the process aborts or stops"), "{}", node.process.log());
            assert!(house.count().await < count, "the process died in the middle");
            house.set("FANFARE_FAILPOINT", "");
            let mut node = house.serve().await;
            check(&house, count).await;
            node.process.kill();
        }
    }
}
