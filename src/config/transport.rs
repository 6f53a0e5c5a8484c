//! The destinations and limits of the channels, which follow from several settings.

use std::time::Duration;

use secrecy::SecretString;

use super::{Config, SANDBOX_URL, variable};
use crate::kinds::{ChannelKind, DirectProvider};

/// The default rate limit of a real provider, in messages per second.
const DEFAULT_RATE: f64 = 100.0;

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
            let provider = self.common(channel).provider;
            let direct = provider.and_then(|(field, _)| variable(&format!("{channel}.{field}")));
            let direct = direct.map(|variable| format!("{variable} or ")).unwrap_or_default();
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
        let is_own =
            channel.spec().direct == DirectProvider::Service && self.way(channel) == Some(Transport::Direct);
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
    fn is_direct(&self, channel: ChannelKind) -> bool {
        match channel.spec().direct {
            DirectProvider::Configured => self.common(channel).has_provider(),
            DirectProvider::Recipients => self.is_earnest() || self.sandbox.url.is_none(),
            DirectProvider::Service => true,
        }
    }
}
