//! Request bodies of notifications, and their validation.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clients::reach;
use crate::db::types::{ClientId, Timestamp};
use crate::error::{Complaints, Error, Result};
use crate::http::json::{each, given, present, time};
use crate::kinds::{ChannelKind, ChannelToPeople, Priority, group};
use crate::locale::Locale;
use crate::notifications::model::{NewNotification, NotificationChange, TemplateRequest, To};
use crate::notifications::usecase::{LARGEST_BATCH, ParsedNotification};
use crate::templates::model::check_name;

const LONGEST_CONTENT: usize = 20_000;
const LONGEST_SUBJECT: usize = 998;
const LONGEST_HTML: usize = 200_000;
/// The maximum size of `data`, `metadata` and `values`, in bytes of JSON.
const LARGEST_DATA: usize = 16 * 1024;
const MOST_DELAYS: usize = 20;
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A new notification. Either `recipient` or `client_id` is required, and either `content` or `template`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "channel": "sms", "recipient": "+905551234567", "content": "Your order has shipped.", "priority": "high"
}))]
pub struct NotificationBody {
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The address on the channel: a phone number, an e-mail address, a device token, an https URL or a user's id.
    #[schema(min_length = 1, max_length = 4096)]
    pub recipient: Option<String>,
    /// The id of a client, which has the address.
    #[schema(value_type = Option<ClientId>)]
    pub client_id: Option<String>,
    /// The text, 1 to 20000 characters without NUL.
    #[schema(min_length = 1, max_length = 20000, pattern = r"^[^\u0000]*$")]
    pub content: Option<String>,
    /// The subject, one line, for channels that show one.
    #[schema(min_length = 1, max_length = 998, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The text of an e-mail as HTML, 1 to 200000 characters without NUL.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*$")]
    pub html: Option<String>,
    /// The name of a template for the channel, instead of `content`, `subject` and `html`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub template: Option<String>,
    /// The values for the template's placeholders, an object of up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub values: Option<Box<RawValue>>,
    /// The language of the template; the client's language if absent.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// An object for the recipient's application, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// The time before which it is not sent, RFC 3339, up to a year ahead; a time in the past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled_at: Option<String>,
    /// The time from which it is not sent any more, RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<String>,
    /// Its own retry schedule; the channel's if absent.
    pub retry: Option<RetryBody>,
    /// Your own data, an object that is returned unchanged, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// The group that its recipient may opt out of besides the whole channel, such as `order` or `newsletter`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$", example = "order")]
    pub group: Option<String>,
    /// True if recipients cannot opt out of it: it ignores preferences and quiet hours. False if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>, nullable = false, default = false)]
    pub transactional: Option<bool>,
}

/// A retry schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// The delays before the retries: up to 20, each 1 ms to 24 hours. An empty list allows a single attempt.
    #[schema(example = json!(["5s", "30s", "120s"]), max_items = 20)]
    pub delays: Vec<String>,
}

/// A new batch: 1 to 1000 notifications.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"notifications": [
    {"channel": "sms", "recipient": "+901111111111", "content": "Flash sale!", "priority": "high"},
    {"channel": "email", "recipient": "a@b.com", "content": "Flash sale!", "priority": "high"}
]}))]
pub struct BatchBody {
    /// The notifications, each as in a separate request.
    #[schema(value_type = Vec<NotificationBody>, min_items = 1, max_items = 1000)]
    pub notifications: Vec<Box<RawValue>>,
}

/// Changes to a waiting notification: an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"priority": "high"}))]
pub struct NotificationPatch {
    /// The time before which it is not sent, RFC 3339; a time in the past means now.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<String>,
    /// `high`, `normal` or `low`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Priority>, nullable = false)]
    pub priority: Option<String>,
    /// The time from which it is not sent any more, RFC 3339; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<String>>,
}

