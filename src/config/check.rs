//! Checks the relations between settings. The declaration of a setting checks its value alone.

use secrecy::ExposeSecret;

use super::{Broker, Config, Kafka, Role, named};
use crate::error::Complaints;
use crate::kinds::ChannelKind;

/// Adds what is wrong with a configuration of valid values.
pub(super) fn relations(config: &Config, wrong: &mut Complaints) {
    if config.node.role != Role::All && config.database.url.expose_secret().starts_with("sqlite:") {
        wrong.add(
            "node.role (FANFARE_ROLE, --role)",
            "must be all on SQLite, which has one node; api and worker need PostgreSQL",
        );
    }
    providers(config, wrong);
    access(config, wrong);
    broker(&config.broker, wrong);
    kafka(&config.kafka, wrong);
}

fn providers(config: &Config, wrong: &mut Complaints) {
    for channel in ChannelKind::ALL {
        let common = config.common(*channel);
        if common.base_url.is_some() && common.has_provider() {
            wrong.add(
                named(&format!("{channel}.base_url")),
                "cannot be combined with the settings of the channel's own protocol: set one of them",
            );
        }
    }
    if config.email.smtp_url.is_some() && config.email.from.is_none() {
        wrong.add(
            named("email.from"),
            "is required with SMTP_URL: the sender, such as `Shop <news@example.com>`",
        );
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

/// Returns true if a header can carry a key unchanged.
fn is_bearable(key: &str) -> bool {
    key.len() >= 16 && key.trim() == key && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Checks the connection to NATS.
fn broker(broker: &Broker, wrong: &mut Complaints) {
    if broker.url.is_none() && (broker.credentials.is_some() || broker.extra_ca.is_some()) {
        wrong.add(named("broker.url"), "is required with the other settings of the connection");
    }
}

/// Checks the section `kafka`, except the addresses and the names of topics, which are parsed at their use.
fn kafka(kafka: &Kafka, wrong: &mut Complaints) {
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
