//! Rules of single values, for the declarations of the settings.

use secrecy::{ExposeSecret, SecretString};

use super::setting::Setting;
use crate::error::Complaints;

/// Requires an address to begin with a scheme of HTTP.
pub(super) fn address(setting: &Setting, url: &Option<String>, wrong: &mut Complaints) {
    let is_address = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    if !url.as_deref().is_none_or(is_address) {
        wrong.add(setting.name(), "must begin with http:// or https://");
    }
}

/// Requires a rate to have a schedule: below 0.001 per second its slots would be too far apart.
pub(super) fn rate(setting: &Setting, rate: &Option<f64>, wrong: &mut Complaints) {
    if rate.is_some_and(|rate| rate > 0.0 && rate < 0.001) {
        wrong.add(setting.name(), "must be 0 (no limit) or at least 0.001");
    }
}

/// Requires a secret to be long.
pub(super) fn secret(setting: &Setting, secret: &Option<SecretString>, wrong: &mut Complaints) {
    if secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 16) {
        wrong.add(setting.name(), "must have at least 16 characters");
    }
}

/// Returns the items of a list that are separated by commas or spaces.
pub(super) fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split([',', ' ']).filter(|item| !item.is_empty())
}

/// Requires host names or IPv4 addresses.
pub(super) fn hosts(setting: &Setting, hosts: &Option<String>, wrong: &mut Complaints) {
    for host in listed(hosts.as_deref()) {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.len() > 253 || !host.bytes().all(is_name) {
            let why = format!("`{host}` is not a host name or an IPv4 address, without scheme and port");
            wrong.add(setting.name(), why);
        }
    }
}

/// Requires origins in the form that browsers send, so that they can be compared as text.
pub(super) fn origins(setting: &Setting, origins: &Option<String>, wrong: &mut Complaints) {
    for origin in listed(origins.as_deref()) {
        let written = url::Url::parse(origin).map(|url| url.origin().ascii_serialization());
        if written.as_deref() != Ok(origin) {
            wrong.add(setting.name(), "must be origins such as https://shop.example.com, without a path");
        }
    }
}

/// Requires a name of the time zone database.
pub(super) fn time_zone(setting: &Setting, name: &impl AsRef<str>, wrong: &mut Complaints) {
    if name.as_ref().parse::<chrono_tz::Tz>().is_err() {
        wrong.add(setting.name(), "must be the IANA name of a time zone, like Europe/Moscow");
    }
}

/// Requires a URL with which links in mail headers can begin unchanged.
pub(super) fn public_url(setting: &Setting, url: &Option<String>, wrong: &mut Complaints) {
    let is_plain = |text: &str| {
        text.len() <= 500
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b',' | b'"'))
    };
    let is_base = |url: url::Url| {
        let is_bare = url.query().is_none() && url.fragment().is_none();
        url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && is_bare
    };
    if !url.as_deref().is_none_or(|text| is_plain(text) && url::Url::parse(text).is_ok_and(is_base)) {
        wrong.add(
            setting.name(),
            "must be an https URL in ASCII, such as https://mail.example.com, without query and fragment",
        );
    }
}

/// Requires a name of a JetStream stream or consumer.
pub(super) fn stream_name(setting: &Setting, name: &impl AsRef<str>, wrong: &mut Complaints) {
    let name = name.as_ref();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=100).contains(&name.len()) || !name.bytes().all(is_name) {
        wrong.add(setting.name(), "must have 1 to 100 letters, digits, `-` and `_`");
    }
}

/// Requires a subject of NATS, with or without wildcards.
pub(super) fn subject(setting: &Setting, subject: &impl AsRef<str>, wrong: &mut Complaints) {
    let is_token = |token: &str, is_last: bool| match token {
        "*" => true,
        ">" => is_last,
        word => !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'),
    };
    let subject = subject.as_ref();
    let mut tokens = subject.rsplit('.');
    let is_subject =
        tokens.next().is_some_and(|last| is_token(last, true)) && tokens.all(|t| is_token(t, false));
    if subject.len() > 250 || !is_subject {
        wrong.add(setting.name(), "must be a subject such as fanfare.events.>");
    }
}

/// Requires a name of a Kafka consumer group.
pub(super) fn consumer_group(setting: &Setting, group: &impl AsRef<str>, wrong: &mut Complaints) {
    let group = group.as_ref();
    if !(1..=200).contains(&group.len()) || !group.bytes().all(|byte| byte.is_ascii_graphic()) {
        wrong.add(setting.name(), "must have 1 to 200 visible ASCII characters");
    }
}
