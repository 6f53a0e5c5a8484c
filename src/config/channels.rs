//! The sections of the channels, and the destinations and limits that follow from them.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Dict;
use secrecy::SecretString;
use serde::Deserialize;

use super::sections::{delays, duration, optional_delays, optional_duration};
use super::{Config, SANDBOX_URL, variable};
use crate::kinds::ChannelKind;

/// The default rate limit of a real provider, in messages per second.
const DEFAULT_RATE: f64 = 100.0;

/// The longest timeout that a request may have, plus some seconds for the sender to notice it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(310);

/// Section `channels`: the defaults of all channels.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// The timeout of one request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// The rate limit of each channel in messages per second; [`Config::rate`] explains 0 and none.
    pub rate_per_second: Option<f64>,
    /// The number of consecutive failures that open the circuit breaker; 0: it never opens.
    pub breaker_failures: u32,
}

/// The settings that every channel's section has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'c> {
    pub base_url: Option<&'c str>,
    pub concurrency: usize,
    pub rate_per_second: Option<f64>,
    pub timeout: Option<Duration>,
    pub breaker_failures: Option<u32>,
    pub retry_delays: Option<&'c [Duration]>,
}

/// Defines the section of a channel: its own fields and the common ones.
macro_rules! channel_section {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The URL of a gateway for the channel.
            pub base_url: Option<String>,
            $($(#[$of])* pub $field: $type,)*
            /// The limit of concurrent requests.
            pub concurrency: usize,
            /// The rate limit in messages per second, instead of the default of all channels.
            pub rate_per_second: Option<f64>,
            /// The timeout of one request, instead of the default of all channels.
            #[serde(default, deserialize_with = "optional_duration")]
            pub timeout: Option<Duration>,
            /// The number of failures that open the circuit breaker, instead of the default of all channels.
            pub breaker_failures: Option<u32>,
            /// The delays before retries, for mailings and for notifications without delays of their own.
            #[serde(default, deserialize_with = "optional_delays")]
            pub retry_delays: Option<Vec<Duration>>,
        }

        impl $name {
            fn common(&self) -> Common<'_> {
                Common {
                    base_url: self.base_url.as_deref(),
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
    /// Section `sms`. Its gateway has the API `POST {base}/v1/send/{id}`.
    Sms {
        /// The provider's bearer token.
        token: Option<SecretString>,
        /// The description of a provider's own HTTP API; see [`crate::channels`].
        http: Option<Dict>,
    }
}
channel_section! {
    /// Section `email`.
    Email {
        /// The mail servers, with weights if there are several; secret, since it may contain passwords.
        smtp_url: Option<SecretString>,
        /// The sender, optionally with a name.
        from: Option<String>,
        /// `required`, `implicit` or `none`; the default depends on the URL.
        tls: Option<String>,
        /// A PEM file of certificate authorities to trust besides the system's.
        extra_ca: Option<PathBuf>,
        /// The service's name in `EHLO`.
        hello_name: Option<String>,
        /// The address for replies.
        reply_to: Option<String>,
        /// The URL at which a mailing's recipient unsubscribes, with `{id}` for the message's id.
        unsubscribe_url: Option<String>,
    }
}
channel_section! {
    /// Section `push`.
    Push {
        /// Google's service account: its JSON, or the path of a file with it.
        service_account: Option<SecretString>,
        /// The URL of Firebase Cloud Messaging.
        fcm_url: Option<String>,
    }
}
channel_section! {
    /// Section `webhook`.
    Webhook {
        /// The signing secret `whsec_…`. During a rotation, the newest first and the older ones after it.
        secret: Option<SecretString>,
        /// The time of continuous failure after which an endpoint is disabled.
        #[serde(deserialize_with = "duration")]
        disable_after: Duration,
        /// The time for which an endpoint's previous secret also signs after a rotation.
        #[serde(deserialize_with = "duration")]
        secret_overlap: Duration,
    }
}
channel_section! {
    /// Section `discord`.
    Discord {}
}
channel_section! {
    /// Section `in_app`: users' inboxes. Without a gateway, the service stores them itself.
    InApp {
        /// The retention of messages in an inbox.
        #[serde(deserialize_with = "duration")]
        keep: Duration,
        /// The secret of users' tokens; by default a generated one that is stored in the database.
        secret: Option<SecretString>,
        /// The origins of pages that may show inboxes, separated by commas or spaces; by default only the service's
        /// own.
        origins: Option<String>,
    }
}

/// Section `request`: scheduled HTTP requests. Each has its own URL and timeout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// The limit of concurrent requests.
    pub concurrency: usize,
    /// The rate limit in requests per second; none: no limit.
    pub rate_per_second: Option<f64>,
    /// The delays before retries, for requests without delays of their own.
    #[serde(deserialize_with = "delays")]
    pub retry_delays: Vec<Duration>,
    /// The number of requests that may wait for the database at once.
    pub intake_limit: usize,
}

impl Requests {
    fn common(&self) -> Common<'_> {
        Common {
            base_url: None,
            concurrency: self.concurrency,
            rate_per_second: Some(self.rate_per_second.unwrap_or(0.0)),
            timeout: Some(LONGEST_ATTEMPT),
            // they go to many servers, and the failures of one say nothing about the others
            breaker_failures: Some(0),
            retry_delays: Some(&self.retry_delays),
        }
    }
}

/// Section `sandbox`: the provider for tests.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// Its address. If it is set, Discord and requests also use the sandbox while SMS has no provider.
    pub url: Option<String>,
}

