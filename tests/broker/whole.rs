//! From the broker to the provider: the whole service with a real nats-server, both of which are killed during the
//! work.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::broker::nats::{Nats, publish_as};
use crate::broker::until;
use crate::process::{Launch, Limit, Provider, Server};
use crate::support::{TestDb, evidence};

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
const EVENTS: usize = 1500;

struct House {
    db: TestDb,
    provider: Provider,
    nats: Nats,
    starts: usize,
}

impl House {
    async fn new(kind: crate::support::Database) -> Self {
        let db = TestDb::new(kind);
        let provider = Provider::start(BINARY, db.dir(), &[]).await;
        Self { db, provider, nats: Nats::start(&[]), starts: 0 }
    }

    async fn serve(&mut self) -> Server {
        self.starts += 1;
        let (name, nats) = (format!("serve-{}", self.starts), self.nats.url());
        let env = [
            ("DATABASE_URL", self.db.url.as_str()),
            ("PROVIDER_BASE_URL", self.provider.base.as_str()),
            ("RATE_LIMIT_PER_CHANNEL", "0"),
            ("DELIVERY_LEASE", "1s"),
            ("NATS_URL", nats.as_str()),
            ("NATS_TRIES", "2"),
            ("NATS_BATCH", "50"),
        ];
        let dir = self.db.dir();
        Server::start(&Launch { binary: BINARY, dir, name: &name, env: &env, limit: Limit::None }).await
    }

    async fn publish(&self, from: usize, to: usize) {
        let client = self.nats.client().await;
        until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
        for number in from..to {
            let body =
                json!({"event": "order.shipped", "payload": {"order": number, "phone": "+79031234567"}});
            publish_as(&client, Some(&format!("order-{number}")), body.to_string().into_bytes()).await;
        }
    }
}

async fn route(server: &Server, event: &str) {
    let deliveries = json!([{"channel": "sms", "template": "order"}]);
    server.post("/routes", json!({"event": event, "deliveries": deliveries})).await;
}

/// Returns all events, by the ids that their senders gave them.
async fn events(server: &Server) -> HashMap<String, Value> {
    let (mut found, mut cursor) = (HashMap::new(), String::new());
    loop {
        let page = server.get(&format!("/events?limit=1000{cursor}")).await;
        for event in page["items"].as_array().unwrap() {
            let key = event["id"].as_str().unwrap().to_owned();
            assert!(found.insert(key.clone(), event.clone()).is_none(), "{key} is there twice");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

crate::on_each_database! {
    async fn events_survive_the_deaths_of_the_service_and_of_the_broker(kind: Database) {
        let mut house = House::new(kind).await;
        let mut server = house.serve().await;
        server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
        route(&server, "order.shipped").await;
        house.publish(0, EVENTS / 3).await;
        house.provider.received(EVENTS / 6, async || {}).await;
        server.process.kill();
        house.nats.kill();
        house.nats.start_again();
        house.publish(EVENTS / 3, 2 * EVENTS / 3).await;
        let server = house.serve().await;
        house.provider.received(EVENTS / 2, async || {}).await;
        house.nats.kill();
        house.nats.start_again();
        house.publish(2 * EVENTS / 3, EVENTS).await;
        // each is stored in one commit with its message, so after the last one nothing is missing
        until("all events", async || events(&server).await.len() == EVENTS).await;
        evidence::all_final(&house.db.url).await;
        until("nothing at the broker", async || server.metric("fanfare_broker_pending").await == 0.0).await;
        let found = events(&server).await;
        assert!((0..EVENTS).all(|number| found.contains_key(&format!("order-{number}"))));
        assert!(found.values().all(|event| event["source"] == "broker"));
        let requests = house.provider.requests();
        let received: HashSet<&str> = requests.iter().map(|request| request.id.as_str()).collect();
        assert_eq!(received.len(), EVENTS, "one message for each event");
        // in flight or not yet recorded at the single kill of the service: 64 workers and two batches of 500
        assert!(requests.len() - received.len() <= 64 + 2 * 500, "{} requests", requests.len());
    }
}

crate::on_each_database! {
    async fn poison_is_a_dead_letter_and_is_taken_when_it_is_replayed_with_a_route(kind: Database) {
        let mut house = House::new(kind).await;
        let server = house.serve().await;
        server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
        let client = house.nats.client().await;
        until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
        let body = json!({"event": "order.lost", "payload": {"order": 1, "phone": "+79031234567"}});
        publish_as(&client, Some("lost-1"), body.to_string().into_bytes()).await;
        let letters = server.wait_for("/dead-letters?class=poison", |page| page["items"] != json!([])).await;
        let letter = &letters["items"][0];
        assert!(letter["error"].as_str().unwrap().contains("event: is unknown"), "{letter}");
        let path = format!("/dead-letters/{}", letter["id"].as_str().unwrap());
        let whole = server.get(&path).await;
        assert_eq!((&whole["event"]["key"], &whole["event"]["tries"]), (&json!("lost-1"), &json!(2)), "{whole}");
        let replay = format!("{path}/replay");
        let (status, refused) = server.call("POST", &replay, None).await;
        assert!((400..500).contains(&status), "there is no route yet: {status} {refused}");
        route(&server, "order.lost").await;
        let (status, answer) = server.call("POST", &replay, None).await;
        assert_eq!(status, 200, "{answer}");
        let event = server.get("/events/lost-1").await;
        assert_eq!((&event["source"], event["notifications"].as_array().unwrap().len()), (&json!("broker"), 1));
        assert_eq!(server.get("/dead-letters?class=poison").await["items"], json!([]));
        assert_eq!(server.call("POST", &replay, None).await.0, 404);
        house.provider.received(1, async || {}).await;
    }
}
