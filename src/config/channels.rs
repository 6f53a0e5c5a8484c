//! The sections of the channels, and what follows from them: where each goes, and how much it may send.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Dict;
use secrecy::SecretString;
use serde::Deserialize;

use super::sections::{delays, duration, optional_delays, optional_duration};
use super::{Config, SANDBOX_URL, variable};
use crate::kinds::ChannelKind;

/// What a real provider is assumed to bear when nothing is said.
const DEFAULT_RATE: f64 = 100.0;

/// What a request may ask for, and some seconds for its end to be noticed by who sends it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(310);

/// Section `channels`: what holds for each of them that says nothing else.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// For one request.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Messages a second on each channel; 0 or none is explained at [`Config::rate`].
    pub rate_per_second: Option<f64>,
    /// Failures in a row after which a provider is left alone for a while; 0 for never.
    pub breaker_failures: u32,
}

/// What each channel's section has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'c> {
    pub base_url: Option<&'c str>,
    pub concurrency: usize,
    pub rate_per_second: Option<f64>,
    pub timeout: Option<Duration>,
    pub breaker_failures: Option<u32>,
    pub retry_delays: Option<&'c [Duration]>,
}

/// The section of a channel: its own fields, and those that each of them has.
macro_rules! channel_section {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// A gateway that the channel goes through.
            pub base_url: Option<String>,
            $($(#[$of])* pub $field: $type,)*
            /// Requests in flight at once.
            pub concurrency: usize,
            /// Messages a second, instead of what holds for all channels.
            pub rate_per_second: Option<f64>,
            /// For one request, instead of what holds for all channels.
            #[serde(default, deserialize_with = "optional_duration")]
            pub timeout: Option<Duration>,
            /// Failures in a row, instead of what holds for all channels.
            pub breaker_failures: Option<u32>,
            /// The delays before further attempts, of mailings and of notifications that say nothing of it.
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
    /// Section `sms`. Its gateway is the seed's third-party API.
    Sms {
        /// The provider's bearer token.
        token: Option<SecretString>,
        /// A provider's own HTTP API, as [`crate::channels`] describes one.
        http: Option<Dict>,
    }
}
channel_section! {
    /// Section `email`.
    Email {
        /// Mail servers, several of them with weights; secret, since it may hold passwords.
        smtp_url: Option<SecretString>,
        /// The sender, with a name if there is one.
        from: Option<String>,
        /// `required`, `implicit` or `none`; by the address if nothing is said.
        tls: Option<String>,
        /// A PEM file of certificate authorities to trust besides the system's.
        extra_ca: Option<PathBuf>,
        /// What the service calls itself in `EHLO`.
        hello_name: Option<String>,
        /// Where answers go.
        reply_to: Option<String>,
        /// Where a mailing's recipient unsubscribes, with `{id}` for the message's id.
        unsubscribe_url: Option<String>,
    }
}
channel_section! {
    /// Section `push`.
    Push {
        /// Google's service account: its JSON, or the path of a file that holds it.
        service_account: Option<SecretString>,
        /// Where Firebase Cloud Messaging is.
        fcm_url: Option<String>,
    }
}
channel_section! {
    /// Section `webhook`.
    Webhook {
        /// `whsec_…`: what requests are signed with; the newest first, those before it while receivers change over.
        secret: Option<SecretString>,
        /// An endpoint is disabled when every attempt failed for so long.
        #[serde(deserialize_with = "duration")]
        disable_after: Duration,
        /// For so long after an endpoint was given a new secret the one before it signs as well.
        #[serde(deserialize_with = "duration")]
        secret_overlap: Duration,
    }
}
channel_section! {
    /// Section `discord`.
    Discord {}
}
channel_section! {
    /// Section `in_app`: users' inboxes. Without a gateway the service keeps them itself.
    InApp {
        /// How long a message stands in an inbox.
        #[serde(deserialize_with = "duration")]
        keep: Duration,
        /// What the tokens of users' pages are made with; none means the API key.
        secret: Option<SecretString>,
        /// Origins whose pages may show inboxes, separated by commas or spaces; none means the service's own.
        origins: Option<String>,
    }
}

/// Section `request`: requests that somebody asked for. They go where they say, and each has a time of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// In flight at once.
    pub concurrency: usize,
    /// How many may begin in a second; none means no limit.
    pub rate_per_second: Option<f64>,
    /// The delays before further attempts of requests that say nothing of it.
    #[serde(deserialize_with = "delays")]
    pub retry_delays: Vec<Duration>,
    /// That may wait for the database at once.
    pub intake_limit: usize,
}

impl Requests {
    fn common(&self) -> Common<'_> {
        Common {
            base_url: None,
            concurrency: self.concurrency,
            rate_per_second: Some(self.rate_per_second.unwrap_or(0.0)),
            timeout: Some(LONGEST_ATTEMPT),
            // they go to many servers, none of which says anything of the others
            breaker_failures: Some(0),
            retry_delays: Some(&self.retry_delays),
        }
    }
}

