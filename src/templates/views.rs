//! Templates, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{StoredTemplate, TemplatePreview, TemplateVersion};
use crate::db::types::{TemplateId, Timestamp};
use crate::kinds::ChannelKind;
use crate::locale::Locale;
use crate::segments::Segments;

/// A template: the texts with one name, for one channel, in one language.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
pub struct TemplateView {
    /// The template's id, assigned by the service.
    pub id: TemplateId,
    /// The name by which routes, notifications and mailings refer to it.
    #[schema(example = "order.shipped")]
    pub name: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The language of its readers; null for the fallback, which is used for languages without a template of this name.
    pub locale: Option<Locale>,
    /// The version in use; the first is 1.
    #[schema(example = 1, minimum = 1)]
    pub version: i32,
    /// The subject, with placeholders; null on `sms`.
    pub subject: Option<String>,
    /// The text, with placeholders.
    #[schema(example = "Dear {{ name }}, your order {{ payload.order_id }} has shipped.")]
    pub text: String,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    pub html: Option<String>,
    /// The placeholders, sorted.
    #[schema(example = json!(["name", "payload.order_id"]))]
    pub placeholders: Vec<String>,
    /// The time of its creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of the last change of its texts.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<StoredTemplate> for TemplateView {
    fn from(template: StoredTemplate) -> Self {
        let StoredTemplate {
            id,
            name,
            channel,
            locale,
            version,
            subject,
            text,
            html,
            placeholders,
            created_at,
            updated_at,
        } = template;
        Self { id, name, channel, locale, version, subject, text, html, placeholders, created_at, updated_at }
    }
}

/// One version of a template's texts; it never changes.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = TemplateVersion)]
pub struct TemplateVersionView {
    /// The number of the version; the first is 1.
    #[schema(example = 1, minimum = 1)]
    pub version: i32,
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
    /// The placeholders, sorted.
    pub placeholders: Vec<String>,
    /// The time of its creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<TemplateVersion> for TemplateVersionView {
    fn from(version: TemplateVersion) -> Self {
        let TemplateVersion { version, subject, text, html, placeholders, created_at } = version;
        Self { version, subject, text, html, placeholders, created_at }
    }
}

/// Texts that were rendered with the data of a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplatePreview)]
pub struct TemplatePreviewView {
    /// The subject; null if there is none, or if the texts cannot be rendered.
    pub subject: Option<String>,
    /// The text; null if the texts cannot be rendered.
    pub text: Option<String>,
    /// The HTML; null if there is none, or if the texts cannot be rendered.
    pub html: Option<String>,
    /// The segments by which the text is charged, on `sms`.
    pub segments: Option<Segments>,
    /// The placeholders, sorted.
    pub placeholders: Vec<String>,
    /// The placeholders without a value in the data, including those with a `default`.
    pub missing: Vec<String>,
    /// The reason why the texts cannot be rendered.
    pub error: Option<String>,
}

impl From<TemplatePreview> for TemplatePreviewView {
    fn from(preview: TemplatePreview) -> Self {
        let TemplatePreview { subject, text, html, segments, placeholders, missing, error } = preview;
        Self { subject, text, html, segments, placeholders, missing, error }
    }
}
