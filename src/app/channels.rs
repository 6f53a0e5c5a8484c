//! Each channel with the adapter that its settings ask for.

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
use crate::config::{self, Config, Way};
use crate::credentials::Credentials;
use crate::delivery::ChannelSetup;
use crate::delivery::retry::{Retries, RetryPolicy};
use crate::egress::guard::{self, Guard};
use crate::endpoints::{self, Book};
use crate::error::{Error, Result};
use crate::http::channels::{ChannelState, ChannelView, RetryDelays, Via};
use crate::inbox::delivery::Letterbox;
use crate::kinds::ChannelKind;

/// When a channel's messages are tried again.
pub(super) fn retries(config: &Config, kind: ChannelKind) -> Retries {
    let retry = &config.retry;
    let own = config.retry_delays(kind).map(|delays| RetryPolicy::of(delays.to_vec()));
    let mailing = || RetryPolicy::exponential(retry.first_delay, retry.factor, retry.limit);
    let single = || RetryPolicy::of(config.notifications.backoff());
    Retries { mailing: own.clone().unwrap_or_else(mailing), single: own.unwrap_or_else(single) }
}

/// The channels as the API shows them.
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
                None => Via::Nothing,
                Some(Way::Gateway(_)) if config.is_tried_out(*kind) => Via::Sandbox,
                Some(Way::Gateway(_)) => Via::Gateway,
                Some(Way::Direct) => Via::Direct,
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

/// What endpoints of webhooks are granted.
///
/// # Errors
/// [`Error::Invalid`] for a secret that is none.
pub(super) fn endpoints(config: &Config) -> Result<endpoints::Settings> {
    let section = &config.webhook;
    // the newest first
    let texts = section.secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    let secrets: Result<Vec<Secret>, _> = texts.split_whitespace().map(str::parse).collect();
    Ok(endpoints::Settings {
        failing_for: section.disable_after,
        overlap: section.secret_overlap,
        defaults: secrets.map_err(|why| Error::invalid(config::named("webhook.secret"), why))?,
        ..endpoints::Settings::default()
    })
}

/// The one way out to addresses that users give. Its own time is less than an attempt's, so that a server that hangs is
/// known to be one server.
///
/// # Errors
/// [`Error::Invalid`] for networks that are none.
pub(super) fn guard(config: &Config) -> Result<Guard> {
    let allowed = config.egress.allow.parse();
    let allowed = allowed.map_err(|why: String| Error::invalid(config::named("egress.allow"), why))?;
    let shortest = config.timeout(ChannelKind::Webhook).min(config.timeout(ChannelKind::Discord));
    Guard::new(&guard::Settings { allowed, timeout: shortest.mul_f32(0.9), ..guard::Settings::default() })
}

/// What adapters are made from.
pub(super) struct Workshop<'a> {
    pub config: &'a Config,
    pub clock: &'a Clock,
    pub guard: Arc<Guard>,
    pub book: Arc<Book>,
    pub letterbox: Letterbox,
    pub keyring: Arc<Credentials>,
}

impl Workshop<'_> {
    /// The channels that have a provider.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the setting that cannot be.
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

    fn adapter(&self, kind: ChannelKind, way: Way<'_>) -> Result<Arc<dyn Channel>> {
        let Way::Gateway(url) = way else { return self.direct(kind) };
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

    /// By the channel's own protocol.
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
                let (settings, guard) = (discord::Settings::default(), Arc::clone(&self.guard));
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
        let settings = email::Settings {
            reply_to: section.reply_to.clone(),
            unsubscribe_url: section.unsubscribe_url.clone(),
            hello_name: section.hello_name.clone(),
            extra_ca: section.extra_ca.clone(),
            ..email::Settings::new(urls, tls, from)?
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
