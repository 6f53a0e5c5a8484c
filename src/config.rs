//! The configuration: environment over `fanfare.toml` over `config/default.toml`, every value checked at start.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Toml};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::error::{Complaints, Error, Result};

/// The commented file that is also the default.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// Where the sandbox listens unless told otherwise.
pub const SANDBOX_URL: &str = "http://127.0.0.1:8090";

/// What a real provider is assumed to bear when nothing is said.
const DEFAULT_RATE: f64 = 100.0;

/// How an environment variable's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it stands: an API key of digits is a text.
    Text,
    /// As a number.
    Number,
}

/// Each environment variable, the key that it sets, and how it is read. An empty variable counts as unset.
pub const ENVIRONMENT: &[(&str, &str, Form)] = &[
    ("DATABASE_URL", "database.url", Form::Text),
    ("DATABASE_POOL_SIZE", "database.pool_size", Form::Number),
    ("FANFARE_ROLE", "node.role", Form::Text),
    ("HTTP_HOST", "http.host", Form::Text),
    ("HTTP_PORT", "http.port", Form::Number),
    ("HTTP_WORKERS", "http.workers", Form::Number),
    ("API_KEY", "access.api_key", Form::Text),
    ("API_KEY_FILE", "access.api_key_file", Form::Text),
    ("PROVIDER_BASE_URL", "sms.base_url", Form::Text),
    ("PROVIDER_TOKEN", "sms.token", Form::Text),
    ("PROVIDER_TIMEOUT", "sms.timeout", Form::Text),
    ("SMS_WORKERS", "sms.concurrency", Form::Number),
    ("RATE_LIMIT_PER_CHANNEL", "sms.rate_per_second", Form::Number),
    ("BREAKER_FAILURES", "sms.breaker_failures", Form::Number),
    ("RETRY_FIRST_DELAY", "retry.first_delay", Form::Text),
    ("RETRY_FACTOR", "retry.factor", Form::Number),
    ("RETRY_LIMIT", "retry.limit", Form::Number),
    ("DELIVERY_PAGE_SIZE", "delivery.page_size", Form::Number),
    ("DELIVERY_LANE_CAPACITY", "delivery.lane_capacity", Form::Number),
    ("DELIVERY_RECORD_BATCH", "delivery.record_batch", Form::Number),
    ("DELIVERY_LEASE", "delivery.lease", Form::Text),
    ("DELIVERY_POLL", "delivery.poll", Form::Text),
    ("SHUTDOWN_TIMEOUT", "shutdown.timeout", Form::Text),
    ("LOG_LEVEL", "log.level", Form::Text),
    ("LOG_FORMAT", "log.format", Form::Text),
];

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the data is.
    pub database: Database,
    /// What this node does.
    pub node: Node,
    /// Where the API listens.
    pub http: Http,
    /// Who may call it.
    #[serde(default)]
    pub access: Access,
    /// The text-message channel.
    pub sms: Sms,
    /// When a message is tried again.
    pub retry: Retry,
    /// The engine's sizes.
    pub delivery: Delivery,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is logged.
    pub log: Log,
}

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
    fn as_str(self) -> &'static str {
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

/// Section `sms`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    /// The provider; none means the sandbox.
    pub base_url: Option<String>,
    /// The provider's bearer token.
    pub token: Option<SecretString>,
    /// For one request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Messages a second; 0 or none is explained at [`Sms::rate`].
    pub rate_per_second: Option<f64>,
    /// Failures in a row after which the provider is left alone for a while; 0 for never.
    pub breaker_failures: u32,
}

impl Sms {
    /// The provider's address, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base_url.as_deref().unwrap_or(SANDBOX_URL).trim_end_matches('/')
    }

    /// Messages a second; `None` for no limit.
    pub fn rate(&self) -> Option<f64> {
        let default = if self.base_url.is_some() { DEFAULT_RATE } else { 0.0 };
        Some(self.rate_per_second.unwrap_or(default)).filter(|rate| *rate > 0.0)
    }
}

/// Section `retry`.
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

