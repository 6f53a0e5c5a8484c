//! Each channel with the adapter that its settings ask for.

use std::sync::Arc;

use figment::value::Value;
use secrecy::ExposeSecret;

use crate::channels::Channel;
use crate::channels::discord::{self, Discord};
use crate::channels::email::{self, Email};
use crate::channels::gateway::Gateway;
use crate::channels::in_app::InApp;
use crate::channels::push::{FCM_URL, Fcm, FcmSettings, ServiceAccount};
use crate::channels::sms::Sms;
use crate::channels::sms_http::{HttpSettings, HttpSms};
use crate::channels::webhook::{SameForAll, Secret, Webhook};
use crate::clock::Clock;
use crate::config::{self, Config, Way};
use crate::delivery::ChannelSetup;
use crate::delivery::retry::{Retries, RetryPolicy};
use crate::egress::guard::{self, Guard};
use crate::error::{Error, FieldError, Result};
use crate::inbox::delivery::Letterbox;
use crate::kinds::ChannelKind;

/// Those that have a provider.
///
/// # Errors
/// [`Error::Invalid`] that names the setting that cannot be.
pub(super) fn all(config: &Config, clock: &Clock, letterbox: Letterbox) -> Result<Vec<ChannelSetup>> {
    let workshop = Workshop { config, clock, guard: Arc::new(guard(config)?), letterbox };
    let of = |kind: &ChannelKind| {
        let way = config.way(*kind)?;
        Some(workshop.adapter(*kind, way).map(|channel| setup(config, channel)))
    };
    ChannelKind::ALL.iter().filter_map(of).collect()
}

fn setup(config: &Config, channel: Arc<dyn Channel>) -> ChannelSetup {
    let (kind, retry) = (channel.kind(), &config.retry);
    let own = config.retry_delays(kind).map(|delays| RetryPolicy::of(delays.to_vec()));
    let mailing = || RetryPolicy::exponential(retry.first_delay, retry.factor, retry.limit);
    let single = || RetryPolicy::of(config.notifications.backoff());
    ChannelSetup {
        channel,
        timeout: config.timeout(kind),
        concurrency: config.concurrency(kind),
        rate: config.rate(kind),
        breaker_failures: config.breaker_failures(kind),
        retries: Retries { mailing: own.clone().unwrap_or_else(mailing), single: own.unwrap_or_else(single) },
    }
}

/// The one way out to addresses that users give. Its own time is less than an attempt's, so that a server that hangs is
/// known to be one server.
fn guard(config: &Config) -> Result<Guard> {
    let allowed = config.egress.allow.parse();
    let allowed = allowed.map_err(|why: String| Error::invalid(config::named("egress.allow"), why))?;
    let shortest = config.timeout(ChannelKind::Webhook).min(config.timeout(ChannelKind::Discord));
    Guard::new(&guard::Settings { allowed, timeout: shortest.mul_f32(0.9), ..guard::Settings::default() })
}

/// What adapters are made from.
struct Workshop<'a> {
    config: &'a Config,
    clock: &'a Clock,
    guard: Arc<Guard>,
    letterbox: Letterbox,
}

impl Workshop<'_> {
    fn adapter(&self, kind: ChannelKind, way: Way<'_>) -> Result<Arc<dyn Channel>> {
        let Way::Gateway(url) = way else { return self.direct(kind) };
        let (token, clock) = (self.config.token(kind), self.clock.clone());
        Ok(match kind {
            ChannelKind::Sms => Arc::new(Sms::new(url, token, clock)?),
            _ => {
                let setting = config::named(&format!("{kind}.base_url"));
                Arc::new(Gateway::new(kind, (&setting, url), token, clock)?)
            }
        })
    }

    /// By the channel's own protocol.
    fn direct(&self, kind: ChannelKind) -> Result<Arc<dyn Channel>> {
        Ok(match kind {
            ChannelKind::Sms => Arc::new(self.sms()?),
            ChannelKind::Email => Arc::new(self.email()?),
            ChannelKind::Push => Arc::new(self.push()?),
            ChannelKind::Webhook => Arc::new(self.webhook()?),
            ChannelKind::Discord => {
                let (settings, guard) = (discord::Settings::default(), Arc::clone(&self.guard));
                Arc::new(Discord::new(settings, guard, self.clock.clone()))
            }
            ChannelKind::InApp => Arc::new(InApp::new(Arc::new(self.letterbox.clone()))),
        })
    }

    fn sms(&self) -> Result<HttpSms> {
        let http = Value::from(self.config.sms.http.clone().unwrap_or_default());
        let settings = http.deserialize::<HttpSettings>().map_err(|e| {
            let complaints = e.into_iter().map(|one| {
                let path: Vec<String> = ["sms.http".to_owned()].into_iter().chain(one.path.clone()).collect();
                FieldError::new(path.join("."), one.kind.to_string())
            });
            Error::Invalid(complaints.collect())
        })?;
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

    fn webhook(&self) -> Result<Webhook> {
        let directory = SameForAll(self.secrets()?);
        Ok(Webhook::new(Arc::clone(&self.guard), Arc::new(directory), self.clock.clone()))
    }

    /// The newest first.
    fn secrets(&self) -> Result<Vec<Secret>> {
        let texts = self.config.webhook.secret.as_ref().map(|secret| secret.expose_secret());
        let secrets = texts.unwrap_or_default().split_whitespace().map(str::parse::<Secret>);
        let secrets: Result<Vec<_>, _> = secrets.collect();
        secrets.map_err(|why| Error::invalid(config::named("webhook.secret"), why))
    }
}
