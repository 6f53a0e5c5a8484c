//! Kills of the broker and of the consumer during the work.

use std::collections::HashSet;
use std::sync::Arc;

use crate::broker::fake::Fake;
use crate::broker::nats::{self, Nats};
use crate::broker::{Node, PATIENCE, at, reading, settings, until};

/// The bodies of this number of events, sorted.
fn bodies(prefix: &str, count: usize) -> Vec<String> {
    let mut all: Vec<_> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_come_once_each_although_the_broker_is_killed_twice() {
    const COUNT: usize = 10_000;
    let mut broker = Nats::start(&[]);
    let fake = Fake::that_takes_all();
    let (node, client) = reading(&broker, &fake).await;
    let publisher = client.clone();
    let publishing = tokio::spawn(async move { nats::publish(&publisher, "event", COUNT).await });
    for so_far in [2_000, 6_000] {
        until("events", async || fake.stored() >= so_far).await;
        broker.kill();
        assert!(fake.stored() < COUNT, "it was to be killed in the middle");
        broker.start_again();
    }
    publishing.await.unwrap();
    until("all events", async || fake.stored() >= COUNT).await;
    until("all acknowledgements", async || broker.is_settled(&client).await).await;
    node.stop().await;
    assert_eq!(fake.rows(), bodies("event", COUNT));
    assert!(fake.buried().is_empty());
}

#[tokio::test]
async fn a_node_that_is_killed_with_events_in_hand_loses_none() {
    let broker = Nats::start(&[]);
    // two batches are stored, and the third call never completes
    let dying = Fake::that_takes(2);
    let (node, client) = reading(&broker, &dying).await;
    nats::publish(&client, "event", 3_000).await;
    until("two commits, and events in hand", async || {
        dying.stored() >= 2 && broker.in_hand(&client).await > 0
    })
    .await;
    node.kill().await;
    let (fake, known) = (Fake::that_takes_all(), dying.rows());
    let node = Node::on(&broker, &fake);
    until("all the others", async || broker.unacknowledged(&client).await == 0).await;
    node.stop().await;
    let all: HashSet<_> = known.into_iter().chain(fake.rows()).collect();
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable();
    assert_eq!(all, bodies("event", 3_000));
}

#[tokio::test]
async fn a_node_that_ends_finishes_what_it_has_in_hand_and_keeps_nothing() {
    let broker = Nats::start(&[]);
    let client = broker.prepared().await;
    nats::publish(&client, "event", 2_000).await;
    let fake = Fake::that_takes(0);
    let node = Node::on(&broker, &fake);
    until("a batch in hand", async || broker.in_hand(&client).await == 500).await;
    assert_eq!(broker.unacknowledged(&client).await, 2_000, "nothing is acknowledged before its commit");
    node.trigger.fire();
    fake.let_go_on(1);
    node.stop().await;
    assert_eq!(fake.stored(), 500);
    until("its acknowledgements", async || broker.unacknowledged(&client).await == 1_500).await;
    assert_eq!(broker.in_hand(&client).await, 0, "another node can have the rest at once");
}

#[tokio::test]
async fn a_node_that_ends_leaves_no_request_behind_that_is_served_for_nobody() {
    let broker = Nats::start(&[]);
    let fake = Fake::that_takes_all();
    let mut patient = settings(at(&broker.url()));
    // longer than the test: an event whose delivery was lost would not come again
    patient.ack_wait = PATIENCE * 10;
    let client = broker.client().await;
    for number in 0..30 {
        let node = Node::start(patient.clone(), &fake);
        until("a connection", async || node.connected() == 1).await;
        until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
        let prefix = format!("round{number}");
        tokio::join!(nats::publish(&client, &prefix, 3), node.stop());
    }
    let node = Node::start(patient, &fake);
    until("all events", async || fake.stored() == 90).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_the_events() {
    let broker = Nats::start(&[]);
    let fake = Fake::that_takes_all();
    let mut small = settings(at(&broker.url()));
    small.batch = 20;
    let nodes = [Node::start(small.clone(), &fake), Node::start(small, &fake)];
    let client = broker.client().await;
    for node in &nodes {
        until("a connection", async || node.connected() == 1).await;
    }
    until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    until("both", async || broker.waiting(&client).await >= 2).await;
    nats::publish(&client, "event", 2_000).await;
    until("all acknowledgements", async || broker.unacknowledged(&client).await == 0).await;
    assert_eq!(fake.rows(), bodies("event", 2_000));
    let taken = nodes.each_ref().map(|node| node.events("taken"));
    assert!(taken.iter().all(|events| *events > 0), "{taken:?}");
    assert_eq!(taken.iter().sum::<u64>(), 2_000);
    for node in nodes {
        node.stop().await;
    }
    assert!(Arc::strong_count(&fake) == 1, "nothing of them is left");
}
