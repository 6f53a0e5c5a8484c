//! Events from a real nats-server into an intake that records the events it was given.

mod access;
mod fake;
mod kills;
mod nats;
mod outages;
mod poison;
mod whole;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use fanfare::broker::Reader;
use fanfare::broker::nats::{Access, JetStream, Settings};
use fanfare::lifecycle::{self, ShutdownTrigger};
use fanfare::metrics::Metrics;
use tokio::task::JoinHandle;

use fake::Fake;
use nats::Nats;

/// The longest wait of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The access to the broker at this URL.
fn at(url: &str) -> Access {
    Access::new(&url.to_owned().into(), None, None).unwrap()
}

/// The defaults of the service, with shorter delays.
fn settings(access: Access) -> Settings {
    Settings {
        access,
        stream: "FANFARE".to_owned(),
        subject: "fanfare.events.>".to_owned(),
        consumer: "fanfare".to_owned(),
        batch: 500,
        tries: 5,
        first_delay: Duration::from_millis(20),
        ack_wait: Duration::from_secs(2),
    }
}

/// A node with the default settings that has found its stream, and the test's own client.
async fn reading(nats: &Nats, fake: &Arc<Fake>) -> (Node, Context) {
    let (node, client) = (Node::on(nats, fake), nats.client().await);
    until("a stream", async || client.get_stream("FANFARE").await.is_ok()).await;
    (node, client)
}

/// A running consumer.
struct Node {
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
    metrics: Metrics,
}

impl Node {
    fn start(settings: Settings, fake: &Arc<Fake>) -> Self {
        let (trigger, shutdown) = lifecycle::shutdown();
        let metrics = Metrics::new().unwrap();
        let intake: Arc<Fake> = Arc::clone(fake);
        let broker = JetStream::new(settings, metrics.clone());
        let task = tokio::spawn(Reader::new(broker, intake, metrics.clone()).run(shutdown));
        Self { trigger, task, metrics }
    }

    /// Starts a node with the default settings.
    fn on(nats: &Nats, fake: &Arc<Fake>) -> Self {
        Self::start(settings(at(&nats.url())), fake)
    }

    /// Stops it as SIGTERM does.
    async fn stop(self) {
        self.trigger.fire();
        tokio::time::timeout(PATIENCE, self.task).await.expect("its end").unwrap();
    }

    /// Aborts it as SIGKILL does, as far as a task allows.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    fn events(&self, outcome: &str) -> u64 {
        self.metrics.broker_events.with_label_values(&["nats", outcome]).get()
    }

    fn connected(&self) -> i64 {
        self.metrics.broker_connected.with_label_values(&["nats"]).get()
    }
}
