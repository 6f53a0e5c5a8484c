//! The sections of the channels.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Dict;
use secrecy::SecretString;

use super::Config;
use super::rules::{address, listed, origins, rate, secret};
use super::setting::{DAY, MILLISECOND, MINUTE, settings};
use crate::kinds::ChannelKind;

/// The bounds of a request's timeout.
const TIMEOUTS: RangeInclusive<f64> = MILLISECOND..=10.0 * MINUTE;

/// The longest timeout that a scheduled request may have, plus some seconds for the sender to notice it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(310);

settings! {
    /// The defaults of all channels. A channel sends by its own protocol if it has the settings for it, or to a
    /// gateway of yours at `POST {base}/v1/notify/{id}`. A channel without settings uses the sandbox while SMS has
    /// no provider either; once SMS has one, such a channel accepts no messages.
    channels: Channels {
        /// The timeout of one request. It never extends beyond the end of the window.
        timeout: Duration = "10s", env "PROVIDER_TIMEOUT", within TIMEOUTS;
        /// The rate limit of each channel in messages per second, of all nodes together. Fractions are allowed,
        /// from 0.001. 0 is no limit. Unset: 100 for a real provider, no limit for the sandbox.
        rate_per_second: Option<f64>, env "RATE_LIMIT_PER_CHANNEL", like 100, within 0.0..=1e6, check rate;
        /// The consecutive failures (no response, 5xx) that open the circuit breaker. A tenth of this number over
        /// half a minute opens it too. The channel then sends nothing for a second. After that, one message at a
        /// time probes the provider until it responds, after pauses that double up to 30 s. 0: the breaker never
        /// opens.
        breaker_failures: u32 = 1000, env "BREAKER_FAILURES", within 0.0..=1e6;
    }
}

/// The settings that every channel's section has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'c> {
    pub base_url: Option<&'c str>,
    /// The field with the provider of the channel's own protocol, and true if it is set.
    pub provider: Option<(&'static str, bool)>,
    pub concurrency: usize,
    pub rate_per_second: Option<f64>,
    pub timeout: Option<Duration>,
    pub breaker_failures: Option<u32>,
    pub retry_delays: Option<&'c [Duration]>,
}

impl Common<'_> {
    /// Returns true if the provider of the channel's own protocol is set.
    pub(super) fn has_provider(&self) -> bool {
        self.provider.is_some_and(|(_, is_set)| is_set)
    }
}

