//! The configuration: the environment overrides `fanfare.toml`, which overrides `config/default.toml`. All values are
//! checked at the start.

mod channels;
mod check;
mod sections;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

pub use channels::*;
pub use sections::*;

use crate::error::{Error, FieldError, Result};

/// The commented file with all defaults.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// The default address of the sandbox; SANDBOX_URL sets another.
pub const SANDBOX_URL: &str = "http://127.0.0.1:8090";

/// The variable with the path of the configuration file, for commands without `--config`.
pub const FILE_VARIABLE: &str = "FANFARE_CONFIG";

/// The type of an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A string, also if it consists of digits, such as an API key.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
}

/// The environment variables, each with its key and type. An empty variable counts as unset.
pub const ENVIRONMENT: &[(&str, &str, Form)] = &[
    ("DATABASE_URL", "database.url", Form::Text),
    ("DATABASE_POOL_SIZE", "database.pool_size", Form::Number),
    ("DATABASE_TIMEOUT", "database.timeout", Form::Text),
    ("FANFARE_ROLE", "node.role", Form::Text),
    ("HTTP_HOST", "http.host", Form::Text),
    ("HTTP_PORT", "http.port", Form::Number),
    ("HTTP_WORKERS", "http.workers", Form::Number),
    ("HTTP_CONNECTIONS", "http.connections", Form::Number),
    ("HTTP_BODY_MEMORY", "http.body_memory", Form::Number),
    ("ALLOWED_HOSTS", "http.allowed_hosts", Form::Text),
    ("PUBLIC_URL", "http.public_url", Form::Text),
    ("API_KEY", "access.api_key", Form::Text),
    ("API_KEY_FILE", "access.api_key_file", Form::Text),
    ("DEFAULT_COUNTRY", "clients.default_country", Form::Text),
    ("IMPORT_DIR", "clients.import_dir", Form::Text),
    ("IMPORT_MAX_SIZE", "clients.import_max_size", Form::Number),
    ("PROVIDER_TIMEOUT", "channels.timeout", Form::Text),
    ("RATE_LIMIT_PER_CHANNEL", "channels.rate_per_second", Form::Number),
    ("BREAKER_FAILURES", "channels.breaker_failures", Form::Number),
    ("PROVIDER_BASE_URL", "sms.base_url", Form::Text),
    ("PROVIDER_TOKEN", "sms.token", Form::Text),
    ("SMS_WORKERS", "sms.concurrency", Form::Number),
    ("SMS_RATE_LIMIT", "sms.rate_per_second", Form::Number),
    ("SMS_TIMEOUT", "sms.timeout", Form::Text),
    ("SMS_BREAKER_FAILURES", "sms.breaker_failures", Form::Number),
    ("SMS_RETRY_DELAYS", "sms.retry_delays", Form::Text),
    ("EMAIL_PROVIDER_URL", "email.base_url", Form::Text),
    ("SMTP_URL", "email.smtp_url", Form::Text),
    ("SMTP_FROM", "email.from", Form::Text),
    ("SMTP_TLS", "email.tls", Form::Text),
    ("SMTP_EXTRA_CA", "email.extra_ca", Form::Text),
    ("SMTP_HELLO_NAME", "email.hello_name", Form::Text),
    ("SMTP_REPLY_TO", "email.reply_to", Form::Text),
    ("UNSUBSCRIBE_URL", "email.unsubscribe_url", Form::Text),
    ("EMAIL_WORKERS", "email.concurrency", Form::Number),
    ("EMAIL_RATE_LIMIT", "email.rate_per_second", Form::Number),
    ("EMAIL_TIMEOUT", "email.timeout", Form::Text),
    ("EMAIL_BREAKER_FAILURES", "email.breaker_failures", Form::Number),
    ("EMAIL_RETRY_DELAYS", "email.retry_delays", Form::Text),
    ("PUSH_PROVIDER_URL", "push.base_url", Form::Text),
    ("FCM_SERVICE_ACCOUNT", "push.service_account", Form::Text),
    ("FCM_URL", "push.fcm_url", Form::Text),
    ("PUSH_WORKERS", "push.concurrency", Form::Number),
    ("PUSH_RATE_LIMIT", "push.rate_per_second", Form::Number),
    ("PUSH_TIMEOUT", "push.timeout", Form::Text),
    ("PUSH_BREAKER_FAILURES", "push.breaker_failures", Form::Number),
    ("PUSH_RETRY_DELAYS", "push.retry_delays", Form::Text),
    ("WEBHOOK_PROVIDER_URL", "webhook.base_url", Form::Text),
    ("WEBHOOK_SECRET", "webhook.secret", Form::Text),
    ("WEBHOOK_DISABLE_AFTER", "webhook.disable_after", Form::Text),
    ("WEBHOOK_SECRET_OVERLAP", "webhook.secret_overlap", Form::Text),
    ("WEBHOOK_WORKERS", "webhook.concurrency", Form::Number),
    ("WEBHOOK_RATE_LIMIT", "webhook.rate_per_second", Form::Number),
    ("WEBHOOK_TIMEOUT", "webhook.timeout", Form::Text),
    ("WEBHOOK_BREAKER_FAILURES", "webhook.breaker_failures", Form::Number),
    ("WEBHOOK_RETRY_DELAYS", "webhook.retry_delays", Form::Text),
    ("DISCORD_PROVIDER_URL", "discord.base_url", Form::Text),
    ("DISCORD_WORKERS", "discord.concurrency", Form::Number),
    ("DISCORD_RATE_LIMIT", "discord.rate_per_second", Form::Number),
    ("DISCORD_TIMEOUT", "discord.timeout", Form::Text),
    ("DISCORD_BREAKER_FAILURES", "discord.breaker_failures", Form::Number),
    ("DISCORD_RETRY_DELAYS", "discord.retry_delays", Form::Text),
    ("IN_APP_PROVIDER_URL", "in_app.base_url", Form::Text),
    ("IN_APP_WORKERS", "in_app.concurrency", Form::Number),
    ("IN_APP_RATE_LIMIT", "in_app.rate_per_second", Form::Number),
    ("IN_APP_TIMEOUT", "in_app.timeout", Form::Text),
    ("IN_APP_BREAKER_FAILURES", "in_app.breaker_failures", Form::Number),
    ("IN_APP_RETRY_DELAYS", "in_app.retry_delays", Form::Text),
    ("SANDBOX_URL", "sandbox.url", Form::Text),
    ("REQUEST_WORKERS", "request.concurrency", Form::Number),
    ("REQUEST_RATE_LIMIT", "request.rate_per_second", Form::Number),
    ("REQUEST_RETRY_DELAYS", "request.retry_delays", Form::Text),
    ("REQUEST_INTAKE_LIMIT", "request.intake_limit", Form::Number),
    ("EGRESS_ALLOW", "egress.allow", Form::Text),
    ("CREDENTIALS_KEY", "credentials.key", Form::Text),
    ("INBOX_KEEP", "in_app.keep", Form::Text),
    ("INBOX_SECRET", "in_app.secret", Form::Text),
    ("INBOX_ORIGINS", "in_app.origins", Form::Text),
    ("RETRY_FIRST_DELAY", "retry.first_delay", Form::Text),
    ("RETRY_FACTOR", "retry.factor", Form::Number),
    ("RETRY_LIMIT", "retry.limit", Form::Number),
    ("RETRY_INTERVAL", "retry.interval", Form::Text),
    ("RETRY_AFTER_MAX", "retry.after_max", Form::Text),
    ("RETRY_BACKOFF_1", "notifications.retry_backoff_1", Form::Text),
    ("RETRY_BACKOFF_2", "notifications.retry_backoff_2", Form::Text),
    ("RETRY_BACKOFF_3", "notifications.retry_backoff_3", Form::Text),
    ("NOTIFICATION_SYNC_WAIT", "notifications.sync_wait", Form::Text),
    ("NOTIFICATION_INTAKE_LIMIT", "notifications.intake_limit", Form::Number),
    ("EVENTS_UNKNOWN", "events.unknown", Form::Text),
    ("EVENT_INTAKE_LIMIT", "events.intake_limit", Form::Number),
    ("IDEMPOTENCY_KEEP", "idempotency.keep", Form::Text),
    ("QUIET_HOURS_TIMEZONE", "preferences.quiet_hours_timezone", Form::Text),
    ("UNSUBSCRIBE_SECRET", "preferences.unsubscribe_secret", Form::Text),
    ("BRAND_NAME", "preferences.brand_name", Form::Text),
    ("NATS_URL", "broker.url", Form::Text),
    ("NATS_CREDENTIALS", "broker.credentials", Form::Text),
    ("NATS_EXTRA_CA", "broker.extra_ca", Form::Text),
    ("NATS_STREAM", "broker.stream", Form::Text),
    ("NATS_SUBJECT", "broker.subject", Form::Text),
    ("NATS_CONSUMER", "broker.consumer", Form::Text),
    ("NATS_BATCH", "broker.batch", Form::Number),
    ("NATS_TRIES", "broker.tries", Form::Number),
    ("KAFKA_BROKERS", "kafka.brokers", Form::Text),
    ("KAFKA_TOPICS", "kafka.topics", Form::Text),
    ("KAFKA_GROUP", "kafka.group", Form::Text),
    ("KAFKA_START", "kafka.start", Form::Text),
    ("KAFKA_TLS", "kafka.tls", Form::Flag),
    ("KAFKA_CA", "kafka.ca", Form::Text),
    ("KAFKA_SASL_MECHANISM", "kafka.sasl_mechanism", Form::Text),
    ("KAFKA_USERNAME", "kafka.username", Form::Text),
    ("KAFKA_PASSWORD", "kafka.password", Form::Text),
    ("KAFKA_SESSION", "kafka.session", Form::Text),
    ("KAFKA_BATCH", "kafka.batch", Form::Number),
    ("KAFKA_TRIES", "kafka.tries", Form::Number),
    ("DEAD_LETTER_KEEP", "dead_letters.keep", Form::Text),
    ("REPLAY_RATE", "dead_letters.replay_rate", Form::Number),
    ("SENDING", "delivery.sending", Form::Text),
    ("DELIVERY_PAGE_SIZE", "delivery.page_size", Form::Number),
    ("DELIVERY_LANE_CAPACITY", "delivery.lane_capacity", Form::Number),
    ("DELIVERY_RECORD_BATCH", "delivery.record_batch", Form::Number),
    ("DELIVERY_LEASE", "delivery.lease", Form::Text),
    ("DELIVERY_POLL", "delivery.poll", Form::Text),
    ("SCHEDULER_INTERVAL", "delivery.scheduler_interval", Form::Text),
    ("SHUTDOWN_TIMEOUT", "shutdown.timeout", Form::Text),
    ("LOG_LEVEL", "log.level", Form::Text),
    ("LOG_FORMAT", "log.format", Form::Text),
];

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The database.
    pub database: Database,
    /// The role of this node.
    pub node: Node,
    /// The HTTP server.
    pub http: Http,
    /// The API key.
    #[serde(default)]
    pub access: Access,
    /// Phone numbers and imports of clients.
    #[serde(default)]
    pub clients: Clients,
    /// The defaults of all channels.
    pub channels: Channels,
    /// Text messages.
    pub sms: Sms,
    /// E-mails.
    pub email: Email,
    /// Push notifications on devices.
    pub push: Push,
    /// Requests to a URL of the recipient.
    pub webhook: Webhook,
    /// Messages to Discord channels.
    pub discord: Discord,
    /// Messages in a user's inbox.
    pub in_app: InApp,
    /// Scheduled HTTP requests.
    pub request: Requests,
    /// The provider for tests.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Restrictions of requests to addresses that users give.
    pub egress: Egress,
    /// The encryption of credentials for outgoing requests.
    #[serde(default)]
    pub credentials: Credentials,
    /// Retries of mailings' messages.
    pub retry: Retry,
    /// Single notifications.
    pub notifications: Notifications,
    /// Business events.
    pub events: Events,
    /// Preferences of clients.
    pub preferences: Preferences,
    /// Idempotency keys.
    pub idempotency: Idempotency,
    /// Events from NATS JetStream.
    pub broker: Broker,
    /// Events from Kafka.
    pub kafka: Kafka,
    /// Dead letters.
    pub dead_letters: DeadLetters,
    /// The delivery engine.
    pub delivery: Delivery,
    /// The shutdown of the process.
    pub shutdown: Shutdown,
    /// The log.
    pub log: Log,
}

