//! Request bodies of templates, and their validation.

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use crate::error::{Complaints, Error, Result};
use crate::http::json::{given, present};
use crate::kinds::{ChannelKind, ChannelToPeople};
use crate::locale::Locale;
use crate::templates::content::Texts;
use crate::templates::model::{NewTemplate, TemplateChange, check_name};

/// A template to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "order.shipped", "channel": "sms", "text": "Dear {{ name }}, your order {{ payload.order_id }} has shipped."
}))]
pub struct TemplateBody {
    /// The name by which routes, notifications and mailings refer to it.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub name: String,
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The language of its readers. If it is absent, the template is the fallback for languages without a template of
    /// this name. The fallback must be created first.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// The text, with placeholders such as `{{ name }}`. 1 to 1000 characters on `sms` and `push`, 2000 on `discord`,
    /// 20000 on `webhook` and `in_app`, 100000 on `email`.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: String,
    /// The subject, one line with placeholders: required for `email`, not allowed on `sms`.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The text of an `email` as HTML, with placeholders, whose values are escaped.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
}

/// Changes to a template: an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Dear {{ name }}, your order is on its way."}))]
pub struct TemplatePatch {
    /// The same as in a new template.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub text: Option<String>,
    /// The same as in a new template; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<Option<String>>,
    /// The same as in a new template; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        min_length = 1,
        max_length = 200_000,
        pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    )]
    pub html: Option<Option<String>>,
}

/// Data for a preview of a template.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TemplateTrial, example = json!({"data": {"name": "Anna", "payload": {"order_id": "A-1"}}}))]
pub struct TemplateTrialBody {
    /// The values for the placeholders.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub data: Map<String, Json>,
    /// The version; the one in use if absent.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub version: Option<i32>,
}

/// Texts and data for a preview, which are not stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TextTrial, example = json!({
    "channel": "sms", "text": "Dear {{ name }}, your order {{ payload.order_id }} has shipped.",
    "data": {"name": "Anna", "payload": {"order_id": "A-1"}}
}))]
pub struct TextTrialBody {
    /// The same as in a new template; not required.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9_.-]+$")]
    pub name: Option<String>,
    /// The same as in a new template.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The same as in a new template.
    #[schema(value_type = Option<Locale>)]
    pub locale: Option<String>,
    /// The same as in a new template.
    #[schema(min_length = 1, max_length = 100_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub text: String,
    /// The same as in a new template.
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
    /// The same as in a new template.
    #[schema(min_length = 1, max_length = 200_000, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub html: Option<String>,
    /// The values for the placeholders.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub data: Map<String, Json>,
}

impl TemplateBody {
    /// Validates the template.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn into_new(self) -> Result<NewTemplate> {
        let mut wrong = Complaints::default();
        wrong.check("name", check_name(&self.name));
        let channel = wrong.check("channel", ChannelKind::to_people(&self.channel));
        let locale = self.locale.and_then(|text| wrong.check("locale", text.parse::<Locale>()));
        let texts = Texts { subject: self.subject, text: self.text, html: self.html };
        // the rules for texts depend on the channel
        if let Some(Err(Error::Invalid(fields))) = channel.map(|channel| texts.parse(channel)) {
            fields.into_iter().for_each(|f| wrong.add(f.field, f.reason));
        }
        wrong.finish()?;
        let channel = channel.ok_or_else(|| Error::internal("a validated channel is missing"))?;
        Ok(NewTemplate { name: self.name, channel, locale, texts })
    }
}

impl From<TemplatePatch> for TemplateChange {
    fn from(patch: TemplatePatch) -> Self {
        Self { subject: patch.subject, text: patch.text, html: patch.html }
    }
}

impl TextTrialBody {
    /// Returns the channel, the texts and the data.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
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

impl TemplateTrialBody {
    /// Returns the version and the data.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a version below 1.
    pub fn into_parts(self) -> Result<(Option<i32>, Map<String, Json>)> {
        if self.version.is_some_and(|version| version < 1) {
            return Err(Error::invalid("version", "must be at least 1"));
        }
        Ok((self.version, self.data))
    }
}
