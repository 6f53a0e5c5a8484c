//! Outages and changes of the broker and the database, and recovery without help.

use std::process::Command;

use krafka::Compression;

use crate::kafka::house::{House, TOPIC, bodies, record, until};
use crate::process::Server;
use crate::support::kafka::Kafka;
use crate::support::{Database, TestDb};

async fn connected(server: &Server) -> bool {
    server.metric("fanfare_broker_connected").await == 1.0
}

async fn is_ready(server: &Server) -> bool {
    server.http.get(format!("{}/ready", server.base)).send().await.is_ok_and(|answer| answer.status() == 200)
}

crate::on_each_database! {
    async fn a_broker_is_read_after_it_starts_dies_and_restarts(kind: Database) {
        let mut house = House::with(kind, Kafka::absent(&[])).await;
        let mut server = house.serve().await;
        server.process.said(|log| log.contains("broker cannot be read; retrying")).await;
        assert!(!connected(&server).await && is_ready(&server).await);
        house.kafka.start_again();
        house.kafka.create_topic(TOPIC, 2, &[]).await;
        until("a connection", async || connected(&server).await).await;
        house.produce(2, bodies(0..50)).await;
        house.events(50).await;
        house.kafka.kill();
        until("its loss", async || !connected(&server).await).await;
        assert!(is_ready(&server).await);
        house.kafka.start_again();
        house.produce(2, bodies(50..100)).await;
        house.events(100).await;
        // as in a rolling restart, in order
        house.kafka.stop();
        house.kafka.start_again();
        house.produce(2, bodies(100..150)).await;
        house.events(150).await;
        until("a connection", async || connected(&server).await).await;
        let numbers = house.numbers().await;
        assert!(numbers.len() == 150 && numbers.values().all(|times| *times == 1), "{numbers:?}");
    }
}

crate::on_each_database! {
    async fn later_topics_and_added_partitions_are_read(kind: Database) {
        let mut house = House::new(kind).await;
        house.set("KAFKA_TOPICS", "^ord.*");
        // `KAFKA_START` applies only to partitions that exist at the first look
        house.set("KAFKA_START", "latest");
        house.kafka.create_topic("other", 1, &[]).await;
        let server = house.serve().await;
        until("a connection", async || connected(&server).await).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        until("a position", async || house.positions(TOPIC).await.len() == 1).await;
        house.produce(1, bodies(0..10)).await;
        house.events(10).await;
        house.kafka.add_partitions(TOPIC, 3).await;
        // before the group has noticed the new partitions
        house.produce(3, bodies(10..40)).await;
        house.events(40).await;
        let numbers = house.numbers().await;
        assert!((0..40).all(|number| numbers[&number] == 1), "{numbers:?}");
    }
}

crate::on_each_database! {
    async fn a_recreated_topic_is_read_from_its_first_record(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 2, &[]).await;
        let mut server = house.serve().await;
        house.produce(2, bodies(0..20)).await;
        house.events(20).await;
        house.kafka.delete_topic(TOPIC).await;
        house.kafka.create_topic(TOPIC, 2, &[]).await;
        // more than before, so that the old offsets exist again
        house.produce(2, bodies(20..60)).await;
        house.events(60).await;
        let numbers = house.numbers().await;
        assert!((0..60).all(|number| numbers[&number] == 1), "{numbers:?}");
        assert!(house.positions(TOPIC).await.values().all(|(incarnation, next)| (*incarnation, *next) == (1, 20)));
        assert!(house.ids().await.contains_key("orders~1/0/0"));
        server.process.said(|log| log.contains("Kafka topic was recreated")).await;
        // recreated while no service runs
        server.process.kill();
        house.kafka.delete_topic(TOPIC).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        house.produce(1, bodies(60..70)).await;
        let _server = house.serve().await;
        house.events(70).await;
        assert_eq!(house.positions(TOPIC).await[&0], (2, 10));
    }
}

crate::on_each_database! {
    async fn records_removed_by_retention_are_counted_and_skipped(kind: Database) {
        let mut house = House::new(kind).await;
        house.kafka.create_topic(TOPIC, 1, &[]).await;
        let mut server = house.serve().await;
        house.produce(1, bodies(0..10)).await;
        house.events(10).await;
        server.process.kill();
        house.produce(1, bodies(10..30)).await;
        house.kafka.delete_records(TOPIC, 0, 25).await;
        let mut server = house.serve().await;
        house.events(15).await;
        let numbers = house.numbers().await;
        assert!(numbers.len() == 15 && (25..30).all(|number| numbers[&number] == 1), "{numbers:?}");
        assert_eq!(server.metric("fanfare_broker_lost_total").await, 15.0);
        server.process.said(|log| log.contains("removed by retention")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_loses_no_record_and_no_partition() {
    let mut house = House::new(Database::Sqlite).await;
    house.kafka.create_topic(TOPIC, 2, &[]).await;
    let mut server = house.serve().await;
    house.produce(2, bodies(0..10)).await;
    house.events(10).await;
    // a lock on the file blocks every writer
    let path = house.db.url.replace("sqlite://", "");
    let mut lock = Command::new("python3")
        .args(["-c", "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.execute('BEGIN EXCLUSIVE');print(flush=True);sys.stdin.read()", &path])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut locked = [0_u8; 1];
    std::io::Read::read_exact(lock.stdout.as_mut().unwrap(), &mut locked).unwrap();
    house.produce(2, bodies(10..2000)).await;
    server.process.said(|log| log.contains("broker events wait for the database")).await;
    // longer than a session: the node remains a member of the group
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(house.kafka.members("fanfare").await, 1);
    }
    drop(lock.stdin.take());
    lock.wait().unwrap();
    house.events(2000).await;
    let numbers = house.numbers().await;
    assert!(numbers.len() == 2000 && numbers.values().all(|times| *times == 1));
    assert_eq!(server.metric("fanfare_broker_rebalances_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_reads_the_topic_again() {
    let mut house = House::new(Database::Sqlite).await;
    house.kafka.create_topic(TOPIC, 1, &[]).await;
    let mut server = house.serve().await;
    let records =
        bodies(0..20).enumerate().map(|(number, body)| record(0, &body).header("id", format!("e-{number}")));
    house.kafka.produce(records, Compression::None).await;
    house.events(20).await;
    until("offsets at the broker", async || {
        house.kafka.committed("fanfare").await.get(&(TOPIC.to_owned(), 0)) == Some(&20)
    })
    .await;
    server.process.kill();
    // the broker's own offsets are not used
    house.db = TestDb::new(Database::Sqlite);
    let _server = house.serve().await;
    house.events(20).await;
}
