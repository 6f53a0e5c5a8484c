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

/// Section `channels`: what holds for each of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// For one request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Messages a second on each channel; 0 or none is explained at [`Config::rate`](super::Config::rate).
    pub rate_per_second: Option<f64>,
    /// Failures in a row after which a provider is left alone for a while; 0 for never.
    pub breaker_failures: u32,
}

/// Section `sms`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    /// The provider; none means the sandbox.
    pub base_url: Option<String>,
    /// The provider's bearer token.
    pub token: Option<SecretString>,
    /// Requests in flight at once.
    pub concurrency: usize,
}

/// Sections `email`, `push`, `webhook` and `discord`: a channel that goes out through a gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The gateway; none is explained at [`Config::provider`](super::Config::provider).
    pub base_url: Option<String>,
    /// Requests in flight at once.
    pub concurrency: usize,
}

/// Section `in_app`: users' inboxes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InApp {
    /// A gateway that keeps the inboxes; none means that the service keeps them itself.
    pub base_url: Option<String>,
    /// Messages on their way into inboxes at once.
    pub concurrency: usize,
    /// How long a message stands in an inbox.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
    /// What the tokens of users' pages are made with; none means the API key.
    pub secret: Option<SecretString>,
    /// Origins whose pages may show inboxes, separated by commas or spaces; none means the service's own.
    pub origins: Option<String>,
}

impl InApp {
    /// The origins, one by one.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        let all = self.origins.as_deref().unwrap_or_default();
        all.split([',', ' ']).filter(|origin| !origin.is_empty())
    }
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

/// Section `idempotency`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// How long the key of a request is known.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
}

/// Section `delivery`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
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

fn duration<'de, D: Deserializer<'de>>(reader: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(reader)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("`{text}` is no duration such as \"10s\": {e}")))
}