impl Config {
    /// Reads the file (by default the one in FANFARE_CONFIG, or `fanfare.toml`, which is optional) and the process's
    /// environment. `role` overrides both, and so does `is_paused`, which pauses sending at the start.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each invalid value, or with a configured file that cannot be read.
    pub fn load(file: Option<&Path>, role: Option<Role>, is_paused: bool) -> Result<Self> {
        let mut figment = Self::layers(file, |_| true)?;
        if let Some(role) = role {
            figment = figment.merge(("node.role", role.as_str()));
        }
        if is_paused {
            figment = figment.merge(("delivery.sending", "off"));
        }
        Self::from_figment(figment)
    }

    /// Returns the URL of the health check of a service with this configuration on the same machine. All other settings
    /// may be missing or invalid.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid address, the port 0, or a configured file that cannot be read.
    pub fn health_url(file: Option<&Path>) -> Result<String> {
        #[derive(Deserialize)]
        struct Listen {
            host: IpAddr,
            port: u16,
        }
        let figment = Self::layers(file, |key| key == "http.host" || key == "http.port")?;
        let Listen { host, port } = figment.extract_inner("http").map_err(|e| unreadable("", e))?;
        if port == 0 {
            let why = "is 0, which selects a free port at each start: pass the address with --url";
            return Err(Error::invalid(named("http.port"), why));
        }
        let host = match host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        Ok(format!("http://{}/health", SocketAddr::new(host, port)))
    }

