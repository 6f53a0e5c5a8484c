//! Bodies of requests about templates, and how they become checked input.

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use crate::error::{Complaints, Error, Result};
use crate::http::json::{given, present};
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::locale::Locale;
use crate::templates::content::Texts;
use crate::templates::model::{NewTemplate, TemplateChange, check_name};

/// A template to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "order.shipped", "channel": "sms", "text": "Dear {{ name }}, your order {{ payload.order_id }} has shipped."
}))]
pub struct TemplateBody {
    /// What routes, notifications and mailings name it by.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub name: String,
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// For whom it is; absent: for all whose language has no template of this name. That one has to be made first.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// `{{ name }}` is filled in. 1 to 1000 characters on `sms` and `push`, 2000 on `discord`, 20000 on `webhook` and
    /// `in_app`, 100000 on `email`.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: String,
    /// One line above the text, filled likewise: needed for `email`, none on `sms`.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The text of an `email` as HTML, filled likewise; what is filled in is escaped.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
}

/// What a template says from now on; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Dear {{ name }}, your order is on its way."}))]
pub struct TemplatePatch {
    /// As in a new template.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub text: Option<String>,
    /// As in a new template; null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<Option<String>>,
    /// As in a new template; null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 200_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub html: Option<Option<String>>,
}

/// Data to try a template with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TemplateTrial, example = json!({"data": {"name": "Anna", "payload": {"order_id": "A-1"}}}))]
pub struct TrialBody {
    /// What the placeholders are filled from.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub data: Map<String, Json>,
    /// Which version; absent: the one in use.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub version: Option<i32>,
}

/// Texts that are not kept, and data to try them with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TextTrial, example = json!({
    "channel": "sms", "text": "Dear {{ name }}, your order {{ payload.order_id }} has shipped.",
    "data": {"name": "Anna", "payload": {"order_id": "A-1"}}
}))]
pub struct TextTrialBody {
    /// As in a new template, and not needed here.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub name: Option<String>,
    /// As in a new template.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// As in a new template.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// As in a new template.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: String,
    /// As in a new template.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// As in a new template.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
    /// What the placeholders are filled from.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub data: Map<String, Json>,
}

impl TemplateBody {
    /// The checked template.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_new(self) -> Result<NewTemplate> {
        let mut wrong = Complaints::default();
        wrong.check("name", check_name(&self.name));
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let locale = self.locale.and_then(|text| wrong.check("locale", text.parse::<Locale>()));
        let texts = Texts { subject: self.subject, text: self.text, html: self.html };
        // what a text may be depends on the channel
        if let Some(Err(Error::Invalid(fields))) = channel.map(|channel| texts.parse(channel)) {
            fields.into_iter().for_each(|f| wrong.add(f.field, f.reason));
        }
        wrong.finish()?;
        let channel = channel
            .ok_or_else(|| Error::internal("a channel was read without complaint and is not there"))?;
        Ok(NewTemplate { name: self.name, channel, locale, texts })
    }
}

impl From<TemplatePatch> for TemplateChange {
    fn from(patch: TemplatePatch) -> Self {
        Self { subject: patch.subject, text: patch.text, html: patch.html }
    }
}

impl TextTrialBody {
    /// Channel, texts and data.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names every wrong field.
    pub fn into_parts(self) -> Result<(ChannelKind, Texts, Map<String, Json>)> {
        let body = TemplateBody {
            name: self.name.unwrap_or_else(|| "preview".into()),
            channel: self.channel,
            locale: self.locale,
            text: self.text,
            subject: self.subject,
            html: self.html,
        };
        let new = body.into_new()?;
        Ok((new.channel, new.texts, self.data))
    }
}

impl TrialBody {
    /// The version and the data.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a version that none can be.
    pub fn into_parts(self) -> Result<(Option<i32>, Map<String, Json>)> {
        if self.version.is_some_and(|version| version < 1) {
            return Err(Error::invalid("version", "must be 1 or more"));
        }
        Ok((self.version, self.data))
    }
}
