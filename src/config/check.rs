//! Checks the values of the configuration. All invalid values are reported at once, each with its key and variable.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Broker, Config, Kafka, Role, named};
use crate::error::{Complaints, Result};
use crate::kinds::ChannelKind;

const MILLISECOND: f64 = 0.001;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// Checks a configuration.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) with each invalid value.
pub(super) fn check(config: &Config) -> Result<()> {
    let mut bounds = Bounds(Complaints::default());
    sizes(config, &mut bounds);
    times(config, &mut bounds);
    let Bounds(mut wrong) = bounds;
    if config.node.role != Role::All && config.database.url.expose_secret().starts_with("sqlite:") {
        wrong.add(
            "node.role (FANFARE_ROLE, --role)",
            "must be all on SQLite, which has one node; api and worker need PostgreSQL",
        );
    }
    providers(config, &mut wrong);
    access(config, &mut wrong);
    hosts(config, &mut wrong);
    inboxes(config, &mut wrong);
    preferences(config, &mut wrong);
    broker(&config.broker, &mut wrong);
    kafka(&config.kafka, &mut wrong);
    wrong.finish()
}

struct Bounds(Complaints);

impl Bounds {
    fn within(&mut self, key: &str, value: f64, bounds: RangeInclusive<f64>) {
        self.require(named(key), value, &bounds);
    }

    fn seconds(&mut self, key: &str, value: Duration, bounds: RangeInclusive<f64>) {
        self.require(format!("{}, seconds", named(key)), value.as_secs_f64(), &bounds);
    }

    fn require(&mut self, name: String, value: f64, bounds: &RangeInclusive<f64>) {
        if !bounds.contains(&value) {
            self.0.add(name, format!("must be {} to {}, not {value}", bounds.start(), bounds.end()));
        }
    }
}

fn sizes(config: &Config, bounds: &mut Bounds) {
    bounds.within("database.pool_size", f64::from(config.database.pool_size), 1.0..=100.0);
    bounds.within("http.workers", config.http.workers as f64, 1.0..=256.0);
    bounds.within("http.connections", config.http.connections as f64, 0.0..=1e6);
    bounds.within("http.body_memory", config.http.body_memory as f64, 20.0..=10_000.0);
    bounds.within("clients.import_max_size", config.clients.import_max_size as f64, 1.0..=1_000_000.0);
    for channel in ChannelKind::ALL {
        let limits = config.common(*channel);
        let key = |name: &str| format!("{channel}.{name}");
        bounds.within(&key("concurrency"), limits.concurrency as f64, 1.0..=10_000.0);
        bounds.within(&key("rate_per_second"), limits.rate_per_second.unwrap_or(0.0), 0.0..=1e6);
        let failures = limits.breaker_failures.unwrap_or(0);
        bounds.within(&key("breaker_failures"), f64::from(failures), 0.0..=1e6);
        let delays = limits.retry_delays.unwrap_or_default();
        bounds.within(&format!("{}, number of delays", key("retry_delays")), delays.len() as f64, 0.0..=20.0);
        for delay in delays {
            bounds.seconds(&key("retry_delays"), *delay, MILLISECOND..=DAY);
        }
        if let Some(timeout) = limits.timeout {
            bounds.seconds(&key("timeout"), timeout, MILLISECOND..=10.0 * MINUTE);
        }
    }
    let channels = &config.channels;
    bounds.within("channels.rate_per_second", channels.rate_per_second.unwrap_or(0.0), 0.0..=1e6);
    bounds.within("channels.breaker_failures", f64::from(channels.breaker_failures), 0.0..=1e6);
    bounds.within("retry.factor", f64::from(config.retry.factor), 1.0..=100.0);
    bounds.within("retry.limit", config.retry.limit as f64, 0.0..=20.0);
    bounds.within("notifications.intake_limit", config.notifications.intake_limit as f64, 1000.0..=1e6);
    bounds.within("events.intake_limit", config.events.intake_limit as f64, 1000.0..=1e6);
    bounds.within("request.intake_limit", config.request.intake_limit as f64, 1000.0..=1e6);
    bounds.within("broker.batch", config.broker.batch as f64, 1.0..=5000.0);
    bounds.within("broker.tries", config.broker.tries as f64, 1.0..=100.0);
    bounds.within("kafka.batch", config.kafka.batch as f64, 1.0..=5000.0);
    bounds.within("kafka.tries", config.kafka.tries as f64, 1.0..=100.0);
    let delivery = &config.delivery;
    bounds.within("delivery.page_size", delivery.page_size as f64, 1.0..=5000.0);
    bounds.within("delivery.lane_capacity", delivery.lane_capacity as f64, 1.0..=1e6);
    bounds.within("delivery.record_batch", delivery.record_batch as f64, 1.0..=5000.0);
}

