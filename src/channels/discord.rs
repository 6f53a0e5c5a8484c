//! Discord webhooks, and the incoming webhooks of Slack, Mattermost and compatible services.
//!
//! The recipient is the webhook's URL. A URL on one of Discord's hosts with the path `/api[/vN]/webhooks/{id}/{token}`
//! gets `{"content", "nonce", "enforce_nonce", "allowed_mentions", …}` with `?wait=true`, so that the response contains
//! the message's id (<https://docs.discord.com/developers/resources/webhook#execute-webhook>). Any other URL gets
//! `{"text", …}` (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>), Discord's own `…/slack`
//! included.
//!
//! The subject is the first line, in bold. `data` may contain the fields in [`OF_DISCORD`] or [`OF_SLACK`]; any other
//! field is an error, since the peer would ignore it silently. Mentions are off unless `data` enables them, so an
//! `@everyone` in a client's name is plain text.
//!
//! The nonce is the message's id. Discord documents `enforce_nonce` for bots' messages and not for webhooks, so a
//! second attempt may be shown twice.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::hook;
use super::http::{is_transient, retry_after};
use super::report::{AttemptReport, DeliveryResult};
use crate::clock::Clock;
use crate::db::types::MessageId;
use crate::egress::guard::{Guard, HttpResponse, PlainHttp};
use crate::kinds::ChannelKind;

/// The most characters of `content`, as Discord documents.
const LONGEST_CONTENT: usize = 2000;
/// The fields that `data` may contain for Discord.
pub const OF_DISCORD: &[&str] = &[
    "embeds",
    "username",
    "avatar_url",
    "allowed_mentions",
    "tts",
    "flags",
    "components",
    "thread_name",
    "applied_tags",
    "poll",
];
/// The fields that `data` may contain for Slack and compatible services.
pub const OF_SLACK: &[&str] = &[
    "attachments",
    "blocks",
    "username",
    "icon_url",
    "icon_emoji",
    "channel",
    "unfurl_links",
    "unfurl_media",
];
/// The most embeds of a message, as Discord documents.
const MOST_EMBEDS: usize = 10;

/// The settings of the adapter.
#[derive(Debug, Clone)]
pub struct DiscordSettings {
    /// Discord's hosts; their subdomains count too. Only these can report a limit that applies to all webhooks.
    pub hosts: Vec<String>,
}

impl Default for DiscordSettings {
    fn default() -> Self {
        Self { hosts: vec!["discord.com".into(), "discordapp.com".into()] }
    }
}

/// The adapter for Discord webhooks and Slack-like ones.
pub struct Discord {
    settings: DiscordSettings,
    guard: Arc<Guard>,
    clock: Clock,
}

/// The body of Discord's response.
#[derive(Deserialize)]
struct Reply {
    /// The id of the accepted message.
    id: Option<String>,
    /// In seconds.
    retry_after: Option<f64>,
    #[serde(default)]
    global: bool,
    /// Discord's error code.
    code: Option<i64>,
}

