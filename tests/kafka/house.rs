//! A broker, a database, and services that read from the broker into the database.

use std::collections::HashMap;

use diesel::prelude::*;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{broker_position, event};
use krafka::{Compression, Record};
use serde_json::json;

use crate::process::{Launch, Limit, Provider, Server};
use crate::support::api::{LOOK, Progress};
use crate::support::kafka::Kafka;
use crate::support::{Database, TestDb, evidence};

pub const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
/// The topic of most tests.
pub const TOPIC: &str = "orders";
/// The service's default.
pub const GROUP: &str = "fanfare";

pub struct House {
    pub db: TestDb,
    pub kafka: Kafka,
    pub provider: Provider,
    settings: Vec<(String, String)>,
    starts: usize,
}

impl House {
    /// Starts a broker and a provider. Services accept events without a route.
    pub async fn new(kind: Database) -> Self {
        Self::with(kind, Kafka::start()).await
    }

    pub async fn with(kind: Database, kafka: Kafka) -> Self {
        let db = TestDb::new(kind);
        let provider = Provider::start(BINARY, db.dir(), &[]).await;
        let mut house = Self { db, kafka, provider, settings: Vec::new(), starts: 0 };
        let address = house.kafka.address();
        house.set("KAFKA_BROKERS", &address);
        for (key, value) in [
            ("KAFKA_TOPICS", TOPIC),
            ("KAFKA_SESSION", "2s"),
            ("KAFKA_TRIES", "2"),
            ("EVENTS_UNKNOWN", "accept"),
            ("RATE_LIMIT_PER_CHANNEL", "0"),
            ("DELIVERY_LEASE", "1s"),
        ] {
            house.set(key, value);
        }
        house
    }

    /// Sets a setting for the services that are started later.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Starts a service.
    pub async fn serve(&mut self) -> Server {
        self.starts += 1;
        let name = format!("serve-{}", self.starts);
        let mut env =
            vec![("DATABASE_URL", self.db.url.as_str()), ("PROVIDER_BASE_URL", self.provider.base.as_str())];
        env.extend(self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let dir = self.db.dir();
        Server::start(&Launch { binary: BINARY, dir, name: &name, env: &env, limit: Limit::None }).await
    }

    /// Produces records with these bodies, spread over the partitions.
    pub async fn produce(&self, partitions: i32, bodies: impl IntoIterator<Item = String>) {
        let records = bodies.into_iter().zip((0..partitions).cycle());
        let records = records.map(|(body, partition)| record(partition, &body));
        self.kafka.produce(records, Compression::None).await;
    }

    /// Returns the ids of all events, each with its count.
    pub async fn ids(&self) -> HashMap<String, usize> {
        let mut found = HashMap::new();
        for id in self.read(|c| Ok(event::table.select(event::key).load::<Option<String>>(c)?)).await {
            *found.entry(id.expect("an id")).or_default() += 1;
        }
        found
    }

    /// Returns each number of [`order`] and the count of its events.
    pub async fn numbers(&self) -> HashMap<usize, usize> {
        let mut found = HashMap::new();
        for payload in self.read(|c| Ok(event::table.select(event::payload).load::<String>(c)?)).await {
            let payload: serde_json::Value = serde_json::from_str(&payload).expect("an object");
            let number = payload["order"].as_u64().expect("a number");
            *found.entry(usize::try_from(number).unwrap()).or_default() += 1;
        }
        found
    }

    /// Returns the number of events.
    pub async fn count(&self) -> usize {
        usize::try_from(self.read(|c| Ok(event::table.count().get_result::<i64>(c)?)).await).unwrap()
    }

    /// Waits until there are `count` events, as long as more of them arrive.
    pub async fn events(&self, count: usize) {
        let mut progress = Progress::begin();
        loop {
            let there = self.count().await;
            if there >= count {
                return;
            }
            assert!(progress.goes_on(there), "{there} events of {count}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the stored positions of a topic, by partition: incarnation and next offset.
    pub async fn positions(&self, topic: &'static str) -> HashMap<i32, (i32, i64)> {
        let columns =
            (broker_position::partition, broker_position::incarnation, broker_position::next_offset);
        let read = move |c: &mut AnyConnection| {
            let of = broker_position::table.filter(broker_position::topic.eq(topic));
            Ok(of.select(columns).load(c)?)
        };
        let rows: Vec<(i32, i32, i64)> = self.read(read).await;
        rows.into_iter().map(|(partition, incarnation, next)| (partition, (incarnation, next))).collect()
    }

    async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut AnyConnection) -> fanfare::error::Result<T> + Send + 'static,
    ) -> T {
        evidence::open(&self.db.url).await.expect("a database").read(f).await.expect("an answer")
    }
}

/// Waits until the condition holds.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut progress = Progress::begin();
    while !is_so().await {
        assert!(progress.goes_on(()), "waited in vain for: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns a record with this body.
pub fn record(partition: i32, body: &str) -> Record {
    Record::new(TOPIC, body.to_owned()).partition(partition)
}

/// Returns an event with this number, as a record's body.
pub fn order(number: usize) -> String {
    json!({"event": "order.shipped", "payload": {"order": number, "phone": "+79031234567"}}).to_string()
}

/// Returns events with these numbers.
pub fn bodies(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(order)
}
