//! Outages of the database and of the broker.

use crate::broker::fake::Fake;
use crate::broker::nats::{self, Nats};
use crate::broker::{Node, reading, until};

#[tokio::test]
async fn while_the_database_is_away_nothing_is_acknowledged_and_no_try_is_used_up() {
    let broker = Nats::start(&[]);
    let fake = Fake::that_refuses_poison();
    let (node, client) = reading(&broker, &fake).await;
    fake.set_away(true);
    nats::publish_as(&client, Some("the-poison"), b"poison".to_vec()).await;
    nats::publish(&client, "event", 200).await;
    // longer than the broker waits for an acknowledgement
    until("a long outage", async || fake.failures() >= 7).await;
    assert_eq!((broker.unacknowledged(&client).await, fake.stored()), (201, 0));
    fake.set_away(false);
    until("all acknowledgements", async || broker.unacknowledged(&client).await == 0).await;
    node.stop().await;
    assert_eq!(fake.stored(), 200);
    assert_eq!(fake.tries("poison"), [1, 2, 3, 4, 5], "what was not tried is no try");
    assert_eq!(fake.buried().len(), 1);
}

#[tokio::test]
async fn a_node_that_ends_while_the_database_is_away_gives_the_events_back() {
    let broker = Nats::start(&[]);
    let fake = Fake::that_takes_all();
    let (node, client) = reading(&broker, &fake).await;
    fake.set_away(true);
    nats::publish(&client, "event", 200).await;
    until("an outage", async || fake.failures() >= 2).await;
    node.stop().await;
    assert_eq!(broker.unacknowledged(&client).await, 200);
    fake.set_away(false);
    let node = Node::on(&broker, &fake);
    until("all acknowledgements", async || broker.unacknowledged(&client).await == 0).await;
    node.stop().await;
    assert_eq!(fake.stored(), 200);
}

#[tokio::test]
async fn a_broker_that_comes_later_is_found_and_one_that_lost_its_stream_gets_another() {
    let mut broker = Nats::absent(&[]);
    let fake = Fake::that_takes_all();
    let node = Node::on(&broker, &fake);
    broker.start_again();
    until("a connection", async || node.connected() == 1).await;
    let client = broker.client().await;
    until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    nats::publish(&client, "event", 10).await;
    until("all events", async || fake.stored() == 10).await;
    client.delete_stream("FANFARE").await.unwrap();
    until("another stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    nats::publish(&client, "later", 10).await;
    until("all events", async || fake.stored() == 20).await;
    broker.kill();
    until("the loss of it", async || node.connected() == 0).await;
    node.stop().await;
}