impl Config {
    /// Reads the file (by default `fanfare.toml`, which need not exist) and the process's environment; a `role` wins over
    /// both.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names each wrong value, or a file that was named and cannot be read.
    pub fn load(file: Option<&Path>, role: Option<Role>) -> Result<Self> {
        if let Some(path) = file
            && !path.is_file()
        {
            return Err(Error::invalid("--config", format!("there is no file {}", path.display())));
        }
        let file = file.unwrap_or(Path::new("fanfare.toml"));
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if file.is_file() {
            figment = figment.merge(Toml::file_exact(file));
        }
        for (variable, key, form) in ENVIRONMENT {
            match std::env::var(variable) {
                Ok(text) if !text.is_empty() => figment = set(figment, key, &text, *form),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Error::invalid(*variable, "is not UTF-8"));
                }
                _ => {}
            }
        }
        if let Some(role) = role {
            figment = figment.merge(("node.role", role.as_str()));
        }
        Self::from_figment(figment)
    }

    /// The defaults with these keys set, such as `("http.port", "0")`; for tests and the demo.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let base = Figment::from(Toml::string(DEFAULT));
        let form = |key: &str| {
            ENVIRONMENT.iter().find(|(_, k, _)| *k == key).map_or(Form::Text, |(_, _, form)| *form)
        };
        Self::from_figment(settings.iter().fold(base, |f, (key, text)| set(f, key, text, form(key))))
    }

    fn from_figment(figment: Figment) -> Result<Self> {
        let mut config: Self = figment.extract().map_err(|e| {
            let complaints = e.into_iter().map(|one| {
                let key = one.path.join(".");
                let name = ENVIRONMENT
                    .iter()
                    .find(|(_, k, _)| *k == key)
                    .map_or(String::new(), |(v, ..)| format!(" ({v})"));
                crate::error::FieldError::new(format!("{key}{name}"), one.kind.to_string())
            });
            Error::Invalid(complaints.collect())
        })?;
        config.read_key_file()?;
        config.check()?;
        Ok(config)
    }

    fn read_key_file(&mut self) -> Result<()> {
        if let Some(path) = &self.access.api_key_file {
            if self.access.api_key.is_some() {
                return Err(Error::invalid(
                    "access.api_key_file (API_KEY_FILE)",
                    "set it or API_KEY, not both",
                ));
            }
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::invalid("access.api_key_file (API_KEY_FILE)", format!("{}: {e}", path.display()))
            })?;
            self.access.api_key = Some(text.trim().to_owned().into());
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let mut wrong = Complaints::default();
        let mut within = |key: &str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                wrong.add(key, format!("must be {low} to {high}, not {value}"));
            }
        };
        within("database.pool_size (DATABASE_POOL_SIZE)", f64::from(self.database.pool_size), 1.0, 100.0);
        within("http.workers (HTTP_WORKERS)", self.http.workers as f64, 1.0, 256.0);
        within("sms.concurrency (SMS_WORKERS)", self.sms.concurrency as f64, 1.0, 10_000.0);
        within("sms.timeout (PROVIDER_TIMEOUT), seconds", self.sms.timeout.as_secs_f64(), 0.001, 600.0);
        within(
            "sms.rate_per_second (RATE_LIMIT_PER_CHANNEL)",
            self.sms.rate_per_second.unwrap_or(0.0),
            0.0,
            1e6,
        );
        within("sms.breaker_failures (BREAKER_FAILURES)", f64::from(self.sms.breaker_failures), 0.0, 1e6);
        within(
            "retry.first_delay (RETRY_FIRST_DELAY), seconds",
            self.retry.first_delay.as_secs_f64(),
            0.001,
            86_400.0,
        );
        within("retry.factor (RETRY_FACTOR)", f64::from(self.retry.factor), 1.0, 100.0);
        within("retry.limit (RETRY_LIMIT)", self.retry.limit as f64, 0.0, 20.0);
        within("delivery.page_size (DELIVERY_PAGE_SIZE)", self.delivery.page_size as f64, 1.0, 5000.0);
        within(
            "delivery.lane_capacity (DELIVERY_LANE_CAPACITY)",
            self.delivery.lane_capacity as f64,
            1.0,
            1e6,
        );
        within(
            "delivery.record_batch (DELIVERY_RECORD_BATCH)",
            self.delivery.record_batch as f64,
            1.0,
            5000.0,
        );
        within("delivery.lease (DELIVERY_LEASE), seconds", self.delivery.lease.as_secs_f64(), 1.0, 3600.0);
        within("delivery.poll (DELIVERY_POLL), seconds", self.delivery.poll.as_secs_f64(), 0.01, 60.0);
        if self.node.role != Role::All && self.database.url.expose_secret().starts_with("sqlite:") {
            wrong.add(
                "node.role (FANFARE_ROLE, --role)",
                "must be all on SQLite, which has one node; api and worker need PostgreSQL",
            );
        }
        if !self.sms.base_url().starts_with("http://") && !self.sms.base_url().starts_with("https://") {
            wrong.add("sms.base_url (PROVIDER_BASE_URL)", "must begin with http:// or https://");
        }
        if self.sms.rate_per_second.is_some_and(|rate| rate > 0.0 && rate < 0.001) {
            wrong.add(
                "sms.rate_per_second (RATE_LIMIT_PER_CHANNEL)",
                "must be 0 (no limit) or at least 0.001",
            );
        }
        match &self.access.api_key {
            // what a header could not carry as it stands would lock everyone out
            Some(key) if !is_bearable(key.expose_secret()) => wrong.add(
                "access.api_key (API_KEY)",
                "must have at least 16 characters of ASCII, without spaces at its ends",
            ),
            None if !self.http.host.is_loopback() => wrong.add(
                "access.api_key (API_KEY)",
                format!(
                    "must be set to listen on {}, which is not loopback; or set HTTP_HOST=127.0.0.1",
                    self.http.host
                ),
            ),
            _ => {}
        }
        wrong.finish()
    }

    /// Where the API listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.http.host, self.http.port)
    }
}

