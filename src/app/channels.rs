//! Creates the adapter of each channel from its settings.

use std::sync::Arc;

use figment::value::Value;
use secrecy::ExposeSecret;

use crate::channels::Channel;
use crate::channels::discord::{self, Discord};
use crate::channels::email::{self, Email};
use crate::channels::gateway::Gateway;
use crate::channels::in_app::InApp;
use crate::channels::keyring::Keyring;
use crate::channels::push::{FCM_URL, Fcm, FcmSettings, ServiceAccount};
use crate::channels::request::{HttpRequests, SandboxRequests};
use crate::channels::sms::Sms;
use crate::channels::sms_http::{HttpSettings, HttpSms};
use crate::channels::webhook::{Secret, Webhook};
use crate::clock::Clock;
use crate::config::{self, Config, Transport};
use crate::credentials::Credentials;
use crate::delivery::ChannelSetup;
use crate::delivery::retry::{Retries, RetryPolicy};
use crate::egress::guard::{self, Guard};
use crate::endpoints::{self, EndpointCache};
use crate::error::{Error, Result};
use crate::http::channels::{ChannelRoute, ChannelState, ChannelView, RetryDelays};
use crate::inbox::delivery::InboxWriter;
use crate::kinds::{AddressSyntax, ChannelKind};

/// Returns the retry policies of a channel.
pub(super) fn retries(config: &Config, kind: ChannelKind) -> Retries {
    let retry = &config.retry;
    let own = config.retry_delays(kind).map(|delays| RetryPolicy::new(delays.to_vec()));
    let mailing = || RetryPolicy::exponential(retry.first_delay, retry.factor, retry.limit);
    let single = || RetryPolicy::new(config.notifications.backoff());
    Retries { mailing: own.clone().unwrap_or_else(mailing), single: own.unwrap_or_else(single) }
}

/// Returns the channels as the API shows them.
pub(super) fn described(config: &Config) -> Vec<ChannelView> {
    let millis = |policy: &RetryPolicy| {
        policy.delays().iter().map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)).collect()
    };
    let describe = |kind: &ChannelKind| {
        let (way, retries) = (config.way(*kind), retries(config, *kind));
        ChannelView {
            channel: *kind,
            state: if way.is_some() { ChannelState::Configured } else { ChannelState::Unconfigured },
            rests_for_seconds: None,
            via: match way {
                None => ChannelRoute::Nothing,
                Some(Transport::Gateway(_)) if config.is_tried_out(*kind) => ChannelRoute::Sandbox,
                Some(Transport::Gateway(_)) => ChannelRoute::Gateway,
                Some(Transport::Direct) => ChannelRoute::Direct,
            },
            missing: config.missing_provider(*kind),
            rate_per_second: config.rate(*kind),
            concurrency: config.concurrency(*kind),
            timeout_ms: u64::try_from(config.timeout(*kind).as_millis()).unwrap_or(u64::MAX),
            breaker_failures: config.breaker_failures(*kind),
            retry_delays: RetryDelays {
                mailings_ms: millis(&retries.mailing),
                notifications_ms: millis(&retries.single),
            },
        }
    };
    ChannelKind::ALL.iter().map(describe).collect()
}

/// Returns the settings of webhook endpoints.
///
/// # Errors
/// [`Error::Invalid`] for an invalid secret.
pub(super) fn endpoints(config: &Config) -> Result<endpoints::EndpointOptions> {
    let section = &config.webhook;
    // newest first
    let texts = section.secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    let secrets: Result<Vec<Secret>, _> = texts.split_whitespace().map(str::parse).collect();
    Ok(endpoints::EndpointOptions {
        failing_for: section.disable_after,
        overlap: section.secret_overlap,
        defaults: secrets.map_err(|why| Error::invalid(config::named("webhook.secret"), why))?,
        ..endpoints::EndpointOptions::default()
    })
}

/// Returns the guard of requests to addresses that users give. Its timeout is shorter than that of an attempt, so that
/// a hanging server is reported as such.
///
/// # Errors
/// [`Error::Invalid`] for invalid networks.
pub(super) fn guard(config: &Config) -> Result<Guard> {
    let allowed = config.egress.allow.parse();
    let allowed = allowed.map_err(|why: String| Error::invalid(config::named("egress.allow"), why))?;
    let has_urls = |kind: &&ChannelKind| kind.spec().address == AddressSyntax::Url;
    let timeouts = ChannelKind::TO_PEOPLE.iter().filter(has_urls).map(|kind| config.timeout(*kind));
    let shortest = timeouts.min().unwrap_or(config.channels.timeout);
    Guard::new(&guard::Settings { allowed, timeout: shortest.mul_f32(0.9), ..guard::Settings::default() })
}

