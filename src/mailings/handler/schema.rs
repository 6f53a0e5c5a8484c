//! Bodies of requests about mailings, and how they become checked input.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{Complaints, Error, Result};
use crate::http::json::{given, present, time};
use crate::kinds::{ChannelKind, Priority};
use crate::mailings::filter::{AudienceFilter, FilterInput};
use crate::mailings::model::{MailingChange, NewMailing};
use crate::mailings::usecase::PreviewQuestion;
use crate::templates::Template;

/// What a mailing may go over: the other channels are for notifications.
#[derive(Debug, ToSchema)]
pub enum MailingChannel {
    /// A text message to a phone.
    #[schema(rename = "sms")]
    Sms,
}

/// A mailing to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "text": "Our shop is open again: say {{ phone_number }} and take 10 % off.",
    "filter": {"mobile_operator_code": ["903", "916"]},
    "ends_at": "2099-12-31T23:59:59Z"
}))]
pub struct MailingBody {
    /// 1 to 1000 characters; `{{ name }}` is filled from the client's attributes.
    #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: String,
    /// Who gets it; absent: everyone.
    pub filter: Option<FilterInput>,
    /// `sms`, the default.
    #[schema(value_type = Option<MailingChannel>)]
    pub channel: Option<String>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// RFC 3339; absent: now. Also taken under the name `created_at`.
    #[serde(alias = "created_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<String>,
    /// RFC 3339, after the start. Also taken under the name `finished_at`.
    #[serde(alias = "finished_at")]
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: String,
    /// Messages a second, 0.001 to 1000000; absent or null: as many as the channel sends.
    #[schema(example = 20.0, minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<f64>,
}

/// What to change of a mailing; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ends_at": "2099-12-31T23:59:59Z"}))]
pub struct MailingPatch {
    /// As in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub text: Option<String>,
    /// As in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub filter: Option<FilterInput>,
    /// As in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<MailingChannel>, nullable = false)]
    pub channel: Option<String>,
    /// As in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Priority>, nullable = false)]
    pub priority: Option<String>,
    /// As in a new mailing.
    #[serde(default, alias = "created_at", deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub starts_at: Option<String>,
    /// As in a new mailing.
    #[serde(default, alias = "finished_at", deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub ends_at: Option<String>,
    /// As in a new mailing; null takes the limit away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>, minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<Option<f64>>,
}

/// A mailing to look at before it is made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "filter": {"tag": ["vip"]},
    "text": "Our shop is open again: say {{ phone_number }} and take 10 % off.",
    "ends_at": "2099-12-31T23:59:59Z"
}))]
pub struct PreviewBody {
    /// Who gets it; absent: everyone.
    pub filter: Option<FilterInput>,
    /// `sms`, the default.
    #[schema(value_type = Option<MailingChannel>)]
    pub channel: Option<String>,
    /// A text to fill for the clients shown.
    #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: Option<String>,
    /// RFC 3339; absent: now.
    #[serde(alias = "created_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<String>,
    /// RFC 3339; absent: it is not said whether the sending fits.
    #[serde(alias = "finished_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<String>,
    /// The mailing's own limit, as in a new mailing.
    #[schema(minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<f64>,
}

fn rate(rate: f64) -> Result<f64, String> {
    if (0.001..=1e6).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!(
            "must be 0.001 to 1000000 messages a second, or null for no limit of its own, not {rate}"
        ))
    }
}

fn text(text: String) -> Result<String, String> {
    Template::parse(&text).map(|_| text)
}

/// Checks an optional field; its complaint bears the field's name.
fn optional<I, T>(
    wrong: &mut Complaints,
    field: &str,
    value: Option<I>,
    check: impl FnOnce(I) -> Result<T, String>,
) -> Option<T> {
    value.and_then(|value| wrong.check(field, check(value)))
}

/// The filter's complaints name their own fields.
fn filter(wrong: &mut Complaints, input: Option<FilterInput>) -> Option<AudienceFilter> {
    match AudienceFilter::parse(input?) {
        Ok(filter) => Some(filter),
        Err(Error::Invalid(fields)) => {
            fields.into_iter().for_each(|f| wrong.add(f.field, f.reason));
            None
        }
        Err(other) => {
            wrong.add("filter", other.to_string());
            None
        }
    }
}

impl MailingPatch {
    /// The checked change.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_change(self) -> Result<MailingChange> {
        let mut wrong = Complaints::default();
        let change = MailingChange {
            text: optional(&mut wrong, "text", self.text, text),
            filter: filter(&mut wrong, self.filter),
            channel: optional(&mut wrong, "channel", self.channel, channel),
            priority: optional(&mut wrong, "priority", self.priority, |word| word.parse::<Priority>()),
            starts_at: optional(&mut wrong, "starts_at", self.starts_at.as_deref(), time),
            ends_at: optional(&mut wrong, "ends_at", self.ends_at.as_deref(), time),
            rate_per_second: optional(&mut wrong, "rate_per_second", self.rate_per_second, |wish| {
                wish.map(rate).transpose()
            }),
        };
        wrong.finish()?;
        Ok(change)
    }
}

impl MailingBody {
    /// The checked mailing.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_new(self) -> Result<NewMailing> {
        let fields = MailingPatch {
            text: Some(self.text),
            filter: self.filter,
            channel: self.channel,
            priority: self.priority,
            starts_at: self.starts_at,
            ends_at: Some(self.ends_at),
            rate_per_second: Some(self.rate_per_second),
        };
        let checked = fields.into_change()?;
        Ok(NewMailing {
            text: checked.text.ok_or_else(|| Error::invalid("text", "is required"))?,
            filter: checked.filter.unwrap_or_default(),
            channel: checked.channel.unwrap_or(ChannelKind::Sms),
            priority: checked.priority.unwrap_or(Priority::Normal),
            starts_at: checked.starts_at,
            ends_at: checked.ends_at.ok_or_else(|| Error::invalid("ends_at", "is required"))?,
            rate_per_second: checked.rate_per_second.flatten(),
        })
    }
}

impl PreviewBody {
    /// The checked question.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_question(self) -> Result<PreviewQuestion> {
        let fields = MailingPatch {
            text: self.text,
            filter: self.filter,
            channel: self.channel,
            priority: None,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            rate_per_second: Some(self.rate_per_second),
        };
        let checked = fields.into_change()?;
        Ok(PreviewQuestion {
            filter: checked.filter.unwrap_or_default(),
            channel: checked.channel.unwrap_or(ChannelKind::Sms),
            starts_at: checked.starts_at,
            ends_at: checked.ends_at,
            text: checked.text,
            rate_per_second: checked.rate_per_second.flatten(),
        })
    }
}

/// Clients are reached by phone: the other channels are for notifications.
fn channel(word: String) -> Result<ChannelKind, String> {
    match word.parse()? {
        ChannelKind::Sms => Ok(ChannelKind::Sms),
        other => Err(format!("a mailing goes over `sms`, not `{other}`; send notifications over `{other}`")),
    }
}