fn is_bearable(key: &str) -> bool {
    key.len() >= 16 && key.trim() == key && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// One setting over what stands so far. A number that is none stays a text, for the message to show.
fn set(figment: Figment, key: &str, text: &str, form: Form) -> Figment {
    match (form, text.parse::<i64>(), text.parse::<f64>()) {
        (Form::Number, Ok(whole), _) => figment.merge((key, whole)),
        (Form::Number, _, Ok(fraction)) => figment.merge((key, fraction)),
        _ => figment.merge((key, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(settings: &[(&str, &str)]) -> String {
        Config::with(settings).unwrap_err().to_string()
    }

    #[test]
    fn the_default_file_is_a_whole_configuration() {
        let config = Config::with(&[]).unwrap();
        assert_eq!(config.listen().to_string(), "127.0.0.1:8083");
        assert_eq!(config.sms.rate(), None, "the sandbox has no limit");
    }

    #[test]
    fn every_variable_is_written_in_the_default_file() {
        for (variable, _, _) in ENVIRONMENT {
            assert!(DEFAULT.contains(variable), "{variable}");
        }
    }

    #[test]
    fn a_real_provider_is_limited_unless_told_otherwise() {
        assert_eq!(
            Config::with(&[("sms.base_url", "https://sms.example.com/")]).unwrap().sms.rate(),
            Some(100.0)
        );
        let free = [("sms.base_url", "https://sms.example.com"), ("sms.rate_per_second", "0")];
        assert_eq!(Config::with(&free).unwrap().sms.rate(), None);
    }

    #[test]
    fn a_public_address_needs_a_key() {
        assert!(complaint(&[("http.host", "0.0.0.0")]).contains("API_KEY"));
        assert!(complaint(&[("access.api_key", "short")]).contains("at least 16"));
        assert!(Config::with(&[("http.host", "0.0.0.0"), ("access.api_key", "1234567890123456")]).is_ok());
    }

    #[test]
    fn one_node_on_sqlite_does_everything() {
        for role in ["api", "worker"] {
            assert!(complaint(&[("node.role", role)]).contains("SQLite"));
            let nodes = [("node.role", role), ("database.url", "postgres://user@host/fanfare")];
            assert!(Config::with(&nodes).is_ok());
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_variable() {
        assert!(complaint(&[("http.port", "many")]).contains("HTTP_PORT"));
        assert!(complaint(&[("sms.timeout", "soon")]).contains("PROVIDER_TIMEOUT"));
        assert!(complaint(&[("delivery.page_size", "0")]).contains("DELIVERY_PAGE_SIZE"));
        assert!(complaint(&[("log.format", "xml")]).contains("LOG_FORMAT"));
        assert!(complaint(&[("http.prot", "1")]).contains("prot"));
        assert!(complaint(&[("node.role", "boss")]).contains("FANFARE_ROLE"));
    }
}