/// Defines the section of a channel: its own settings, and those that are the same for all channels. `$provider` is the
/// field with the provider of the channel's own protocol.
macro_rules! channel_section {
    ($(#[doc = $about:literal])+ $section:ident: $name:ident $(by $provider:ident)?, $prefix:literal { $($own:tt)+ }) => {
        settings! {
            $(#[doc = $about])+
            $section: $name {
                $($own)+
                /// Overrides `channels.rate_per_second`.
                rate_per_second: Option<f64>, env concat!($prefix, "_RATE_LIMIT"), like 50,
                    within 0.0..=1e6, check rate;
                /// Overrides `channels.breaker_failures`.
                breaker_failures: Option<u32>, env concat!($prefix, "_BREAKER_FAILURES"), like 100,
                    within 0.0..=1e6;
                /// The [delays before retries](configuration.md#channels), instead of those in `[retry]` and
                /// `[notifications]`.
                retry_delays: Option<Vec<Duration>>, env concat!($prefix, "_RETRY_DELAYS"), like "1s, 5s, 30s",
                    within MILLISECOND..=DAY;
            }
        }

        impl $name {
            pub(super) fn common(&self) -> Common<'_> {
                Common {
                    base_url: self.base_url.as_deref(),
                    provider: None$(.or(Some((stringify!($provider), self.$provider.is_some()))))?,
                    concurrency: self.concurrency,
                    rate_per_second: self.rate_per_second,
                    timeout: self.timeout,
                    breaker_failures: self.breaker_failures,
                    retry_delays: self.retry_delays.as_deref(),
                }
            }
        }
    };
}

channel_section! {
    /// Text messages.
    sms: Sms by http, "SMS" {
        /// The base URL for `POST {base}/v1/send/{id}`. Unset: the API in `[sms.http]`; without that, the sandbox
        /// at `http://127.0.0.1:8090`.
        base_url: Option<String>, env "PROVIDER_BASE_URL", like "https://sms.example.com", check address;
        /// The provider's bearer token. Unset: requests have no `Authorization` header.
        token: Option<SecretString>, env "PROVIDER_TOKEN", like "…";
        /// The table `[sms.http]` describes the HTTP API of any other provider: see
        /// [channels.md](channels.md#sms).
        http: Option<Dict>;
        /// The limit of concurrent requests.
        concurrency: usize = 64, env "SMS_WORKERS", within 1.0..=10_000.0;
        /// Overrides `channels.timeout`.
        timeout: Option<Duration>, env "SMS_TIMEOUT", like "5s", within TIMEOUTS;
    }
}

channel_section! {
    /// E-mails.
    email: Email by smtp_url, "EMAIL" {
        /// The mail servers: `smtp://USER:PASSWORD@HOST:PORT`, or several separated by commas, each with
        /// `?weight=N` for its share. `smtps://` means implicit TLS. User and password are percent-encoded.
        smtp_url: Option<SecretString>, env "SMTP_URL", like "smtp://user:password@mail.example.com:587";
        /// The sender, such as `Shop <news@example.com>`; required with `SMTP_URL`.
        from: Option<String>, env "SMTP_FROM", like "Shop <news@example.com>";
        /// The encryption: `required` (STARTTLS, or nothing is sent), `implicit` (TLS from the first byte) or
        /// `none`. Unset: `implicit` for `smtps://`, otherwise `required`.
        tls: Option<String>, env "SMTP_TLS", like "required";
        /// A PEM file of certificate authorities to trust besides the system's.
        extra_ca: Option<PathBuf>, env "SMTP_EXTRA_CA", like "/etc/ssl/mail-ca.pem";
        /// The service's name in `EHLO`. Unset: the IP address of its end of the connection.
        hello_name: Option<String>, env "SMTP_HELLO_NAME", like "fanfare.example.com";
        /// The address for replies, if it is not the sender.
        reply_to: Option<String>, env "SMTP_REPLY_TO", like "help@example.com";
        /// Your own https URL at which the recipient of a mailing unsubscribes with one click (RFC 8058), with
        /// `{id}` for the message's id. With `PUBLIC_URL` the service's own link takes precedence, except in
        /// transactional mailings. Without either, mailings have no such header.
        unsubscribe_url: Option<String>, env "UNSUBSCRIBE_URL",
            like "https://example.com/unsubscribe?message={id}";
        /// A gateway instead.
        base_url: Option<String>, env "EMAIL_PROVIDER_URL", like "http://mail-gateway:8080", check address;
        /// The limit of concurrent mails, each over its own connection.
        concurrency: usize = 16, env "EMAIL_WORKERS", within 1.0..=10_000.0;
        /// The timeout of one mail including the connection, since mail servers may be slow.
        timeout: Option<Duration> = "60s", env "EMAIL_TIMEOUT", within TIMEOUTS;
    }
}

channel_section! {
    /// Push notifications on devices.
    push: Push by service_account, "PUSH" {
        /// Firebase's service account, as the path of its file or as its JSON.
        service_account: Option<SecretString>, env "FCM_SERVICE_ACCOUNT", like "/run/secrets/firebase.json";
        /// The URL of Firebase Cloud Messaging. Unset: Google's.
        fcm_url: Option<String>, env "FCM_URL", like "https://fcm.googleapis.com";
        /// A gateway instead.
        base_url: Option<String>, env "PUSH_PROVIDER_URL", like "http://push-gateway:8080", check address;
        /// The limit of concurrent requests.
        concurrency: usize = 16, env "PUSH_WORKERS", within 1.0..=10_000.0;
        /// Overrides `channels.timeout`.
        timeout: Option<Duration>, env "PUSH_TIMEOUT", like "5s", within TIMEOUTS;
    }
}

channel_section! {
    /// Requests to a URL of the recipient.
    webhook: Webhook by secret, "WEBHOOK" {
        /// The signing secret, `whsec_…`. During a rotation, the new one and the old one with a space between: each
        /// request then has both signatures.
        secret: Option<SecretString>, env "WEBHOOK_SECRET", like "whsec_…";
        /// The time after which an endpoint is disabled if every attempt failed and there were at least ten.
        disable_after: Duration = "5days", env "WEBHOOK_DISABLE_AFTER", within MINUTE..=365.0 * DAY;
        /// The time for which the previous secret of an API endpoint also signs after a rotation.
        secret_overlap: Duration = "24h", env "WEBHOOK_SECRET_OVERLAP", within 0.0..=30.0 * DAY;
        /// A gateway instead.
        base_url: Option<String>, env "WEBHOOK_PROVIDER_URL",
            like "http://webhook-gateway:8080", check address;
        /// The limit of concurrent requests.
        concurrency: usize = 16, env "WEBHOOK_WORKERS", within 1.0..=10_000.0;
        /// Overrides `channels.timeout`.
        timeout: Option<Duration>, env "WEBHOOK_TIMEOUT", like "5s", within TIMEOUTS;
    }
}

channel_section! {
    /// Messages to Discord channels. They go to the URLs of their recipients; no setting is required.
    discord: Discord, "DISCORD" {
        /// A gateway instead. Unset: messages are sent to the URLs of their recipients.
        base_url: Option<String>, env "DISCORD_PROVIDER_URL",
            like "http://discord-gateway:8080", check address;
        /// The limit of concurrent requests.
        concurrency: usize = 16, env "DISCORD_WORKERS", within 1.0..=10_000.0;
        /// Overrides `channels.timeout`.
        timeout: Option<Duration>, env "DISCORD_TIMEOUT", like "5s", within TIMEOUTS;
    }
}

channel_section! {
    /// Messages in users' inboxes.
    in_app: InApp, "IN_APP" {
        /// A gateway that stores the inboxes. Unset: the service stores them.
        base_url: Option<String>, env "IN_APP_PROVIDER_URL", like "http://inbox:8080", check address;
        /// The retention of messages in an inbox. A change applies to messages that are delivered after it.
        keep: Duration = "90days", env "INBOX_KEEP", within MINUTE..=3650.0 * DAY;
        /// The secret of the tokens of users' pages, at least 16 characters, the same on all nodes. A change
        /// invalidates all issued tokens. Unset: a random secret that is generated at the first start and stored in
        /// the database, for all nodes.
        secret: Option<SecretString>, env "INBOX_SECRET", like "…", check secret;
        /// The origins of pages that may show inboxes, such as `https://shop.example.com`, separated by commas.
        /// Unset: only the service's own origin.
        origins: Option<String>, env "INBOX_ORIGINS",
            like "https://shop.example.com, https://www.example.com", check origins;
        /// The limit of concurrent messages into inboxes, or of concurrent requests to a gateway.
        concurrency: usize = 64, env "IN_APP_WORKERS", within 1.0..=10_000.0;
        /// Overrides `channels.timeout`.
        timeout: Option<Duration>, env "IN_APP_TIMEOUT", like "5s", within TIMEOUTS;
    }
}

impl InApp {
    /// Returns the single origins.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        listed(self.origins.as_deref())
    }
}