/// Section `sandbox`: the provider to try against.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// Its address. Once it is said, Discord and requests go there as well, as long as text messages have no provider.
    pub url: Option<String>,
}

impl InApp {
    /// The origins, one by one.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        let all = self.origins.as_deref().unwrap_or_default();
        all.split([',', ' ']).filter(|origin| !origin.is_empty())
    }
}

/// How a channel's messages go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'c> {
    /// Through a gateway at this address, which has no slash at its end; the sandbox is one.
    Gateway(&'c str),
    /// By the channel's own protocol, as its section says.
    Direct,
}

impl Config {
    /// Where a channel's messages go; `None` when they have nowhere to go. A channel of which nothing is said goes to the
    /// sandbox, unless text messages go to a real provider: what is asked of a service that is in earnest must not end in
    /// a sandbox, or nowhere. Inboxes need no provider; neither do Discord and requests, unless a sandbox is named: then
    /// nothing leaves the machine.
    pub fn way(&self, channel: ChannelKind) -> Option<Way<'_>> {
        let sandbox = self.is_tried_out(channel).then(|| self.sandbox_url());
        match self.common(channel).base_url {
            Some(url) => Some(Way::Gateway(url.trim_end_matches('/'))),
            None if self.is_direct(channel) => Some(Way::Direct),
            None => sandbox.map(Way::Gateway),
        }
    }

    /// Why nothing can be sent over a channel, and what to set; `None` when it has a provider.
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

    /// The bearer token that a channel's gateway is shown. The sandbox knows one for all channels; the one of a real
    /// SMS provider is nobody else's business.
    pub fn token(&self, channel: ChannelKind) -> Option<&SecretString> {
        self.sms.token.as_ref().filter(|_| channel == ChannelKind::Sms || self.is_tried_out(channel))
    }

    /// Requests in flight at once on a channel.
    pub fn concurrency(&self, channel: ChannelKind) -> usize {
        self.common(channel).concurrency
    }

    /// Messages a second on a channel; `None` for no limit. When nothing is said, a real provider is spared, and the
    /// sandbox and the service's own inboxes are not.
    pub fn rate(&self, channel: ChannelKind) -> Option<f64> {
        let is_own = channel == ChannelKind::InApp && self.way(channel) == Some(Way::Direct);
        let default = if is_own || self.is_tried_out(channel) { 0.0 } else { DEFAULT_RATE };
        let said = self.common(channel).rate_per_second.or(self.channels.rate_per_second);
        Some(said.unwrap_or(default)).filter(|rate| *rate > 0.0)
    }

    /// How long one request on a channel may take.
    pub fn timeout(&self, channel: ChannelKind) -> Duration {
        self.common(channel).timeout.unwrap_or(self.channels.timeout)
    }

    /// Failures in a row after which a channel's provider is left alone for a while; 0 for never.
    pub fn breaker_failures(&self, channel: ChannelKind) -> u32 {
        self.common(channel).breaker_failures.unwrap_or(self.channels.breaker_failures)
    }

    /// The delays before further attempts on a channel, if it has its own.
    pub fn retry_delays(&self, channel: ChannelKind) -> Option<&[Duration]> {
        self.common(channel).retry_delays
    }

    /// Whether a channel goes to the sandbox because nothing else was said.
    pub fn is_tried_out(&self, channel: ChannelKind) -> bool {
        !self.is_earnest() && self.common(channel).base_url.is_none() && !self.is_direct(channel)
    }

    /// Returns whether text messages have a real provider.
    fn is_earnest(&self) -> bool {
        self.sms.base_url.is_some() || self.sms.http.is_some()
    }

    fn sandbox_url(&self) -> &str {
        self.sandbox.url.as_deref().map_or(SANDBOX_URL, |url| url.trim_end_matches('/'))
    }

    /// Whether its section says how to go without a gateway.
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
