//! Request bodies of mailings, and their validation.

use serde::Deserialize;
use utoipa::ToSchema;

use super::filter::FilterInput;
use crate::error::{Complaints, Error, Result};
use crate::http::json::{given, present, time};
use crate::kinds::{ChannelKind, ChannelToPeople, Priority, group};
use crate::mailings::filter::AudienceFilter;
use crate::mailings::model::{MailingChange, MailingDraft};
use crate::templates::model::check_name;
use crate::templates::{Content, Form, Template};

/// A mailing to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "text": "Our shop is open again: say {{ phone_number }} and take 10 % off.",
    "filter": {"mobile_operator_code": ["903", "916"]},
    "ends_at": "2099-12-31T23:59:59Z"
}))]
pub struct MailingBody {
    /// The name of a template for the channel, instead of `text`, `subject` and `html`. Its texts in all languages are
    /// copied: each client gets the texts of its `locale`, or of the closest language.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub template: Option<String>,
    /// The text, required without a template. `{{ name }}` is filled from the client's attributes. 1 to 1000 characters
    /// on `sms` and `push`, 2000 on `discord`, 20000 on `webhook` and `in_app`, 100000 on `email`.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: Option<String>,
    /// The subject, one line with placeholders: required for `email`, not allowed on `sms`.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The text of an `email` as HTML, with placeholders, whose values are escaped.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
    /// The filter that selects the audience; all clients if absent.
    pub filter: Option<FilterInput>,
    /// `sms` (the default), `email`, `push`, `webhook`, `discord` or `in_app`. The message goes to the client's phone
    /// number, e-mail address or push token, to the URL in its attribute `webhook_url` or `discord_url`, or to the
    /// inbox of its `external_id`. A client without this address has a failed message.
    #[schema(value_type = Option<ChannelToPeople>)]
    pub channel: Option<String>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// The start of the window, RFC 3339; now if absent. The name `created_at` is accepted too.
    #[serde(alias = "created_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<String>,
    /// The end of the window, RFC 3339, after the start. The name `finished_at` is accepted too.
    #[serde(alias = "finished_at")]
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: String,
    /// The mailing's own limit in messages per second, 0.001 to 1000000; absent or null for the channel's limit alone.
    #[schema(example = 20.0, minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<f64>,
    /// The group that its recipients may opt out of besides the whole channel, such as `newsletter`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$", example = "newsletter")]
    pub group: Option<String>,
    /// True if recipients cannot opt out of it: it ignores preferences and quiet hours. False if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>, nullable = false, default = false)]
    pub transactional: Option<bool>,
}

/// Changes to a mailing: an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ends_at": "2099-12-31T23:59:59Z"}))]
pub struct MailingPatch {
    /// The same as in a new mailing; replaces the texts.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub template: Option<String>,
    /// The same as in a new mailing; replaces a template.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub text: Option<String>,
    /// The same as in a new mailing; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<Option<String>>,
    /// The same as in a new mailing; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 200_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub html: Option<Option<String>>,
    /// The same as in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub filter: Option<FilterInput>,
    /// The same as in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ChannelToPeople>, nullable = false)]
    pub channel: Option<String>,
    /// The same as in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Priority>, nullable = false)]
    pub priority: Option<String>,
    /// The same as in a new mailing.
    #[serde(default, alias = "created_at", deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub starts_at: Option<String>,
    /// The same as in a new mailing.
    #[serde(default, alias = "finished_at", deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub ends_at: Option<String>,
    /// The same as in a new mailing; null removes the limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>, minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<Option<f64>>,
    /// The same as in a new mailing; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<Option<String>>,
    /// The same as in a new mailing.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub transactional: Option<bool>,
}

/// A mailing to preview.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "filter": {"tag": ["vip"]},
    "text": "Our shop is open again: say {{ phone_number }} and take 10 % off.",
    "ends_at": "2099-12-31T23:59:59Z"
}))]
pub struct PreviewBody {
    /// The filter that selects the audience; all clients if absent.
    pub filter: Option<FilterInput>,
    /// `sms` (the default), `email`, `push`, `webhook`, `discord` or `in_app`. The message goes to the client's phone
    /// number, e-mail address or push token, to the URL in its attribute `webhook_url` or `discord_url`, or to the
    /// inbox of its `external_id`. A client without this address has a failed message.
    #[schema(value_type = Option<ChannelToPeople>)]
    pub channel: Option<String>,
    /// The name of a template to fill for the sample, as in a new mailing.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub template: Option<String>,
    /// A text to fill for the sample.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: Option<String>,
    /// The subject, as in a new mailing; not without a text.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The text as HTML, as in a new mailing; not without a text.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
    /// The start of the window, RFC 3339; now if absent.
    #[serde(alias = "created_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<String>,
    /// The end of the window, RFC 3339. If it is absent, the preview has no `fits_window`.
    #[serde(alias = "finished_at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<String>,
    /// The mailing's own limit in messages per second, as in a new mailing.
    #[schema(minimum = 0.001, maximum = 1_000_000)]
    pub rate_per_second: Option<f64>,
}

fn rate(rate: f64) -> Result<f64, String> {
    if (0.001..=1e6).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!(
            "must be 0.001 to 1000000 messages per second, or null for the channel's limit alone, not {rate}"
        ))
    }
}

