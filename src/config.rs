//! The configuration: environment over `fanfare.toml` over `config/default.toml`, every value checked at start.

mod check;
mod sections;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use secrecy::SecretString;
use serde::Deserialize;

pub use sections::*;

use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

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
    ("PROVIDER_TIMEOUT", "channels.timeout", Form::Text),
    ("RATE_LIMIT_PER_CHANNEL", "channels.rate_per_second", Form::Number),
    ("BREAKER_FAILURES", "channels.breaker_failures", Form::Number),
    ("PROVIDER_BASE_URL", "sms.base_url", Form::Text),
    ("PROVIDER_TOKEN", "sms.token", Form::Text),
    ("SMS_WORKERS", "sms.concurrency", Form::Number),
    ("EMAIL_PROVIDER_URL", "email.base_url", Form::Text),
    ("EMAIL_WORKERS", "email.concurrency", Form::Number),
    ("PUSH_PROVIDER_URL", "push.base_url", Form::Text),
    ("PUSH_WORKERS", "push.concurrency", Form::Number),
    ("WEBHOOK_PROVIDER_URL", "webhook.base_url", Form::Text),
    ("WEBHOOK_WORKERS", "webhook.concurrency", Form::Number),
    ("DISCORD_PROVIDER_URL", "discord.base_url", Form::Text),
    ("DISCORD_WORKERS", "discord.concurrency", Form::Number),
    ("IN_APP_PROVIDER_URL", "in_app.base_url", Form::Text),
    ("IN_APP_WORKERS", "in_app.concurrency", Form::Number),
    ("INBOX_KEEP", "in_app.keep", Form::Text),
    ("INBOX_SECRET", "in_app.secret", Form::Text),
    ("INBOX_ORIGINS", "in_app.origins", Form::Text),
    ("RETRY_FIRST_DELAY", "retry.first_delay", Form::Text),
    ("RETRY_FACTOR", "retry.factor", Form::Number),
    ("RETRY_LIMIT", "retry.limit", Form::Number),
    ("RETRY_INTERVAL", "retry.interval", Form::Text),
    ("RETRY_BACKOFF_1", "notifications.retry_backoff_1", Form::Text),
    ("RETRY_BACKOFF_2", "notifications.retry_backoff_2", Form::Text),
    ("RETRY_BACKOFF_3", "notifications.retry_backoff_3", Form::Text),
    ("NOTIFICATION_SYNC_WAIT", "notifications.sync_wait", Form::Text),
    ("NOTIFICATION_INTAKE_LIMIT", "notifications.intake_limit", Form::Number),
    ("IDEMPOTENCY_KEEP", "idempotency.keep", Form::Text),
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
    /// Where the data is.
    pub database: Database,
    /// What this node does.
    pub node: Node,
    /// Where the API listens.
    pub http: Http,
    /// Who may call it.
    #[serde(default)]
    pub access: Access,
    /// What holds for every channel.
    pub channels: Channels,
    /// Text messages.
    pub sms: Sms,
    /// Mails.
    pub email: Gateway,
    /// Notifications on devices.
    pub push: Gateway,
    /// Requests to a URL of the recipient's.
    pub webhook: Gateway,
    /// Messages into Discord channels.
    pub discord: Gateway,
    /// Messages in a user's inbox.
    pub in_app: InApp,
    /// When a mailing's message is tried again.
    pub retry: Retry,
    /// Single notifications.
    pub notifications: Notifications,
    /// Requests that are sent twice.
    pub idempotency: Idempotency,
    /// The engine's sizes.
    pub delivery: Delivery,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is logged.
    pub log: Log,
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
            let complaints = e
                .into_iter()
                .map(|one| crate::error::FieldError::new(named(&one.path.join(".")), one.kind.to_string()));
            Error::Invalid(complaints.collect())
        })?;
        config.read_key_file()?;
        check::check(&config)?;
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

    /// Where the API listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.http.host, self.http.port)
    }

    /// Where a channel's messages go, without a slash at the end; `None` when it has no provider. Without an address of
    /// its own a channel goes to the sandbox, unless text messages go to a real provider: what is asked of a service
    /// that is in earnest must not end in a sandbox, or nowhere. The inboxes need no provider.
    pub fn provider(&self, channel: ChannelKind) -> Option<&str> {
        let sandbox = self.is_tried_out(channel).then_some(SANDBOX_URL);
        self.base_url(channel).or(sandbox).map(|url| url.trim_end_matches('/'))
    }

    /// Why nothing can be sent over a channel, and what to set; `None` when it has a provider.
    pub fn missing_provider(&self, channel: ChannelKind) -> Option<String> {
        (self.provider(channel).is_none() && !self.keeps_inboxes(channel)).then(|| {
            let variable = variable(&format!("{channel}.base_url")).unwrap_or_default();
            format!(
                "`{channel}` has no provider here: set {variable}, or leave PROVIDER_BASE_URL unset to try it with \
                 the sandbox"
            )
        })
    }

    /// The bearer token that a channel's provider is shown. The sandbox knows one for all channels; the one of a real
    /// SMS provider is nobody else's business.
    pub fn token(&self, channel: ChannelKind) -> Option<&SecretString> {
        self.sms.token.as_ref().filter(|_| channel == ChannelKind::Sms || self.is_tried_out(channel))
    }

    /// Requests in flight at once on a channel.
    pub fn concurrency(&self, channel: ChannelKind) -> usize {
        match channel {
            ChannelKind::Sms => self.sms.concurrency,
            ChannelKind::InApp => self.in_app.concurrency,
            _ => self.gateway(channel).map_or(1, |gateway| gateway.concurrency),
        }
    }

    /// Messages a second on a channel; `None` for no limit. When nothing is said, a real provider is spared and the
    /// sandbox is not.
    pub fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let is_free = self.is_tried_out(channel) || self.keeps_inboxes(channel);
        let default = if is_free { 0.0 } else { DEFAULT_RATE };
        Some(self.channels.rate_per_second.unwrap_or(default)).filter(|rate| *rate > 0.0)
    }

    /// Whether a channel goes to the sandbox because nothing else was said.
    fn is_tried_out(&self, channel: ChannelKind) -> bool {
        self.sms.base_url.is_none() && self.base_url(channel).is_none() && !self.keeps_inboxes(channel)
    }

    /// Whether a channel goes into inboxes that the service keeps itself.
    pub fn keeps_inboxes(&self, channel: ChannelKind) -> bool {
        channel == ChannelKind::InApp && self.in_app.base_url.is_none()
    }

    fn base_url(&self, channel: ChannelKind) -> Option<&str> {
        let url = match channel {
            ChannelKind::Sms => &self.sms.base_url,
            ChannelKind::InApp => &self.in_app.base_url,
            _ => &self.gateway(channel)?.base_url,
        };
        url.as_deref()
    }

    fn gateway(&self, channel: ChannelKind) -> Option<&Gateway> {
        match channel {
            ChannelKind::Sms | ChannelKind::InApp => None,
            ChannelKind::Email => Some(&self.email),
            ChannelKind::Push => Some(&self.push),
            ChannelKind::Webhook => Some(&self.webhook),
            ChannelKind::Discord => Some(&self.discord),
        }
    }
}

/// The variable that sets a key.
fn variable(key: &str) -> Option<&'static str> {
    ENVIRONMENT.iter().find(|(_, known, _)| *known == key).map(|(variable, ..)| *variable)
}

/// A key as complaints name it: `http.port (HTTP_PORT)`.
pub fn named(key: &str) -> String {
    variable(key).map_or_else(|| key.to_owned(), |variable| format!("{key} ({variable})"))
}

/// One setting over what stands so far. A number that is none stays a text, for the message to show.
fn set(figment: Figment, key: &str, text: &str, form: Form) -> Figment {
    match (form, text.parse::<i64>(), text.parse::<f64>()) {
        (Form::Number, Ok(whole), _) => figment.merge((key, whole)),
        (Form::Number, _, Ok(fraction)) => figment.merge((key, fraction)),
        _ => figment.merge((key, text)),
    }
}