impl InApp {
    /// Returns the single origins.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        let all = self.origins.as_deref().unwrap_or_default();
        all.split([',', ' ']).filter(|origin| !origin.is_empty())
    }
}

/// The way in which a channel's messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'c> {
    /// Through a gateway at this address, without a slash at its end; the sandbox is also a gateway.
    Gateway(&'c str),
    /// Directly, by the channel's own protocol.
    Direct,
}

impl Config {
    /// Returns the way of a channel's messages; `None` if the channel is unconfigured. A channel without settings uses
    /// the sandbox while SMS has no provider either. Once SMS has a real provider, the service is in production, and
    /// messages of other channels must not silently end in the sandbox. Inboxes need no provider. Discord and requests
    /// need none either; they use the sandbox only if its address is set, so that nothing leaves the machine.
    pub fn way(&self, channel: ChannelKind) -> Option<Transport<'_>> {
        let sandbox = self.is_tried_out(channel).then(|| self.sandbox_url());
        match self.common(channel).base_url {
            Some(url) => Some(Transport::Gateway(url.trim_end_matches('/'))),
            None if self.is_direct(channel) => Some(Transport::Direct),
            None => sandbox.map(Transport::Gateway),
        }
    }

    /// Returns the reason why a channel is unconfigured, with the settings that it needs; `None` if it has a provider.
    pub fn missing_provider(&self, channel: ChannelKind) -> Option<String> {
        self.way(channel).is_none().then(|| {
            let gateway = variable(&format!("{channel}.base_url")).unwrap_or_default();
            let direct = match channel {
                ChannelKind::Email => "SMTP_URL or ",
                ChannelKind::Push => "FCM_SERVICE_ACCOUNT or ",
                ChannelKind::Webhook => "WEBHOOK_SECRET or ",
                ChannelKind::Sms | ChannelKind::Discord | ChannelKind::InApp | ChannelKind::Request => "",
            };
            format!(
                "`{channel}` has no provider here: set {direct}{gateway}, or leave PROVIDER_BASE_URL unset to try it \
                 with the sandbox"
            )
        })
    }

    /// Returns the bearer token for a channel's gateway. The sandbox has one token for all channels. The token of a
    /// real SMS provider is never sent to other gateways.
    pub fn token(&self, channel: ChannelKind) -> Option<&SecretString> {
        self.sms.token.as_ref().filter(|_| channel == ChannelKind::Sms || self.is_tried_out(channel))
    }

    /// Returns the limit of concurrent requests of a channel.
    pub fn concurrency(&self, channel: ChannelKind) -> usize {
        self.common(channel).concurrency
    }

    /// Returns the rate limit of a channel in messages per second; `None` without a limit. By default a real provider
    /// has a limit, and the sandbox and the service's own inboxes have none.
    pub fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let is_own = channel == ChannelKind::InApp && self.way(channel) == Some(Transport::Direct);
        let default = if is_own || self.is_tried_out(channel) { 0.0 } else { DEFAULT_RATE };
        let said = self.common(channel).rate_per_second.or(self.channels.rate_per_second);
        Some(said.unwrap_or(default)).filter(|rate| *rate > 0.0)
    }

    /// Returns the timeout of one request of a channel.
    pub fn timeout(&self, channel: ChannelKind) -> Duration {
        self.common(channel).timeout.unwrap_or(self.channels.timeout)
    }

    /// Returns the number of consecutive failures that open a channel's circuit breaker; 0: it never opens.
    pub fn breaker_failures(&self, channel: ChannelKind) -> u32 {
        self.common(channel).breaker_failures.unwrap_or(self.channels.breaker_failures)
    }

    /// Returns the delays before a channel's retries, if it has its own.
    pub fn retry_delays(&self, channel: ChannelKind) -> Option<&[Duration]> {
        self.common(channel).retry_delays
    }

    /// Returns true if a channel uses the sandbox because it has no settings.
    pub fn is_tried_out(&self, channel: ChannelKind) -> bool {
        !self.is_earnest() && self.common(channel).base_url.is_none() && !self.is_direct(channel)
    }

    /// Returns true if SMS has a real provider.
    fn is_earnest(&self) -> bool {
        self.sms.base_url.is_some() || self.sms.http.is_some()
    }

    fn sandbox_url(&self) -> &str {
        self.sandbox.url.as_deref().map_or(SANDBOX_URL, |url| url.trim_end_matches('/'))
    }

    /// Returns true if a channel can send without a gateway.
    pub(super) fn is_direct(&self, channel: ChannelKind) -> bool {
        match channel {
            ChannelKind::Sms => self.sms.http.is_some(),
            ChannelKind::Email => self.email.smtp_url.is_some(),
            ChannelKind::Push => self.push.service_account.is_some(),
            ChannelKind::Webhook => self.webhook.secret.is_some(),
            ChannelKind::Discord | ChannelKind::Request => self.is_earnest() || self.sandbox.url.is_none(),
            ChannelKind::InApp => true,
        }
    }

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
