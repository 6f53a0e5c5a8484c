//! A reader whose positions cannot always be read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::broker::kafka::{Access, Kafka as Broker, Settings, Start};
use fanfare::broker::{EventResult, Incoming, Intake, Partition, Position, Positions, Reader, Step};
use fanfare::error::{Error, Result};
use fanfare::lifecycle;
use fanfare::metrics::Metrics;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use krafka::{Compression, Record};

use crate::kafka::house::{GROUP, until};
use crate::support::api::{LOOK, Progress};
use crate::support::kafka::Kafka;

/// Events and positions in memory. Every other lookup of positions fails.
#[derive(Default)]
struct Memory {
    positions: Mutex<HashMap<Partition, Position>>,
    counts: Mutex<HashMap<String, usize>>,
    lookups: AtomicUsize,
}

impl Memory {
    fn store(&self, events: &[Incoming], step: &Step) -> Option<Vec<EventResult>> {
        let mut positions = self.positions.lock().unwrap();
        let position = positions.get_mut(&step.partition).filter(|position| position.next == step.from)?;
        position.next = step.to;
        let mut counts = self.counts.lock().unwrap();
        for event in events {
            *counts.entry(event.key.clone()).or_default() += 1;
        }
        Some(vec![EventResult::Stored; events.len()])
    }

    fn len(&self) -> usize {
        self.counts.lock().unwrap().len()
    }
}

impl Intake for Memory {
    fn take(
        &self,
        events: Vec<Incoming>,
        step: Option<Step>,
    ) -> BoxFuture<'_, Result<Option<Vec<EventResult>>>> {
        async move { Ok(self.store(&events, &step.expect("a step"))) }.boxed()
    }

    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>> {
        panic!("{} is not refused: {reason}", event.key)
    }
}

impl Positions for Memory {
    fn of_topic(&self, _: &str, topic: &str) -> BoxFuture<'_, Result<Vec<Position>>> {
        let fails = self.lookups.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let positions = self.positions.lock().unwrap();
        let of_topic = positions.values().filter(|position| position.partition.topic == topic);
        let found: Vec<Position> = of_topic.cloned().collect();
        async move { if fails { Err(Error::Unavailable("no database".into())) } else { Ok(found) } }.boxed()
    }

    fn begin(&self, new: Vec<Position>) -> BoxFuture<'_, Result<()>> {
        let mut positions = self.positions.lock().unwrap();
        for position in new {
            positions.entry(position.partition.clone()).or_insert(position);
        }
        async { Ok(()) }.boxed()
    }

    fn replace(&self, was: Position, is: Position) -> BoxFuture<'_, Result<bool>> {
        let mut positions = self.positions.lock().unwrap();
        let current = positions.get_mut(&was.partition).filter(|position| **position == was);
        let is_current = current.map(|position| *position = is).is_some();
        async move { Ok(is_current) }.boxed()
    }
}

fn records(topic: &str, count: usize) -> impl Iterator<Item = Record> {
    (0..count).map(move |n| Record::new(topic, format!("{{\"n\": {n}}}")).partition(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_polled_before_a_failed_lookup_of_positions_are_not_skipped() {
    const BACKLOG: usize = 20_000;
    const LATER: usize = 100;
    let kafka = Kafka::start();
    kafka.create_topic("orders", 1, &[]).await;
    kafka.produce(records("orders", BACKLOG), Compression::None).await;
    let memory = Arc::new(Memory::default());
    let access = Access { brokers: kafka.address(), tls: false, ca: None, login: None };
    let settings = Settings {
        access,
        topics: "^orders.*".parse().expect("a pattern"),
        group: GROUP.to_owned(),
        start: Start::Earliest,
        batch: 100,
        tries: 5,
        session: Duration::from_secs(6),
        look: Duration::from_millis(50),
    };
    let metrics = Metrics::new().expect("metrics");
    let broker = Broker::new(settings, memory.clone(), metrics.clone());
    let (trigger, shutdown) = lifecycle::shutdown();
    let reader = tokio::spawn(Reader::new(broker, memory.clone(), metrics).run(shutdown));
    until("the first records", async || memory.len() > 0).await;
    // new topics are looked up while the backlog is read
    let topics = ["orders.a", "orders.b", "orders.c"];
    for topic in topics {
        kafka.create_topic(topic, 1, &[]).await;
        kafka.produce(records(topic, LATER), Compression::None).await;
    }
    let mut progress = Progress::begin();
    while memory.len() < BACKLOG + topics.len() * LATER {
        assert!(progress.goes_on(memory.len()), "{} records", memory.len());
        tokio::time::sleep(LOOK).await;
    }
    assert!(memory.counts.lock().unwrap().values().all(|count| *count == 1), "each record once");
    trigger.fire();
    reader.await.expect("a reader that ends");
}