/// Validates the texts as far as possible without the channel.
fn check_texts(wrong: &mut Complaints, change: &MailingChange) {
    let parts = [
        ("text", change.text.as_ref(), Form::LONGEST_TEXT),
        ("subject", change.subject.as_ref().and_then(Option::as_ref), Form::LINE),
        ("html", change.html.as_ref().and_then(Option::as_ref), Form::HTML),
    ];
    for (field, text, form) in parts {
        text.and_then(|text| wrong.check(field, Template::parse(text, form)));
    }
}

/// Validates the texts for a channel. The errors name their own fields.
fn check_content(wrong: &mut Complaints, channel: ChannelKind, new: &MailingChange) {
    let Some(text) = &new.text else { return };
    let [subject, html] = [&new.subject, &new.html].map(|part| part.as_ref().and_then(Option::as_deref));
    if let Err(Error::Invalid(fields)) = Content::parse(channel, subject, text, html) {
        fields.into_iter().for_each(|f| wrong.add(f.field, f.reason));
    }
}

/// Validates an optional field; its error has the field's name.
fn optional<I, T>(
    wrong: &mut Complaints,
    field: &str,
    value: Option<I>,
    check: impl FnOnce(I) -> Result<T, String>,
) -> Option<T> {
    value.and_then(|value| wrong.check(field, check(value)))
}

/// Validates the filter. The errors name their own fields.
fn filter(wrong: &mut Complaints, input: Option<FilterInput>) -> Option<AudienceFilter> {
    match input?.into_filter() {
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
    /// Validates the change. The texts are validated for the mailing's channel later, when the mailing is read.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_change(self) -> Result<MailingChange> {
        let mut wrong = Complaints::default();
        let change = self.read(&mut wrong);
        check_texts(&mut wrong, &change);
        wrong.finish()?;
        Ok(change)
    }

    fn read(self, wrong: &mut Complaints) -> MailingChange {
        let parts = [
            ("text", self.text.is_some()),
            ("subject", self.subject.as_ref().is_some_and(Option::is_some)),
            ("html", self.html.as_ref().is_some_and(Option::is_some)),
        ];
        if let Some(template) = &self.template {
            wrong.check("template", check_name(template));
            for (field, _) in parts.iter().filter(|(_, is_there)| *is_there) {
                wrong.add(*field, "cannot be combined with `template`");
            }
        }
        MailingChange {
            template: self.template,
            text: self.text,
            subject: self.subject,
            html: self.html,
            filter: filter(wrong, self.filter),
            channel: optional(wrong, "channel", self.channel, |word| ChannelKind::to_people(&word)),
            priority: optional(wrong, "priority", self.priority, |word| word.parse::<Priority>()),
            starts_at: optional(wrong, "starts_at", self.starts_at.as_deref(), time),
            ends_at: optional(wrong, "ends_at", self.ends_at.as_deref(), time),
            rate_per_second: optional(wrong, "rate_per_second", self.rate_per_second, |wish| {
                wish.map(rate).transpose()
            }),
            group: optional(wrong, "group", self.group, |word| word.as_deref().map(group).transpose()),
            transactional: self.transactional,
        }
    }

    /// Validates the fields of a new mailing or a preview, which have a channel.
    fn into_draft(self, mut wrong: Complaints) -> Result<MailingDraft> {
        let names_channel = self.channel.is_some();
        let new = self.read(&mut wrong);
        match new.channel {
            Some(channel) => check_content(&mut wrong, channel, &new),
            None if names_channel => check_texts(&mut wrong, &new),
            None => check_content(&mut wrong, ChannelKind::Sms, &new),
        }
        wrong.finish()?;
        Ok(MailingDraft {
            template: new.template,
            text: new.text,
            subject: new.subject.flatten(),
            html: new.html.flatten(),
            filter: new.filter.unwrap_or_default(),
            channel: new.channel.unwrap_or(ChannelKind::Sms),
            priority: new.priority.unwrap_or(Priority::Normal),
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            rate_per_second: new.rate_per_second.flatten(),
            group: new.group.flatten(),
            is_transactional: new.transactional.unwrap_or_default(),
        })
    }
}

impl MailingBody {
    /// Validates the mailing.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_draft(self) -> Result<MailingDraft> {
        let mut wrong = Complaints::default();
        if self.text.is_none() && self.template.is_none() {
            wrong.add("text", "is required without `template`");
        }
        let fields = MailingPatch {
            template: self.template,
            text: self.text,
            subject: Some(self.subject),
            html: Some(self.html),
            filter: self.filter,
            channel: self.channel,
            priority: self.priority,
            starts_at: self.starts_at,
            ends_at: Some(self.ends_at),
            rate_per_second: Some(self.rate_per_second),
            group: Some(self.group),
            transactional: self.transactional,
        };
        fields.into_draft(wrong)
    }
}

impl PreviewBody {
    /// Validates the request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_draft(self) -> Result<MailingDraft> {
        for (field, is_alone) in [("subject", self.subject.is_some()), ("html", self.html.is_some())] {
            if is_alone && self.text.is_none() && self.template.is_none() {
                return Err(Error::invalid(field, "requires `text` or `template`"));
            }
        }
        let fields = MailingPatch {
            template: self.template,
            text: self.text,
            subject: Some(self.subject),
            html: Some(self.html),
            filter: self.filter,
            channel: self.channel,
            priority: None,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            rate_per_second: Some(self.rate_per_second),
            group: None,
            transactional: None,
        };
        fields.into_draft(Complaints::default())
    }
}