/// Creates the adapters of all channels.
pub(super) struct ChannelFactory<'a> {
    pub config: &'a Config,
    pub clock: &'a Clock,
    pub guard: Arc<Guard>,
    pub book: Arc<EndpointCache>,
    pub letterbox: InboxWriter,
    pub keyring: Arc<Credentials>,
}

impl ChannelFactory<'_> {
    /// Creates the channels that have a provider.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the invalid setting.
    pub(super) fn all(&self) -> Result<Vec<ChannelSetup>> {
        let of = |kind: &ChannelKind| {
            let way = self.config.way(*kind)?;
            Some(self.adapter(*kind, way).map(|channel| self.setup(channel)))
        };
        ChannelKind::ALL.iter().filter_map(of).collect()
    }

    fn setup(&self, channel: Arc<dyn Channel>) -> ChannelSetup {
        let (kind, config) = (channel.kind(), self.config);
        ChannelSetup {
            channel,
            timeout: config.timeout(kind),
            concurrency: config.concurrency(kind),
            rate: config.rate(kind),
            breaker_failures: config.breaker_failures(kind),
            retries: retries(config, kind),
        }
    }

    fn adapter(&self, kind: ChannelKind, way: Transport<'_>) -> Result<Arc<dyn Channel>> {
        let Transport::Gateway(url) = way else { return self.direct(kind) };
        let (token, clock) = (self.config.token(kind), self.clock.clone());
        let key =
            if self.config.is_tried_out(kind) { "sandbox.url" } else { &format!("{kind}.base_url") as &str };
        let setting = config::named(key);
        Ok(match kind {
            ChannelKind::Sms => Arc::new(Sms::new(url, token, clock)?),
            ChannelKind::Request => Arc::new(SandboxRequests::new((&setting, url), token, clock)?),
            _ => Arc::new(Gateway::new(kind, (&setting, url), token, clock)?),
        })
    }

    /// Creates the adapter for the channel's own protocol.
    fn direct(&self, kind: ChannelKind) -> Result<Arc<dyn Channel>> {
        Ok(match kind {
            ChannelKind::Sms => Arc::new(self.sms()?),
            ChannelKind::Email => Arc::new(self.email()?),
            ChannelKind::Push => Arc::new(self.push()?),
            ChannelKind::Webhook => {
                let (guard, book) = (Arc::clone(&self.guard), Arc::clone(&self.book));
                Arc::new(Webhook::new(guard, book, self.clock.clone()))
            }
            ChannelKind::Discord => {
                let (settings, guard) = (discord::DiscordSettings::default(), Arc::clone(&self.guard));
                Arc::new(Discord::new(settings, guard, self.clock.clone()))
            }
            ChannelKind::InApp => Arc::new(InApp::new(Arc::new(self.letterbox.clone()))),
            ChannelKind::Request => {
                let (guard, book) = (Arc::clone(&self.guard), Arc::clone(&self.book));
                let keyring: Arc<dyn Keyring> = Arc::clone(&self.keyring) as _;
                Arc::new(HttpRequests::new(guard, (book, keyring), self.clock.clone()))
            }
        })
    }

    fn sms(&self) -> Result<HttpSms> {
        let http = Value::from(self.config.sms.http.clone().unwrap_or_default());
        let settings: HttpSettings = http.deserialize().map_err(|e| config::unreadable("sms.http.", e))?;
        HttpSms::new(&settings, &|name| std::env::var(name).ok(), self.clock.clone())
    }

    fn email(&self) -> Result<Email> {
        let section = &self.config.email;
        let urls = section.smtp_url.as_ref().map(|url| url.expose_secret()).unwrap_or_default();
        let tls = section.tls.as_deref().map(str::parse).transpose();
        let tls = tls.map_err(|why: &str| Error::invalid(config::named("email.tls"), why))?;
        let from = section.from.clone().unwrap_or_default();
        let settings = email::SmtpSettings {
            reply_to: section.reply_to.clone(),
            unsubscribe_url: section.unsubscribe_url.clone(),
            hello_name: section.hello_name.clone(),
            extra_ca: section.extra_ca.clone(),
            ..email::SmtpSettings::new(urls, tls, from)?
        };
        Email::new(settings, self.clock.clone())
    }

    fn push(&self) -> Result<Fcm> {
        let section = &self.config.push;
        let account = section.service_account.clone().unwrap_or_default();
        let is_json = account.expose_secret().trim_start().starts_with('{');
        let service_account = if is_json {
            ServiceAccount::Json(account)
        } else {
            ServiceAccount::File(account.expose_secret().into())
        };
        let base_url = section.fcm_url.clone().unwrap_or_else(|| FCM_URL.to_owned());
        let settings = FcmSettings { service_account, base_url };
        Fcm::new(&config::named("push.service_account"), &settings, self.clock.clone())
    }
}
