//! The configured brokers and the tasks that read them.

use std::sync::Arc;
use std::time::Duration;

use super::wiring::Wiring;
use crate::broker::Reader;
use crate::broker::kafka::{self, Kafka, Login, Mechanism, Start};
use crate::broker::nats::{self, JetStream};
use crate::config::{Config, KafkaStart, SaslMechanism, named};
use crate::error::{Complaints, Error, Result};
use crate::events::Events;
use crate::events::handler::broker::{FromBroker, read_again};
use crate::events::retrier::Retrier;

/// The delay before a refused event is delivered for the second time.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The time after which an event of a silent node is delivered to another one.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// The interval between looks for topics and partitions.
const LOOK: Duration = Duration::from_secs(5);

/// Starts the tasks that read the configured brokers, and the one that retries refused records.
///
/// # Errors
/// [`Error::Invalid`] when an address or a topic cannot be one.
pub(super) fn start(wiring: &mut Wiring, events: Arc<Events>, intake: Arc<FromBroker>) -> Result<()> {
    let (metrics, shutdown) = (wiring.background.metrics.clone(), wiring.shutdown.clone());
    if let Some(settings) = jetstream(&wiring.config)? {
        let reader = Reader::new(JetStream::new(settings, metrics.clone()), intake.clone(), metrics.clone());
        wiring.supervise("JetStream", reader.run(shutdown.clone()));
    }
    let settings = kafka(&wiring.config)?;
    let most_tries = settings.as_ref().map(|settings| settings.tries);
    if let Some(settings) = settings {
        let broker = Kafka::new(settings, intake.clone(), metrics.clone());
        let reader = Reader::new(broker, intake, metrics.clone());
        wiring.supervise("Kafka", reader.run(shutdown.clone()));
    }
    let retrier = Retrier::new(events, wiring.background.clone(), read_again, most_tries);
    wiring.supervise("refused records", retrier.run(shutdown));
    Ok(())
}

/// Returns the settings of JetStream, or `None` without a server.
fn jetstream(config: &Config) -> Result<Option<nats::Settings>> {
    let broker = &config.broker;
    let Some(url) = &broker.url else { return Ok(None) };
    let access = nats::Access::new(url, broker.credentials.clone(), broker.extra_ca.clone())
        .map_err(|why| Error::invalid(named("broker.url"), why))?;
    Ok(Some(nats::Settings {
        access,
        stream: broker.stream.clone(),
        subject: broker.subject.clone(),
        consumer: broker.consumer.clone(),
        batch: broker.batch,
        tries: broker.tries,
        first_delay: FIRST_DELAY,
        ack_wait: ACK_WAIT,
    }))
}

/// Returns the settings of Kafka, or `None` without a broker.
fn kafka(config: &Config) -> Result<Option<kafka::Settings>> {
    let section = &config.kafka;
    let Some(brokers) = &section.brokers else { return Ok(None) };
    let mut wrong = Complaints::default();
    wrong.check(&named("kafka.brokers"), kafka::Access::check(brokers));
    let topics = wrong.check(&named("kafka.topics"), section.topics.parse());
    wrong.finish()?;
    let topics = topics.ok_or_else(|| Error::internal("topics were read without complaint and are none"))?;
    let login = section.sasl_mechanism.zip(section.username.as_ref().zip(section.password.as_ref()));
    let login = login.map(|(mechanism, (username, password))| Login {
        mechanism: match mechanism {
            SaslMechanism::Plain => Mechanism::Plain,
            SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
            SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
        },
        username: username.clone(),
        password: password.clone(),
    });
    let access = kafka::Access { brokers: brokers.clone(), tls: section.tls, ca: section.ca.clone(), login };
    Ok(Some(kafka::Settings {
        access,
        topics,
        group: section.group.clone(),
        start: match section.start {
            KafkaStart::Earliest => Start::Earliest,
            KafkaStart::Latest => Start::Latest,
        },
        batch: section.batch,
        tries: section.tries,
        session: section.session,
        look: LOOK,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_there_when_its_url_is() {
        let settings = |keys: &[(&str, &str)]| jetstream(&Config::with(keys).unwrap());
        assert!(settings(&[]).unwrap().is_none());
        let some = settings(&[("broker.url", "nats://u:p@broker"), ("broker.batch", "7")]).unwrap().unwrap();
        assert_eq!((some.access.to_string(), some.batch, some.tries), ("broker:4222".to_owned(), 7, 5));
        let wrong = settings(&[("broker.url", "http://u:s3cr3t@broker")]).unwrap_err().to_string();
        assert!(wrong.contains("NATS_URL") && !wrong.contains("s3cr3t"), "{wrong}");
    }

    #[test]
    fn kafka_is_read_when_its_brokers_are_named() {
        let settings = |keys: &[(&str, &str)]| kafka(&Config::with(keys).unwrap());
        assert!(settings(&[]).unwrap().is_none());
        let some = settings(&[
            ("kafka.brokers", "a:9092, b:9092"),
            ("kafka.start", "latest"),
            ("kafka.sasl_mechanism", "SCRAM-SHA-256"),
            ("kafka.username", "fanfare"),
            ("kafka.password", "s3cr3t"),
        ]);
        let some = some.unwrap().unwrap();
        assert_eq!((some.start, some.batch, some.tries), (Start::Latest, 500, 5));
        assert!(!format!("{some:?}").contains("s3cr3t"));
        assert_eq!(some.access.login.unwrap().mechanism, Mechanism::ScramSha256);
        let wrong = settings(&[("kafka.brokers", "a"), ("kafka.topics", "^(")]).unwrap_err().to_string();
        assert!(wrong.contains("KAFKA_BROKERS") && wrong.contains("KAFKA_TOPICS"), "{wrong}");
    }
}
