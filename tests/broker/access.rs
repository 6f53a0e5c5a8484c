//! Access control of the broker, and the log of failures.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_nats::jetstream;
use fanfare::broker::nats::Access;
use tracing_subscriber::fmt::MakeWriter;

use crate::broker::fake::Fake;
use crate::broker::nats::{self, Nats};
use crate::broker::{Node, at, settings, until};

/// The log of this thread, which runs the whole test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(self.clone()).finish())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown_and_is_tried_again() {
    let log = Log::default();
    let _listening = log.listen();
    let mut broker = Nats::start(&["--user", "u", "--pass", "another"]);
    let fake = Fake::that_takes_all();
    let node = Node::start(settings(at(&broker.url_with("nats://u:s3cr3t@"))), &fake);
    until("a refusal", async || log.text().contains("authorization violation")).await;
    let said = log.text();
    let line = said.lines().find(|line| line.contains("cannot connect to the broker; trying again"));
    assert!(line.is_some_and(|line| line.contains("servers=\"127.0.0.1:")), "{said}");
    broker.kill();
    broker.start_with(&["--user", "u", "--pass", "s3cr3t"]);
    until("a connection", async || node.connected() == 1).await;
    node.stop().await;
    assert!(!log.text().contains("s3cr3t"), "{}", log.text());
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_once() {
    let log = Log::default();
    let _listening = log.listen();
    let broker = Nats::absent(&[]);
    let node = Node::on(&broker, &Fake::that_takes_all());
    let tries = |text: &str| text.matches("attempting connection").count();
    until("some tries", async || tries(&log.text()) >= 3).await;
    assert_eq!(log.text().matches("cannot connect to the broker; trying again").count(), 1, "{}", log.text());
    assert!(log.text().contains("Connection refused"), "{}", log.text());
    assert_eq!(node.connected(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_token_opens_and_a_broker_without_jetstream_is_told_of() {
    let log = Log::default();
    let _listening = log.listen();
    let mut broker = Nats::start(&["--auth", "t0ken"]);
    let fake = Fake::that_takes_all();
    let node = Node::start(settings(at(&broker.url_with("nats://t0ken@"))), &fake);
    until("a stream", async || log.text().contains("reading events from the broker")).await;
    broker.kill();
    broker.start_with(&["--auth", "t0ken", "--jetstream=false"]);
    until("a complaint", async || log.text().contains("broker cannot be read; retrying")).await;
    node.stop().await;
    assert!(!log.text().contains("t0ken"), "{}", log.text());
}

#[tokio::test]
async fn a_stream_and_a_consumer_that_are_there_are_used_as_they_are() {
    let broker = Nats::start(&[]);
    let client = broker.client().await;
    let own = jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned(), "fanfare.events.>".to_owned()],
        max_messages: 1_000,
        ..Default::default()
    };
    let stream = client.create_stream(own).await.unwrap();
    let fake = Fake::that_takes_all();
    let mut mine = settings(at(&broker.url()));
    mine.stream = "ORDERS".to_owned();
    let node = Node::start(mine, &fake);
    nats::publish(&client, "event", 20).await;
    client.publish("orders.new", "no event".into()).await.unwrap().await.unwrap();
    until("all events", async || fake.stored() == 20).await;
    until("all acknowledgements", async || {
        stream.consumer_info("fanfare").await.unwrap().num_ack_pending == 0
    })
    .await;
    node.stop().await;
    let config = stream.get_info().await.unwrap().config;
    assert_eq!((config.max_messages, config.subjects.len()), (1_000, 2));
    assert_eq!(fake.stored(), 20, "what is not of the subject is not read");
}

#[tokio::test]
async fn a_broker_with_tls_is_trusted_by_its_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = |path: &std::path::Path| path.display().to_string();
    let broker = Nats::start(&["--tls", "--tlscert", &path(&certificate), "--tlskey", &path(&key)]);
    let url = broker.url_with("tls://");

    let log = Log::default();
    let _listening = log.listen();
    let stranger = Node::start(settings(at(&url)), &Fake::that_takes_all());
    let distrusted = |text: &str| {
        let said = text.lines().find(|line| line.contains("cannot connect to the broker"));
        said.is_some_and(|line| line.contains("invalid peer certificate"))
    };
    until("distrust", async || distrusted(&log.text())).await;
    assert_eq!(stranger.connected(), 0);
    stranger.stop().await;

    let trusting = Access::new(&url.into(), None, Some(certificate)).unwrap();
    let node = Node::start(settings(trusting), &Fake::that_takes_all());
    until("a connection", async || node.connected() == 1).await;
    node.stop().await;
}