    /// Returns the layers, each of which overrides the one before: the defaults, the file, and the environment
    /// variables of the `wanted` keys.
    fn layers(file: Option<&Path>, wanted: impl Fn(&str) -> bool) -> Result<Figment> {
        let of_environment = std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty());
        let (said, by) = match (file, &of_environment) {
            (Some(path), _) => (Some(path), "--config"),
            (None, path) => (path.as_ref().map(Path::new), FILE_VARIABLE),
        };
        if let Some(path) = said
            && !path.is_file()
        {
            return Err(Error::invalid(by, format!("file not found: {}", path.display())));
        }
        let file = said.unwrap_or(Path::new("fanfare.toml"));
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if file.is_file() {
            figment = figment.merge(Toml::file_exact(file));
        }
        for (variable, key, form) in ENVIRONMENT.iter().filter(|(_, key, _)| wanted(key)) {
            match std::env::var(variable) {
                Ok(text) if !text.is_empty() => figment = set(figment, key, &text, *form),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Error::invalid(*variable, "is not UTF-8"));
                }
                _ => {}
            }
        }
        Ok(figment)
    }

    /// Returns the defaults with these keys set, such as `("http.port", "0")`; for tests and the demo.
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
        let mut config: Self = figment.extract().map_err(|e| unreadable("", e))?;
        config.read_key_file()?;
        check::check(&config)?;
        Ok(config)
    }

    fn read_key_file(&mut self) -> Result<()> {
        if let Some(path) = &self.access.api_key_file {
            if self.access.api_key.is_some() {
                return Err(Error::invalid(
                    "access.api_key_file (API_KEY_FILE)",
                    "set this or API_KEY, not both",
                ));
            }
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::invalid("access.api_key_file (API_KEY_FILE)", format!("{}: {e}", path.display()))
            })?;
            self.access.api_key = Some(text.trim().to_owned().into());
        }
        Ok(())
    }

    /// Returns the address on which the API listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.http.host, self.http.port)
    }
}

