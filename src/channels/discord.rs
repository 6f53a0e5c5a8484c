//! Discord's webhooks, and the incoming webhooks of Slack, Mattermost and whoever speaks as they do.
//!
//! The recipient is the webhook's URL. One of Discord's hosts with the path `/api[/vN]/webhooks/{id}/{token}` gets
//! `{"content", "nonce", "enforce_nonce", "allowed_mentions", …}` with `?wait=true`, whose answer has the message's id
//! (<https://docs.discord.com/developers/resources/webhook#execute-webhook>). Any other URL gets `{"text", …}`
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>); so does Discord's own `…/slack`.
//!
//! The subject is the first line, in bold. `data` may bear the fields in [`OF_DISCORD`] or [`OF_SLACK`]; others are an
//! error, since they would be passed over in silence. Unless `data` says otherwise nobody is mentioned: an `@everyone`
//! in a client's name is a word.
//!
//! The nonce is the message's id. Discord documents `enforce_nonce` for bots' messages and not for webhooks, so a
//! second attempt may show twice.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{is_transient, retry_after};
use super::{Answer, Channel, Delivery, Sending, Verdict, hook};
use crate::clock::Clock;
use crate::db::types::MessageId;
use crate::egress::guard::{Answered, Guard, Plain};
use crate::kinds::ChannelKind;

/// Characters of `content` at most, as Discord documents.
const LONGEST_CONTENT: usize = 2000;
/// What `data` may bear to Discord.
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
/// What `data` may bear to the others.
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
/// Embeds at most, as Discord documents.
const MOST_EMBEDS: usize = 10;

/// What the adapter is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that are Discord, and all below them. They are believed when they say that a limit is for everybody.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hosts: vec!["discord.com".into(), "discordapp.com".into()] }
    }
}

/// The adapter.
pub struct Discord {
    settings: Settings,
    guard: Arc<Guard>,
    clock: Clock,
}

/// What Discord says besides the status.
#[derive(Deserialize)]
struct Reply {
    /// The message's, when it was taken.
    id: Option<String>,
    /// Seconds.
    retry_after: Option<f64>,
    #[serde(default)]
    global: bool,
    /// What is wrong, as a number of Discord's list.
    code: Option<i64>,
}

impl Discord {
    /// Through this guard, whose time for a request should be less than the engine's for an attempt.
    pub fn new(settings: Settings, guard: Arc<Guard>, clock: Clock) -> Self {
        Self { settings, guard, clock }
    }

