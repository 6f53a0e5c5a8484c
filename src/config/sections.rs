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
    /// The URL, `sqlite://PATH` or `postgres://…`; secret, since it may contain a password.
    pub url: SecretString,
    /// The number of connections for reading, and on PostgreSQL also for writing.
    pub pool_size: u32,
    /// The time limit of the database for a request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// Section `node`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The node's role.
    pub role: Role,
}

/// The role of a node; on PostgreSQL there may be any number of nodes in each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    All,
    /// The API; other nodes send.
    Api,
    /// The watchdog and the delivery engine; over HTTP only the probes and the metrics.
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
    /// The port; 0 selects a free one.
    pub port: u16,
    /// The number of threads that serve requests.
    pub workers: usize,
    /// The limit of connections; 0 derives it from the limit of descriptors.
    pub connections: usize,
    /// The memory of all request bodies together, and of all large responses together, in MiB.
    pub body_memory: usize,
    /// The names besides loopback's that `Host` may have, separated by commas.
    pub allowed_hosts: Option<String>,
    /// The URL by which recipients reach this service, for links in mails.
    pub public_url: Option<String>,
}

impl Http {
    /// Returns the single allowed hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let hosts = self.allowed_hosts.as_deref().unwrap_or_default();
        hosts.split([',', ' ']).filter(|host| !host.is_empty())
    }
}

/// Section `preferences`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The IANA name of the time zone of clients without their own.
    pub quiet_hours_timezone: String,
    /// The secret of unsubscribe links; by default a generated one that is stored in the database.
    pub unsubscribe_secret: Option<SecretString>,
    /// The sender's name on the pages to unsubscribe.
    pub brand_name: Option<String>,
}

/// Section `access`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The API key that requests must have.
    pub api_key: Option<SecretString>,
    /// A file with the API key.
    pub api_key_file: Option<PathBuf>,
}

/// Section `clients`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// The two-letter code of the country of national phone numbers.
    pub default_country: Option<String>,
    /// The folder for received import files; by default the system's folder for temporary files.
    pub import_dir: Option<String>,
    /// The size limit of such a file in MiB.
    pub import_max_size: u64,
}

/// Section `egress`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// The private networks that requests may go to, separated by commas.
    pub allow: String,
}

/// Section `credentials`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The encryption keys, separated by white space. The first encrypts, and all decrypt.
    pub key: Option<SecretString>,
}

/// Section `retry`: retries of mailings' messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The delay before the first retry.
    #[serde(deserialize_with = "duration")]
    pub first_delay: Duration,
    /// The factor between one delay and the next.
    pub factor: f32,
    /// The number of retries.
    pub limit: usize,
    /// The poll interval for due retries, in case that a wake-up is missed.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// The longest `Retry-After` that is respected.
    #[serde(deserialize_with = "duration")]
    pub after_max: Duration,
}

/// Section `notifications`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    /// The delay before the second attempt.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_1: Duration,
    /// The delay before the third attempt.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_2: Duration,
    /// The delay before the fourth and last attempt.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff_3: Duration,
    /// The longest wait of a request for its notification's final state.
    #[serde(deserialize_with = "duration")]
    pub sync_wait: Duration,
    /// The number of notifications that may wait for the database at once.
    pub intake_limit: usize,
}

impl Notifications {
    /// Returns the delays between the attempts.
    pub fn backoff(&self) -> Vec<Duration> {
        vec![self.retry_backoff_1, self.retry_backoff_2, self.retry_backoff_3]
    }
}

/// Section `events`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// The handling of events without a matching route.
    pub unknown: UnknownEvents,
    /// The number of events that may wait for the database at once.
    pub intake_limit: usize,
}

/// The handling of events without a matching route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownEvents {
    /// Refuses them, so that a misspelt name is noticed.
    Refuse,
    /// Stores them without sending messages.
    Accept,
}

/// Section `idempotency`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The retention of idempotency keys.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

/// Section `broker`: events from NATS JetStream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// The URL `nats://…` or `tls://…`, or several separated by commas; secret, since it may contain a password. `None`
    /// turns NATS off.
    pub url: Option<SecretString>,
    /// A credentials file with a JWT and the seed of a key.
    pub credentials: Option<PathBuf>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub extra_ca: Option<PathBuf>,
    /// The JetStream stream.
    pub stream: String,
    /// The subjects to read.
    pub subject: String,
    /// The durable consumer that all nodes share.
    pub consumer: String,
    /// The greatest number of events in one commit.
    pub batch: usize,
    /// The number of deliveries after which a refused event becomes a dead letter.
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
    /// The retention of dead letters.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
    /// The default rate of a replay by filter, in dead letters per second.
    pub replay_rate: f64,
}

/// Section `delivery`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The state of sending at the start.
    pub sending: Sending,
    /// The number of recipients in one planned lease.
    pub page_size: usize,
    /// The number of messages in memory for one channel and priority.
    pub lane_capacity: usize,
    /// The greatest number of outcomes in one group commit.
    pub record_batch: usize,
    /// The time without a heartbeat after which a node's leases are taken over.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// The poll interval of the watchdog and other periodic checks.
    #[serde(deserialize_with = "duration")]
    pub poll: Duration,
    /// The poll interval for scheduled notifications, in case that a wake-up is missed.
    #[serde(deserialize_with = "duration")]
    pub scheduler_interval: Duration,
}

/// The state of sending at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sending {
    /// Unchanged: sending is on, unless it was paused before.
    On,
    /// Paused for the whole installation.
    Off,
}

/// Section `shutdown`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// The time for attempts in flight to end.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// Section `log`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level, or tracing directives.
    pub level: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// The format of log lines.
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

/// Reads optional delays such as `"1s, 5s"`; a blank text is an empty list.
pub(super) fn optional_delays<'de, D: Deserializer<'de>>(
    reader: D,
) -> Result<Option<Vec<Duration>>, D::Error> {
    Option::<String>::deserialize(reader)?.as_deref().map(parse_delays).transpose()
}

/// Reads delays such as `"1s, 5s"`; a blank text is an empty list.
pub(super) fn delays<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Duration>, D::Error> {
    parse_delays(&String::deserialize(reader)?)
}

fn parse_delays<E: serde::de::Error>(text: &str) -> Result<Vec<Duration>, E> {
    let delays = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    delays.map(parse_duration).collect()
}

fn parse_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text)
        .map_err(|e| E::custom(format!("`{text}` is not a duration such as \"10s\": {e}")))
}