/// Converts an error of figment into one with all unreadable values below `section` (with its dot; empty for all).
pub fn unreadable(section: &str, error: figment::Error) -> Error {
    let complaint = |one: figment::Error| {
        FieldError::new(named(&format!("{section}{}", one.path.join("."))), one.kind.to_string())
    };
    Error::Invalid(error.into_iter().map(complaint).collect())
}

/// Returns the variable of a key.
fn variable(key: &str) -> Option<&'static str> {
    ENVIRONMENT.iter().find(|(_, known, _)| *known == key).map(|(variable, ..)| *variable)
}

/// Returns a key's name in error messages: `http.port (HTTP_PORT)`.
pub fn named(key: &str) -> String {
    variable(key).map_or_else(|| key.to_owned(), |variable| format!("{key} ({variable})"))
}

/// Overrides one setting. An invalid number stays a string, so that the error message shows it.
fn set(figment: Figment, key: &str, text: &str, form: Form) -> Figment {
    match (form, text.parse::<i64>(), text.parse::<f64>()) {
        (Form::Number, Ok(whole), _) => figment.merge((key, whole)),
        (Form::Number, _, Ok(fraction)) => figment.merge((key, fraction)),
        (Form::Flag, ..) if text == "true" || text == "false" => figment.merge((key, text == "true")),
        _ => figment.merge((key, text)),
    }
}