fn times(config: &Config, bounds: &mut Bounds) {
    bounds.seconds("channels.timeout", config.channels.timeout, MILLISECOND..=10.0 * MINUTE);
    bounds.seconds("database.timeout", config.database.timeout, 0.5..=MINUTE);
    bounds.seconds("kafka.session", config.kafka.session, 1.0..=5.0 * MINUTE);
    bounds.seconds("retry.first_delay", config.retry.first_delay, MILLISECOND..=DAY);
    bounds.seconds("retry.interval", config.retry.interval, 0.01..=MINUTE);
    bounds.seconds("retry.after_max", config.retry.after_max, 1.0..=30.0 * DAY);
    let notifications = &config.notifications;
    bounds.seconds("notifications.retry_backoff_1", notifications.retry_backoff_1, MILLISECOND..=DAY);
    bounds.seconds("notifications.retry_backoff_2", notifications.retry_backoff_2, MILLISECOND..=DAY);
    bounds.seconds("notifications.retry_backoff_3", notifications.retry_backoff_3, MILLISECOND..=DAY);
    bounds.seconds("notifications.sync_wait", notifications.sync_wait, 1.0..=5.0 * MINUTE);
    bounds.seconds("idempotency.keep", config.idempotency.keep, MINUTE..=30.0 * DAY);
    bounds.seconds("webhook.disable_after", config.webhook.disable_after, MINUTE..=365.0 * DAY);
    bounds.seconds("webhook.secret_overlap", config.webhook.secret_overlap, 0.0..=30.0 * DAY);
    bounds.seconds("in_app.keep", config.in_app.keep, MINUTE..=3650.0 * DAY);
    bounds.seconds("dead_letters.keep", config.dead_letters.keep, MINUTE..=3650.0 * DAY);
    bounds.within("dead_letters.replay_rate", config.dead_letters.replay_rate, 0.1..=1e5);
    bounds.seconds("delivery.lease", config.delivery.lease, 1.0..=HOUR);
    bounds.seconds("delivery.poll", config.delivery.poll, 0.01..=MINUTE);
    bounds.seconds("delivery.scheduler_interval", config.delivery.scheduler_interval, 0.01..=MINUTE);
}

fn providers(config: &Config, wrong: &mut Complaints) {
    let is_address = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    for channel in ChannelKind::ALL {
        let common = config.common(*channel);
        if !common.base_url.is_none_or(is_address) {
            wrong.add(named(&format!("{channel}.base_url")), "must begin with http:// or https://");
        }
        rate(&format!("{channel}.rate_per_second"), common.rate_per_second, wrong);
        let has_both = common.base_url.is_some() && config.is_direct(*channel);
        if has_both && !matches!(channel, ChannelKind::Discord | ChannelKind::InApp) {
            wrong.add(
                named(&format!("{channel}.base_url")),
                "cannot be combined with the settings of the channel's own protocol: set one of them",
            );
        }
    }
    if !config.sandbox.url.as_deref().is_none_or(is_address) {
        wrong.add(named("sandbox.url"), "must begin with http:// or https://");
    }
    rate("channels.rate_per_second", config.channels.rate_per_second, wrong);
    if config.email.smtp_url.is_some() && config.email.from.is_none() {
        wrong.add(
            named("email.from"),
            "is required with SMTP_URL: the sender, such as `Shop <news@example.com>`",
        );
    }
}

fn rate(key: &str, rate: Option<f64>, wrong: &mut Complaints) {
    if rate.is_some_and(|rate| rate > 0.0 && rate < 0.001) {
        wrong.add(named(key), "must be 0 (no limit) or at least 0.001");
    }
}

fn access(config: &Config, wrong: &mut Complaints) {
    match &config.access.api_key {
        // a key that a header cannot carry unchanged would lock all callers out
        Some(key) if !is_bearable(key.expose_secret()) => wrong.add(
            named("access.api_key"),
            "must have at least 16 ASCII characters, without leading or trailing spaces",
        ),
        // a remote caller can try any number of keys
        Some(key) if !config.http.host.is_loopback() && !is_strong(key.expose_secret()) => wrong.add(
            named("access.api_key"),
            format!(
                "must have at least 32 characters, not all the same, to listen on {}; `openssl rand -hex 32` \
                 generates one",
                config.http.host
            ),
        ),
        None if !config.http.host.is_loopback() => wrong.add(
            named("access.api_key"),
            format!(
                "is required to listen on {}, which is not a loopback address; or set HTTP_HOST=127.0.0.1",
                config.http.host
            ),
        ),
        _ => {}
    }
}