settings! {
    /// Scheduled HTTP requests, and the reports of their results. Each has its own URL and timeout.
    request: Requests {
        /// The limit of concurrent requests. Each may take up to five minutes.
        concurrency: usize = 256, env "REQUEST_WORKERS", within 1.0..=10_000.0;
        /// The rate limit in attempts per second. Unset or 0: no limit. `channels.rate_per_second` does not apply.
        rate_per_second: Option<f64>, env "REQUEST_RATE_LIMIT", like 50, within 0.0..=1e6, check rate;
        /// The delays before the retries of requests without delays of their own, up to 20. A blank
        /// (`" "`) means no retries.
        retry_delays: Vec<Duration> = "1s, 2s, 4s", env "REQUEST_RETRY_DELAYS", within MILLISECOND..=DAY;
        /// The requests that may wait for the database at once. Beyond it, the response is 503 with `Retry-After`.
        /// A request with a large body counts once for each 4 KiB.
        intake_limit: usize = 20000, env "REQUEST_INTAKE_LIMIT", within 1000.0..=1e6;
    }
}

impl Requests {
    pub(super) fn common(&self) -> Common<'_> {
        Common {
            base_url: None,
            provider: None,
            concurrency: self.concurrency,
            rate_per_second: Some(self.rate_per_second.unwrap_or(0.0)),
            timeout: Some(LONGEST_ATTEMPT),
            // they go to many servers, and the failures of one say nothing about the others
            breaker_failures: Some(0),
            retry_delays: Some(&self.retry_delays),
        }
    }
}

settings! {
    /// The provider for tests.
    sandbox: Sandbox {
        /// The address of the sandbox, for channels without a provider while SMS has none either. Unset:
        /// `http://127.0.0.1:8090`, and Discord messages and requests are sent to their own URLs. Set: Discord
        /// messages, requests and their reports also use the sandbox, so that nothing leaves the machine. A request
        /// then gets the sandbox's status and an empty body, and its [credential](credentials.md) is not used.
        /// `make run` sets it; `SANDBOX_URL= make run` does not. It has no effect with `PROVIDER_BASE_URL` or
        /// `[sms.http]`.
        url: Option<String>, env "SANDBOX_URL", like "http://127.0.0.1:8090", check address;
    }
}

impl Config {
    /// Returns the settings that a channel has in common with all others.
    pub(super) fn common(&self, channel: ChannelKind) -> Common<'_> {
        match channel {
            ChannelKind::Sms => self.sms.common(),
            ChannelKind::Email => self.email.common(),
            ChannelKind::Push => self.push.common(),
            ChannelKind::Webhook => self.webhook.common(),
            ChannelKind::Discord => self.discord.common(),
            ChannelKind::InApp => self.in_app.common(),
            ChannelKind::Request => self.request.common(),
        }
    }
}
