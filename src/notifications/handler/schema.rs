//! The bodies of notifications.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clients::reach;
use crate::db::types::{BatchId, ClientId, MessageId, Timestamp};
use crate::error::{Complaints, Error, FieldError, Result};
use crate::http::json::{each, given, present, time};
use crate::kinds::{ChannelKind, ChannelToPeople, Priority, group};
use crate::locale::Locale;
use crate::notifications::model::{Fill, NewNotification, Rescheduling, To};
use crate::notifications::usecase::{Item, LARGEST_BATCH, Taken, Wanted};
use crate::templates::model::check_name;

const LONGEST_CONTENT: usize = 20_000;
const LONGEST_SUBJECT: usize = 998;
const LONGEST_HTML: usize = 200_000;
/// Bytes of JSON that may come along.
const LARGEST_DATA: usize = 16 * 1024;
const MOST_DELAYS: usize = 20;
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A new notification. Either `recipient` or `client_id` is needed, and either `content` or `template`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "channel": "sms", "recipient": "+905551234567", "content": "Your order has shipped.", "priority": "high"
}))]
pub struct NotificationBody {
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The address on the channel: a phone number, an e-mail address, a device's token, an https URL, a user's id.
    #[schema(min_length = 1, max_length = 4096)]
    pub recipient: Option<String>,
    /// A client, who has the address.
    #[schema(value_type = Option<ClientId>)]
    pub client_id: Option<String>,
    /// The text, 1 to 20000 characters, none of them NUL.
    #[schema(min_length = 1, max_length = 20000, pattern = r"^[^\u0000]*$")]
    pub content: Option<String>,
    /// One line above the text, where the channel shows one.
    #[schema(min_length = 1, max_length = 998, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The same as HTML, of an e-mail: 1 to 200000 characters, none of them NUL.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*$")]
    pub html: Option<String>,
    /// The name of a template for the channel, which says what `content`, `subject` and `html` would.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub template: Option<String>,
    /// What the template's placeholders are filled from, an object of up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub values: Option<Box<RawValue>>,
    /// In which language the template is wanted; absent: the client's.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// An object for the recipient's program, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// RFC 3339, up to a year ahead; a time that is past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled_at: Option<String>,
    /// RFC 3339: it is never sent at this time or after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<String>,
    /// Its own schedule of further attempts.
    pub retry: Option<RetryBody>,
    /// An object that is returned as it is, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// What its recipient may opt out of besides the whole channel, such as `order` or `newsletter`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$", example = "order")]
    pub group: Option<String>,
    /// Whether nobody may opt out of it: it passes preferences and quiet hours. False if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>, nullable = false, default = false)]
    pub transactional: Option<bool>,
}

/// A schedule of further attempts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// How long to wait before each further attempt, up to 20 of them, each 1 ms to 24 hours; none: one attempt.
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
    /// Each as in a request of its own.
    #[schema(value_type = Vec<NotificationBody>, min_items = 1, max_items = 1000)]
    pub notifications: Vec<Box<RawValue>>,
}

/// What may be changed of a notification that waits; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"priority": "high"}))]
pub struct NotificationPatch {
    /// RFC 3339; a time that is past means now.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<String>,
    /// `high`, `normal` or `low`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Priority>, nullable = false)]
    pub priority: Option<String>,
    /// RFC 3339; null: no end.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<String>>,
}

impl NotificationBody {
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_new(self) -> Result<NewNotification> {
        let mut wrong = Complaints::default();
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let to = match (self.recipient, self.client_id) {
            (Some(_), Some(_)) => {
                wrong.add("client_id", "cannot stand beside `recipient`: give one of them");
                None
            }
            (None, None) => {
                wrong.add("recipient", "is required, or `client_id`");
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
            let is_shown = channel.is_none_or(ChannelKind::shows_html);
            let no_html = "is a part of an e-mail; other channels show none";
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
        let missing = || Error::internal("a notification was read without complaint and is not whole");
        Ok(NewNotification {
            channel: channel.ok_or_else(missing)?,
            to: to.ok_or_else(missing)?,
            // the texts of a template come when it is filled
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

/// The template that is wanted in place of the texts, of which `parts` are there: content, subject, HTML.
fn fill(
    wrong: &mut Complaints,
    (template, values, locale): (Option<String>, Option<Box<RawValue>>, Option<String>),
    parts: [bool; 3],
) -> Option<Fill> {
    let Some(template) = template else {
        if !matches!(parts, [true, ..]) {
            wrong.add("content", "is required, or `template`");
        }
        for (field, is_there) in [("values", values.is_some()), ("locale", locale.is_some())] {
            if is_there {
                wrong.add(field, "is for a template: give `template` as well");
            }
        }
        return None;
    };
    for (field, is_there) in ["content", "subject", "html"].into_iter().zip(parts) {
        if is_there {
            wrong.add(field, "cannot stand beside `template`, which says it");
        }
    }
    wrong.check("template", check_name(&template));
    let json = values.and_then(|values| wrong.check("values", object(&values)));
    let json = json.and_then(|json| wrong.check("values", serde_json::from_str(&json)));
    let locale = locale.and_then(|tag| wrong.check("locale", tag.parse::<Locale>()));
    Some(Fill { template, values: json.unwrap_or_default(), locale })
}

impl BatchBody {
    /// Each notification, or what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none and for more than a thousand.
    pub fn into_wanted(self) -> Result<Vec<Wanted>> {
        let read = |_, body: NotificationBody| body.into_new();
        each(("notifications", LARGEST_BATCH), self.notifications, read)
    }
}

impl NotificationPatch {
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_change(self) -> Result<Rescheduling> {
        let mut wrong = Complaints::default();
        let change = Rescheduling {
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
        return Err(format!("must be at most {MOST_DELAYS}"));
    }
    texts
        .iter()
        .map(|text| {
            let delay = humantime::parse_duration(text)
                .map_err(|_| format!("`{text}` is no duration such as \"30s\""))?;
            if (Duration::from_millis(1)..=LONGEST_DELAY).contains(&delay) {
                Ok(delay)
            } else {
                Err(format!("`{text}` is not within 1 ms and 24 hours"))
            }
        })
        .collect()
}

/// What became of a batch that was posted.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAccepted {
    /// Its id, for `/api/v1/batches/{id}`.
    pub batch_id: BatchId,
    /// How many were posted.
    pub total: usize,
    /// How many of them were accepted.
    pub accepted: usize,
    /// How many are wrong.
    pub rejected: usize,
    /// What became of each, in their order.
    pub items: Vec<BatchItem>,
}

/// Whether one of a batch was taken.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is on disk.
    Accepted,
    /// It is wrong.
    Rejected,
}

/// What became of one of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchItem {
    /// Its place in the request, from 0.
    pub index: usize,
    /// `accepted` or `rejected`.
    pub status: Verdict,
    /// Its id, when it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<MessageId>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl BatchAccepted {
    /// Of a batch.
    pub fn new(taken: &Taken) -> Self {
        let items: Vec<BatchItem> = taken
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| match item {
                Item::Accepted(id) => {
                    BatchItem { index, status: Verdict::Accepted, id: Some(*id), errors: Vec::new() }
                }
                Item::Rejected(errors) => {
                    BatchItem { index, status: Verdict::Rejected, id: None, errors: errors.clone() }
                }
            })
            .collect();
        let accepted = items.iter().filter(|item| item.id.is_some()).count();
        Self { batch_id: taken.id, total: items.len(), accepted, rejected: items.len() - accepted, items }
    }
}
