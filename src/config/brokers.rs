//! The sections of the brokers that events are read from.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::rules::{consumer_group, stream_name, subject};
use super::setting::{MINUTE, Value, settings};

settings! {
    /// Events from NATS JetStream.
    broker: Broker {
        /// The NATS server: `nats://HOST:PORT`, `nats://USER:PASSWORD@HOST:PORT`, or `nats://TOKEN@HOST:PORT`;
        /// `tls://` for TLS. Several, separated by commas, are servers of one cluster, with the same user or token.
        /// Write `@`, `/` and `:` in a password as `%40`, `%2F` and `%3A`. Unset: no events come from NATS.
        url: Option<SecretString>, env "NATS_URL", like "nats://broker.example.com:4222";
        /// A credentials file with a JWT and the seed of a key, instead of a user in the URL. It is read again at
        /// each try of the first connection.
        credentials: Option<PathBuf>, env "NATS_CREDENTIALS", like "/run/secrets/fanfare.creds";
        /// A PEM file of certificate authorities to trust instead of the system's.
        extra_ca: Option<PathBuf>, env "NATS_EXTRA_CA", like "/etc/ssl/broker-ca.pem";
        /// The JetStream stream: 1 to 100 letters, digits, `-` and `_`. It is created if it does not exist.
        stream: String = "FANFARE", env "NATS_STREAM", check stream_name;
        /// The subjects of the stream to read.
        subject: String = "fanfare.events.>", env "NATS_SUBJECT", check subject;
        /// The durable consumer, the same on all nodes of an installation. Its name follows the rules of the
        /// stream's.
        consumer: String = "fanfare", env "NATS_CONSUMER", check stream_name;
        /// The greatest number of events in one commit.
        batch: usize = 500, env "NATS_BATCH", within 1.0..=5000.0;
        /// The number of deliveries after which a refused event becomes a dead letter.
        tries: u64 = 5, env "NATS_TRIES", within 1.0..=100.0;
    }
}

settings! {
    /// Events from Apache Kafka.
    kafka: Kafka {
        /// `HOST:PORT` of one or several brokers of a Kafka cluster, separated by commas. Unset: no events come
        /// from Kafka.
        brokers: Option<String>, env "KAFKA_BROKERS",
            like "kafka-1.example.com:9092,kafka-2.example.com:9092";
        /// The topics to read: names separated by commas, or a pattern that begins with `^` and must match the
        /// whole name.
        topics: String = "fanfare.events", env "KAFKA_TOPICS";
        /// The consumer group, the same on all nodes of an installation: 1 to 200 visible ASCII characters. A new
        /// group starts as `KAFKA_START` says.
        group: String = "fanfare", env "KAFKA_GROUP", check consumer_group;
        /// The starting point of a topic that was not read before: `earliest`, its first record, or `latest`, the
        /// next one.
        start: KafkaStart = "earliest", env "KAFKA_START";
        /// `true` encrypts the connection.
        tls: bool = false, env "KAFKA_TLS";
        /// A PEM file of certificate authorities to trust instead of the system's. It requires `KAFKA_TLS=true`.
        ca: Option<PathBuf>, env "KAFKA_CA", like "/etc/ssl/kafka-ca.pem";
        /// The SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`, with `KAFKA_USERNAME` and
        /// `KAFKA_PASSWORD`. Unset: no account.
        sasl_mechanism: Option<SaslMechanism>, env "KAFKA_SASL_MECHANISM", like "SCRAM-SHA-512";
        /// The user name.
        username: Option<String>, env "KAFKA_USERNAME", like "fanfare";
        /// The password.
        password: Option<SecretString>, env "KAFKA_PASSWORD", like "...";
        /// The time after which a silent node loses its partitions to other nodes. The brokers'
        /// `group.min.session.timeout.ms` (6 s) and `group.max.session.timeout.ms` also bound it.
        session: Duration = "15s", env "KAFKA_SESSION", within 1.0..=5.0 * MINUTE;
        /// The greatest number of records in one poll. Those of one partition are stored in one commit.
        batch: usize = 500, env "KAFKA_BATCH", within 1.0..=5000.0;
        /// The number of tries after which a refused record becomes a dead letter.
        tries: u64 = 5, env "KAFKA_TRIES", within 1.0..=100.0;
    }
}

/// The starting point of a topic that was not read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaStart {
    /// The first record in the partition.
    Earliest,
    /// The next record to be produced.
    Latest,
}

impl Value for KafkaStart {}

/// A SASL mechanism of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    /// PLAIN: sends the password itself.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Value for SaslMechanism {}
