//! Events that cannot be accepted.

use fanfare::broker::LARGEST_EVENT;

use crate::broker::fake::{Fake, Verdict};
use crate::broker::nats::{self, Nats};
use crate::broker::{Node, at, reading, settings, until};

#[tokio::test]
async fn what_is_refused_is_tried_five_times_and_buried_once_while_others_flow() {
    let broker = Nats::start(&[]);
    let fake = Fake::that_refuses_poison();
    let (node, client) = reading(&broker, &fake).await;
    nats::publish_as(&client, Some("the-poison"), b"poison".to_vec()).await;
    for wave in 0..5 {
        nats::publish(&client, &format!("wave{wave}"), 100).await;
        until("a wave", async || fake.stored() == (wave + 1) * 100).await;
    }
    until("a burial", async || broker.unacknowledged(&client).await == 0).await;
    node.stop().await;
    assert_eq!(fake.tries("poison"), [1, 2, 3, 4, 5]);
    let [(event, reason)] = &fake.buried()[..] else { panic!("{:?}", fake.buried()) };
    assert_eq!((event.key.as_str(), event.tries), ("the-poison", 5));
    assert_eq!(event.subject, "fanfare.events.user.registered");
    assert_eq!(reason, "nobody knows such an event");
}

#[tokio::test]
async fn an_event_without_a_body_or_with_too_much_of_it_is_not_shown_and_buried() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 3000000\n").unwrap();
    let broker = Nats::start(&["--config", &config.display().to_string()]);
    let fake = Fake::that_takes_all();
    let mut quick = settings(at(&broker.url()));
    quick.tries = 2;
    let node = Node::start(quick, &fake);
    let client = broker.client().await;
    until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    nats::publish_as(&client, Some("empty"), Vec::new()).await;
    nats::publish_as(&client, Some("large"), vec![b'x'; LARGEST_EVENT]).await;
    nats::publish_as(&client, Some("larger"), vec![b'x'; LARGEST_EVENT + 1]).await;
    until("the end of all", async || broker.unacknowledged(&client).await == 0).await;
    assert_eq!(fake.stored(), 1, "a body of just the limit is taken");
    let mut buried: Vec<_> = fake.buried().into_iter().map(|(event, reason)| (event.key, reason)).collect();
    buried.sort_unstable();
    let expected = [
        ("empty".to_owned(), "it has no body".to_owned()),
        ("larger".to_owned(), "its body has 1048577 bytes; at most 1048576 are accepted".to_owned()),
    ];
    assert_eq!(buried, expected);
    // another delivery would not make them valid
    assert_eq!((node.events("refused"), node.events("buried"), node.events("taken")), (2, 2, 1));
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_keeps_nothing_else_out() {
    let broker = Nats::start(&[]);
    let fake = Fake::new(|event| match &event.body[..] {
        b"poison" => Verdict::Break,
        _ => Verdict::Store,
    });
    // all are published before the first fetch, so that they arrive in one batch
    let client = broker.prepared().await;
    nats::publish(&client, "before", 50).await;
    nats::publish_as(&client, Some("the-poison"), b"poison".to_vec()).await;
    nats::publish(&client, "after", 50).await;
    let node = Node::on(&broker, &fake);
    until("the end of all", async || broker.unacknowledged(&client).await == 0).await;
    node.stop().await;
    assert_eq!(fake.stored(), 100);
    let [(event, reason)] = &fake.buried()[..] else { panic!("{:?}", fake.buried()) };
    assert_eq!((event.key.as_str(), event.tries, reason.as_str()), ("the-poison", 5, "it cannot be stored"));
}

#[tokio::test]
async fn an_event_without_an_id_has_the_same_key_at_each_delivery_and_no_other_event_has_it() {
    let broker = Nats::start(&[]);
    let fake = Fake::new(|event| if event.tries < 3 { Verdict::Refuse("not yet") } else { Verdict::Store });
    let (node, client) = reading(&broker, &fake).await;
    for _ in 0..2 {
        nats::publish_as(&client, None, b"same".to_vec()).await;
    }
    until("both", async || broker.unacknowledged(&client).await == 0).await;
    assert_eq!(fake.rows(), ["same", "same"]);
    // a recreated stream counts from one again
    client.delete_stream("FANFARE").await.unwrap();
    until("another stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    nats::publish_as(&client, None, b"same".to_vec()).await;
    until("a third", async || fake.stored() == 3).await;
    node.stop().await;
}