/// Returns true if a key cannot be guessed.
fn is_strong(key: &str) -> bool {
    let first = key.chars().next();
    key.len() >= 32 && key.chars().any(|c| Some(c) != first)
}

fn hosts(config: &Config, wrong: &mut Complaints) {
    for host in config.http.hosts() {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.len() > 253 || !host.bytes().all(is_name) {
            let why = format!("`{host}` is not a host name or an IPv4 address, without scheme and port");
            wrong.add(named("http.allowed_hosts"), why);
        }
    }
}

fn inboxes(config: &Config, wrong: &mut Complaints) {
    if config.in_app.secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 16) {
        wrong.add(named("in_app.secret"), "must have at least 16 characters");
    }
    for origin in config.in_app.origins() {
        // in the form that browsers send, so that it can be compared as text
        let written = url::Url::parse(origin).map(|url| url.origin().ascii_serialization());
        if written.as_deref() != Ok(origin) {
            wrong.add(
                named("in_app.origins"),
                "must be origins such as https://shop.example.com, without a path",
            );
        }
    }
}

fn preferences(config: &Config, wrong: &mut Complaints) {
    let section = &config.preferences;
    if section.quiet_hours_timezone.parse::<chrono_tz::Tz>().is_err() {
        wrong.add(
            named("preferences.quiet_hours_timezone"),
            "must be the IANA name of a time zone, like Europe/Moscow",
        );
    }
    if section.unsubscribe_secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 16) {
        wrong.add(named("preferences.unsubscribe_secret"), "must have at least 16 characters");
    }
    let Some(url) = &config.http.public_url else { return };
    if !is_public(url) {
        wrong.add(
            named("http.public_url"),
            "must be an https URL in ASCII, such as https://mail.example.com, without query and fragment",
        );
    }
}

/// Returns true if links in mail headers can begin with this text unchanged.
fn is_public(text: &str) -> bool {
    let is_plain = text.len() <= 500
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b',' | b'"'));
    let is_base = |url: url::Url| {
        let is_bare = url.query().is_none() && url.fragment().is_none();
        url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && is_bare
    };
    is_plain && url::Url::parse(text).is_ok_and(is_base)
}

fn broker(broker: &Broker, wrong: &mut Complaints) {
    for (key, name) in [("broker.stream", &broker.stream), ("broker.consumer", &broker.consumer)] {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=100).contains(&name.len()) || !name.bytes().all(is_name) {
            wrong.add(named(key), "must have 1 to 100 letters, digits, `-` and `_`");
        }
    }
    let is_token = |token: &str, is_last: bool| match token {
        "*" => true,
        ">" => is_last,
        word => !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'),
    };
    let mut tokens = broker.subject.rsplit('.');
    let is_subject =
        tokens.next().is_some_and(|last| is_token(last, true)) && tokens.all(|t| is_token(t, false));
    if broker.subject.len() > 250 || !is_subject {
        wrong.add(named("broker.subject"), "must be a subject such as fanfare.events.>");
    }
    if broker.url.is_none() && (broker.credentials.is_some() || broker.extra_ca.is_some()) {
        wrong.add(named("broker.url"), "is required with the other settings of the connection");
    }
}

/// Checks the section `kafka`, except the addresses and the names of topics, which are parsed at their use.
fn kafka(kafka: &Kafka, wrong: &mut Complaints) {
    if !(1..=200).contains(&kafka.group.len()) || !kafka.group.bytes().all(|byte| byte.is_ascii_graphic()) {
        wrong.add(named("kafka.group"), "must have 1 to 200 visible ASCII characters");
    }
    let has_login = kafka.username.is_some() || kafka.password.is_some();
    if kafka.brokers.is_none()
        && (kafka.ca.is_some() || kafka.tls || has_login || kafka.sasl_mechanism.is_some())
    {
        wrong.add(named("kafka.brokers"), "is required with the other settings of the connection");
    }
    if kafka.ca.is_some() && !kafka.tls {
        wrong.add(named("kafka.tls"), "must be true with KAFKA_CA");
    }
    if kafka.sasl_mechanism.is_some() && !(kafka.username.is_some() && kafka.password.is_some()) {
        wrong.add(named("kafka.username"), "is required with KAFKA_SASL_MECHANISM, as is KAFKA_PASSWORD");
    }
    if has_login && kafka.sasl_mechanism.is_none() {
        wrong.add(
            named("kafka.sasl_mechanism"),
            "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 with a user name and password",
        );
    }
}

fn is_bearable(key: &str) -> bool {
    key.len() >= 16 && key.trim() == key && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}