impl NotificationBody {
    /// Validates the notification.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_new(self) -> Result<NewNotification> {
        let mut wrong = Complaints::default();
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let to = match (self.recipient, self.client_id) {
            (Some(_), Some(_)) => {
                wrong.add("client_id", "cannot be combined with `recipient`");
                None
            }
            (None, None) => {
                wrong.add("recipient", "is required without `client_id`");
                None
            }
            (Some(text), None) => channel
                .and_then(|channel| wrong.check("recipient", reach::parse(channel, &text)).map(To::Address)),
            (None, Some(id)) => wrong
                .check("client_id", id.parse::<ClientId>().map_err(|_| "must be a client's UUID"))
                .map(To::Client),
        };
        let parts = [&self.content, &self.subject, &self.html].map(Option::is_some);
        let fill = fill(&mut wrong, (self.template, self.values, self.locale), parts);
        let content = self.content.and_then(|content| wrong.check("content", text(content, LONGEST_CONTENT)));
        let subject = self.subject.and_then(|subject| wrong.check("subject", line(subject)));
        let html = self.html.and_then(|html| {
            let is_shown = channel.is_none_or(|channel| channel.spec().shows_html);
            let no_html = "is only for e-mail; other channels show no HTML";
            wrong.check("html", if is_shown { text(html, LONGEST_HTML) } else { Err(no_html.to_owned()) })
        });
        let data = self.data.and_then(|data| wrong.check("data", object(&data)));
        let metadata = self.metadata.and_then(|data| wrong.check("metadata", object(&data)));
        let priority = self.priority.and_then(|word| wrong.check("priority", word.parse::<Priority>()));
        let mut at =
            |field: &str, text: Option<String>| text.and_then(|text| wrong.check(field, time(&text)));
        let (scheduled_at, expires_at) =
            (at("scheduled_at", self.scheduled_at), at("expires_at", self.expires_at));
        let retry = self.retry.and_then(|retry| wrong.check("retry.delays", delays(&retry.delays)));
        let group = self.group.and_then(|word| wrong.check("group", group(&word)));
        wrong.finish()?;
        let missing = || Error::internal("a validated notification lacks a required field");
        Ok(NewNotification {
            channel: channel.ok_or_else(missing)?,
            to: to.ok_or_else(missing)?,
            // the texts of a template are set when it is rendered
            content: if fill.is_some() { String::new() } else { content.ok_or_else(missing)? },
            fill,
            template: None,
            subject,
            html,
            data,
            priority: priority.unwrap_or(Priority::Normal),
            scheduled_at,
            expires_at,
            retry,
            metadata,
            event: None,
            group,
            is_transactional: self.transactional.unwrap_or_default(),
        })
    }
}

/// Validates the template that is used instead of the texts. `parts` tells which of content, subject and HTML are
/// given.
fn fill(
    wrong: &mut Complaints,
    (template, values, locale): (Option<String>, Option<Box<RawValue>>, Option<String>),
    parts: [bool; 3],
) -> Option<TemplateRequest> {
    let Some(template) = template else {
        if !matches!(parts, [true, ..]) {
            wrong.add("content", "is required without `template`");
        }
        for (field, is_there) in [("values", values.is_some()), ("locale", locale.is_some())] {
            if is_there {
                wrong.add(field, "requires `template`");
            }
        }
        return None;
    };
    for (field, is_there) in ["content", "subject", "html"].into_iter().zip(parts) {
        if is_there {
            wrong.add(field, "cannot be combined with `template`");
        }
    }
    wrong.check("template", check_name(&template));
    let json = values.and_then(|values| wrong.check("values", object(&values)));
    let json = json.and_then(|json| wrong.check("values", serde_json::from_str(&json)));
    let locale = locale.and_then(|tag| wrong.check("locale", tag.parse::<Locale>()));
    Some(TemplateRequest { template, values: json.unwrap_or_default(), locale })
}

impl BatchBody {
    /// Parses each notification separately.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty batch, and for more than 1000 notifications.
    pub fn into_wanted(self) -> Result<Vec<ParsedNotification>> {
        let read = |_, body: NotificationBody| body.into_new();
        each(("notifications", LARGEST_BATCH), self.notifications, read)
    }
}

impl NotificationPatch {
    /// Validates the changes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_change(self) -> Result<NotificationChange> {
        let mut wrong = Complaints::default();
        let change = NotificationChange {
            scheduled_at: self.scheduled_at.and_then(|text| wrong.check("scheduled_at", time(&text))),
            priority: self.priority.and_then(|word| wrong.check("priority", word.parse())),
            expires_at: self
                .expires_at
                .map(|end| end.and_then(|text| wrong.check::<Timestamp, _>("expires_at", time(&text)))),
        };
        wrong.finish()?;
        Ok(change)
    }
}

fn text(text: String, most: usize) -> std::result::Result<String, String> {
    if text.is_empty() || text.chars().nth(most).is_some() {
        return Err(format!("must be 1 to {most} characters"));
    }
    if text.contains('\0') {
        return Err("must not contain NUL".into());
    }
    Ok(text)
}

fn line(subject: String) -> std::result::Result<String, String> {
    if subject.chars().any(char::is_control) {
        return Err("must be one line without control characters".into());
    }
    text(subject, LONGEST_SUBJECT)
}

fn object(json: &RawValue) -> std::result::Result<String, String> {
    let json = json.get();
    if !json.starts_with('{') {
        return Err("must be a JSON object".into());
    }
    if json.len() > LARGEST_DATA {
        return Err(format!("must be at most {LARGEST_DATA} bytes of JSON"));
    }
    Ok(json.to_owned())
}

fn delays(texts: &[String]) -> std::result::Result<Vec<Duration>, String> {
    if texts.len() > MOST_DELAYS {
        return Err(format!("must have at most {MOST_DELAYS} delays"));
    }
    texts
        .iter()
        .map(|text| {
            let delay = humantime::parse_duration(text)
                .map_err(|_| format!("`{text}` is not a duration such as \"30s\""))?;
            if (Duration::from_millis(1)..=LONGEST_DELAY).contains(&delay) {
                Ok(delay)
            } else {
                Err(format!("`{text}` is not between 1 ms and 24 hours"))
            }
        })
        .collect()
}
