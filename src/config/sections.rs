//! The sections of the configuration, one struct each.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// Section `database`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite://PATH` or `postgres://…`; secret, since it may hold a password.
    pub url: SecretString,
    /// Connections for reading.
    pub pool_size: u32,
    /// How long the database may take for a request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// Section `node`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its part of the work.
    pub role: Role,
}

/// What a node does; with PostgreSQL there may be any number of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    All,
    /// The API; other nodes send.
    Api,
    /// Watchdog and delivery engine; of HTTP only the probes and the metrics.
    Worker,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

/// Section `http`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port, 0 for a free one.
    pub port: u16,
    /// Threads that answer.
    pub workers: usize,
    /// Connections at once; 0 for as many as the limit of descriptors leaves room for.
    pub connections: usize,
    /// MiB of all requests' bodies together.
    pub body_memory: usize,
    /// Names besides loopback's that `Host` may have, separated by commas.
    pub allowed_hosts: Option<String>,
    /// By which recipients reach this service, for links in mails.
    pub public_url: Option<String>,
}

impl Http {
    /// The allowed hosts, one by one.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let hosts = self.allowed_hosts.as_deref().unwrap_or_default();
        hosts.split([',', ' ']).filter(|host| !host.is_empty())
    }
}

/// Section `preferences`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The clock of clients who have no time zone: its IANA name.
    pub quiet_hours_timezone: String,
    /// What links to unsubscribe are made with; none means the API key.
    pub unsubscribe_secret: Option<SecretString>,
    /// The sender's name on the pages to unsubscribe.
    pub brand_name: Option<String>,
}

/// Section `access`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// What a request must bear.
    pub api_key: Option<SecretString>,
    /// A file that holds it.
    pub api_key_file: Option<PathBuf>,
}

/// Section `clients`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// The country whose national phone numbers are understood, by its two letters.
    pub default_country: Option<String>,
    /// The folder in which the files of imports are received; the system's when absent.
    pub import_dir: Option<String>,
    /// The most MiB of such a file.
    pub import_max_size: u64,
}

/// Section `egress`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Networks that requests may go to although they are private, separated by commas.
    pub allow: String,
}

/// Section `credentials`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Keys that they are encrypted with, separated by white space; the first is the one that encrypts.
    pub key: Option<SecretString>,
}

/// Section `retry`: of a mailing's messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// From the first failure to the second attempt.
    #[serde(deserialize_with = "duration")]
    pub first_delay: Duration,
    /// By how much each delay is longer than the one before.
    pub factor: f32,
    /// How many times a message is tried again.
    pub limit: usize,
    /// How often messages that wait for another attempt are looked for, whatever was said of them.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// The longest `Retry-After` that is heeded.
    #[serde(deserialize_with = "duration")]
    pub after_max: Duration,
}

/// Section `notifications`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    /// From the first failure to the second attempt.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_1: Duration,
    /// From the second to the third.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_2: Duration,
    /// From the third to the fourth, the last.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_3: Duration,
    /// How long a request waits for its notification's final state.
    #[serde(deserialize_with = "duration")]
    pub sync_wait: Duration,
    /// Notifications that may wait for the database at once.
    pub intake_limit: usize,
}

impl Notifications {
    /// The delays between the attempts.
    pub fn backoff(&self) -> Vec<Duration> {
        vec![self.retry_backoff_1, self.retry_backoff_2, self.retry_backoff_3]
    }
}

/// Section `events`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// What is done with an event that no route is for.
    pub unknown: UnknownEvents,
    /// Events that may wait for the database at once.
    pub intake_limit: usize,
}

/// What is done with events that no route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownEvents {
    /// They are refused, so that a misspelt name is noticed.
    Refuse,
    /// They are kept, and cause nothing.
    Accept,
}

/// Section `idempotency`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// How long the key of a request is known.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

/// Section `broker`: events from NATS JetStream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `nats://…` or `tls://…`, several separated by commas; secret, since it may hold a password. None: no broker.
    pub url: Option<SecretString>,
    /// A file with a JWT and the seed of a key.
    pub credentials: Option<PathBuf>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub extra_ca: Option<PathBuf>,
    /// The stream.
    pub stream: String,
    /// The subjects that are read.
    pub subject: String,
    /// The durable consumer that all nodes share.
    pub consumer: String,
    /// Events in one commit.
    pub batch: usize,
    /// Deliveries of an event that is refused, until it is a dead letter.
    pub tries: u64,
}

/// Section `kafka`: events from Apache Kafka.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `HOST:PORT` of one or several brokers, separated by commas. `None` turns Kafka off.
    pub brokers: Option<String>,
    /// Names separated by commas, or a pattern that begins with `^`.
    pub topics: String,
    /// The consumer group that all nodes share.
    pub group: String,
    /// The starting point of a topic that was not read before.
    pub start: KafkaStart,
    /// Encrypts the connection.
    pub tls: bool,
    /// A PEM file of authorities that replaces the system's.
    pub ca: Option<PathBuf>,
    /// The SASL mechanism. `None` connects without an account.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// The time after which a silent node loses its partitions.
    #[serde(deserialize_with = "duration")]
    pub session: Duration,
    /// The most records in one poll.
    pub batch: usize,
    /// The number of tries after which a refused record becomes a dead letter.
    pub tries: u64,
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

/// Section `dead_letters`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetters {
    /// How long what failed can be replayed.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
    /// How many letters a second a replay by filter takes, unless it says otherwise.
    pub replay_rate: f64,
}

/// Section `delivery`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The switch of all sending at the start.
    pub sending: Sending,
    /// Recipients planned in one transaction.
    pub page_size: usize,
    /// Messages held in memory for one channel and priority.
    pub lane_capacity: usize,
    /// Outcomes in one group commit.
    pub record_batch: usize,
    /// After this long without a heartbeat a node's pages are taken over.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// How often the safety nets look.
    #[serde(deserialize_with = "duration")]
    pub poll: Duration,
    /// How often scheduled notifications are looked for, whatever was said of them.
    #[serde(deserialize_with = "duration")]
    pub scheduler_interval: Duration,
}

/// The switch of all sending at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sending {
    /// As it was left: unless it was paused, it sends.
    On,
    /// It is paused at the start, for the whole installation.
    Off,
}

/// Section `shutdown`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// For what is in flight.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// Section `log`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Tracing directives.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

pub(super) fn duration<'de, D: Deserializer<'de>>(reader: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(reader)?)
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(reader)?.map(|text| parse_duration(&text)).transpose()
}

/// `"1s, 5s"`; an empty text is none.
pub(super) fn optional_delays<'de, D: Deserializer<'de>>(
    reader: D,
) -> Result<Option<Vec<Duration>>, D::Error> {
    Option::<String>::deserialize(reader)?.as_deref().map(parse_delays).transpose()
}

/// `"1s, 5s"`; an empty text is none.
pub(super) fn delays<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Duration>, D::Error> {
    parse_delays(&String::deserialize(reader)?)
}

fn parse_delays<E: serde::de::Error>(text: &str) -> Result<Vec<Duration>, E> {
    let delays = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    delays.map(parse_duration).collect()
}

fn parse_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text)
        .map_err(|e| E::custom(format!("`{text}` is no duration such as \"10s\": {e}")))
}