impl Discord {
    /// Creates the adapter. The guard's timeout of a request should be shorter than the engine's timeout of an attempt.
    pub fn new(settings: DiscordSettings, guard: Arc<Guard>, clock: Clock) -> Self {
        Self { settings, guard, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        let Ok(mut url) = Url::parse(&delivery.recipient) else {
            return AttemptReport::permanent(None, "the recipient is not a webhook URL");
        };
        // checks the URL as it was given, so that a malformed one is refused and not silently corrected
        let mut target = self.guard.check_url(&delivery.recipient, PlainHttp::WithinAllowed);
        let is_discord = self.is_discord(&url);
        if target.is_ok() && is_discord {
            let others: Vec<(String, String)> = url
                .query_pairs()
                .filter(|(name, _)| name != "wait")
                .map(|(k, v)| (k.into(), v.into()))
                .collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair("wait", "true");
            target = self.guard.check_url(url.as_str(), PlainHttp::WithinAllowed);
        }
        let target = match target {
            Ok(target) => target,
            Err(why) => return AttemptReport::permanent(None, why.to_string()),
        };
        let body = if is_discord { discord_body(&delivery) } else { slack_body(&delivery) };
        let body = match body {
            Ok(body) => Value::Object(body).to_string(),
            Err(why) => return AttemptReport::permanent(None, why),
        };
        match hook::post(&self.guard, target, HeaderMap::new(), body).await {
            Ok(answered) if is_discord => self.read(&answered),
            Ok(answered) if answered.status.is_success() => {
                AttemptReport::delivered(Some(answered.status.as_u16()), None)
            }
            // Slack's status for a deleted webhook or channel
            Ok(answered) if answered.status == StatusCode::NOT_FOUND => gone(answered.status),
            Ok(answered) => hook::refused(answered.status, retry_after(&answered.headers, self.clock.now())),
            // one server serves all of Discord, so its silence concerns every message
            Err(AttemptReport {
                verdict: DeliveryResult::Deferred { error, retry_after },
                status_code,
                ..
            }) if is_discord => {
                AttemptReport::of(DeliveryResult::Transient { error, retry_after }, status_code)
            }
            Err(answer) => answer,
        }
    }

    fn is_discord(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let is_below = |of: &String| {
            host.strip_suffix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let segments: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
        let is_webhook = match segments.as_slice() {
            ["api", "webhooks", _id, _token] => true,
            ["api", version, "webhooks", _id, _token] => version.starts_with('v'),
            _ => false,
        };
        is_webhook && self.settings.hosts.iter().any(is_below)
    }

    /// Interprets Discord's response.
    fn read(&self, answered: &HttpResponse) -> AttemptReport {
        let HttpResponse { status, headers, body, .. } = answered;
        let (status, code) = (*status, Some(status.as_u16()));
        let reply = serde_json::from_slice::<Reply>(body).ok();
        if status.is_success() {
            // accepted even without an id: a second attempt would be shown twice
            return AttemptReport::delivered(code, reply.and_then(|reply| reply.id));
        }
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) {
            return gone(status);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return self.limited(headers, reply.as_ref());
        }
        let error = match reply.and_then(|reply| reply.code) {
            Some(number) => format!("Discord returned {status} with code {number}"),
            None => format!("Discord returned {status}"),
        };
        if is_transient(status) {
            let retry_after = retry_after(headers, self.clock.now());
            return AttemptReport::of(DeliveryResult::Transient { error, retry_after }, code);
        }
        AttemptReport::permanent(code, error)
    }

    /// The limit of one webhook applies to that webhook alone. A global limit, or a 429 without Discord's body (its
    /// edge bans an IP address), applies to all.
    fn limited(&self, headers: &HeaderMap, reply: Option<&Reply>) -> AttemptReport {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // an overflowing value becomes the longest duration; the engine bounds it
        let seconds = |seconds: f64| {
            (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        };
        let wait = reply
            .and_then(|reply| reply.retry_after)
            .or_else(|| text("x-ratelimit-reset-after")?.parse().ok())
            .and_then(seconds)
            .or_else(|| retry_after(headers, self.clock.now()));
        let scope = text("x-ratelimit-scope");
        let is_global = scope == Some("global")
            || headers.contains_key("x-ratelimit-global")
            || reply.map_or(scope.is_none(), |reply| reply.global);
        let status = StatusCode::TOO_MANY_REQUESTS;
        match wait {
            Some(retry_after) if is_global => {
                AttemptReport::of(DeliveryResult::Throttled { retry_after }, Some(status.as_u16()))
            }
            wait => hook::deferred(Some(status.as_u16()), format!("Discord returned {status}"), wait),
        }
    }
}

fn gone(status: StatusCode) -> AttemptReport {
    let error = format!("the webhook no longer exists: its server returned {status}");
    AttemptReport::of(DeliveryResult::Gone { error }, Some(status.as_u16()))
}

type Body = Map<String, Value>;

fn discord_body(delivery: &Delivery) -> Result<Body, String> {
    let mut body = of_data(delivery, OF_DISCORD)?;
    let content = match &delivery.subject {
        Some(subject) => format!("**{subject}**\n{}", delivery.text),
        None => delivery.text.clone(),
    };
    let length = content.chars().count();
    if length > LONGEST_CONTENT {
        return Err(format!(
            "subject and text together have {length} characters; Discord accepts at most {LONGEST_CONTENT}"
        ));
    }
    if body.get("embeds").and_then(Value::as_array).is_some_and(|embeds| embeds.len() > MOST_EMBEDS) {
        return Err(format!("data has more than {MOST_EMBEDS} embeds, the limit of Discord"));
    }
    body.insert("content".into(), content.into());
    body.insert("nonce".into(), nonce(delivery.id).into());
    body.insert("enforce_nonce".into(), true.into());
    body.entry("allowed_mentions").or_insert_with(|| json!({"parse": []}));
    Ok(body)
}

fn slack_body(delivery: &Delivery) -> Result<Body, String> {
    let mut body = of_data(delivery, OF_SLACK)?;
    // these three characters are the markup of Slack and compatible services (Slack, "Escaping text")
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = match &delivery.subject {
        Some(subject) => format!("*{}*\n{}", escaped(subject), escaped(&delivery.text)),
        None => escaped(&delivery.text),
    };
    body.insert("text".into(), text.into());
    Ok(body)
}

/// Returns the fields of `data`, if all of them are known.
fn of_data(delivery: &Delivery, known: &[&str]) -> Result<Body, String> {
    let Some(data) = delivery.data.as_deref() else { return Ok(Body::new()) };
    let fields: Body = serde_json::from_str(data).map_err(|_| "the data is not a JSON object".to_owned())?;
    if fields.keys().any(|name| !known.contains(&name.as_str())) {
        return Err(format!("data has an unknown field; it may have {}", known.join(", ")));
    }
    Ok(fields)
}

/// Encodes the id in base 62: a nonce has at most 25 characters.
fn nonce(id: MessageId) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = id.0.as_u128();
    let mut digits = Vec::new();
    while rest > 0 {
        let digit = usize::try_from(rest % 62).unwrap_or_default();
        digits.extend(DIGITS.get(digit).map(|digit| char::from(*digit)));
        rest /= 62;
    }
    digits.iter().rev().collect()
}

impl Channel for Discord {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Discord
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }

    /// Discord documents deduplication by nonce for bots' messages and not for webhooks.
    fn drops_repeats(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