    async fn attempt(&self, delivery: Delivery) -> Answer {
        let Ok(mut url) = Url::parse(&delivery.recipient) else {
            return Answer::permanent(None, "the recipient is no URL of a webhook");
        };
        // before anything is changed: what would be mended in silence is refused
        let mut target = self.guard.check_url(&delivery.recipient, Plain::WithinAllowed);
        let is_discord = self.is_discord(&url);
        if target.is_ok() && is_discord {
            let others: Vec<(String, String)> = url
                .query_pairs()
                .filter(|(name, _)| name != "wait")
                .map(|(k, v)| (k.into(), v.into()))
                .collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair("wait", "true");
            target = self.guard.check_url(url.as_str(), Plain::WithinAllowed);
        }
        let target = match target {
            Ok(target) => target,
            Err(why) => return Answer::permanent(None, why.to_string()),
        };
        let body = if is_discord { discord_body(&delivery) } else { slack_body(&delivery) };
        let body = match body {
            Ok(body) => Value::Object(body).to_string(),
            Err(why) => return Answer::permanent(None, why),
        };
        match hook::post(&self.guard, target, HeaderMap::new(), body).await {
            Ok(answered) if is_discord => self.read(&answered),
            Ok(answered) if answered.status.is_success() => {
                Answer::delivered(Some(answered.status.as_u16()), None)
            }
            // Slack's words for a webhook or a channel that is no more
            Ok(answered) if answered.status == StatusCode::NOT_FOUND => gone(answered.status),
            Ok(answered) => hook::refused(answered.status, retry_after(&answered.headers, self.clock.now())),
            // one server for all of Discord: its silence concerns everybody
            Err(Answer { verdict: Verdict::Deferred { error, retry_after }, status_code, .. })
                if is_discord =>
            {
                Answer::of(Verdict::Transient { error, retry_after }, status_code)
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

    /// What an answer of Discord's means.
    fn read(&self, answered: &Answered) -> Answer {
        let Answered { status, headers, body, .. } = answered;
        let (status, code) = (*status, Some(status.as_u16()));
        let reply = serde_json::from_slice::<Reply>(body).ok();
        if status.is_success() {
            // without its id it was taken all the same: a second attempt would show twice
            return Answer::delivered(code, reply.and_then(|reply| reply.id));
        }
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) {
            return gone(status);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return self.limited(headers, reply.as_ref());
        }
        let error = match reply.and_then(|reply| reply.code) {
            Some(number) => format!("Discord answered {status} with code {number}"),
            None => format!("Discord answered {status}"),
        };
        if is_transient(status) {
            let retry_after = retry_after(headers, self.clock.now());
            return Answer::of(Verdict::Transient { error, retry_after }, code);
        }
        Answer::permanent(code, error)
    }

    /// A limit of one webhook is for that one alone. One that is global, or that no word of Discord's API comes with
    /// (its front door bans an address), is for all.
    fn limited(&self, headers: &HeaderMap, reply: Option<&Reply>) -> Answer {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // more than can be counted is the longest wait that there is; the engine bounds it
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
                Answer::of(Verdict::Throttled { retry_after }, Some(status.as_u16()))
            }
            wait => hook::deferred(Some(status.as_u16()), format!("Discord answered {status}"), wait),
        }
    }
}

fn gone(status: StatusCode) -> Answer {
    let error = format!("there is no such webhook any more: its server answered {status}");
    Answer::of(Verdict::Gone { error }, Some(status.as_u16()))
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
            "subject and text have {length} characters together: Discord takes {LONGEST_CONTENT}"
        ));
    }
    if body.get("embeds").and_then(Value::as_array).is_some_and(|embeds| embeds.len() > MOST_EMBEDS) {
        return Err(format!("data has more than {MOST_EMBEDS} embeds: Discord takes no more"));
    }
    body.insert("content".into(), content.into());
    body.insert("nonce".into(), nonce(delivery.id).into());
    body.insert("enforce_nonce".into(), true.into());
    body.entry("allowed_mentions").or_insert_with(|| json!({"parse": []}));
    Ok(body)
}

fn slack_body(delivery: &Delivery) -> Result<Body, String> {
    let mut body = of_data(delivery, OF_SLACK)?;
    // they read these three as markup, and nothing else (Slack, "Escaping text")
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = match &delivery.subject {
        Some(subject) => format!("*{}*\n{}", escaped(subject), escaped(&delivery.text)),
        None => escaped(&delivery.text),
    };
    body.insert("text".into(), text.into());
    Ok(body)
}

/// The fields of `data`, if they are all known.
fn of_data(delivery: &Delivery, known: &[&str]) -> Result<Body, String> {
    let Some(data) = delivery.data.as_deref() else { return Ok(Body::new()) };
    let fields: Body = serde_json::from_str(data).map_err(|_| "the data is no JSON object".to_owned())?;
    if fields.keys().any(|name| !known.contains(&name.as_str())) {
        return Err(format!("data has a field that is not known here; it may have {}", known.join(", ")));
    }
    Ok(fields)
}

/// The bits of the id in base 62: a nonce has at most 25 characters.
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

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }

    fn has_many_servers(&self) -> bool {
        true
    }

    /// Discord promises it for bots' messages and not for webhooks.
    fn drops_repeats(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
