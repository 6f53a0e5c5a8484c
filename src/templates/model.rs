//! A template, its versions, and the rules of their names.

use serde::Serialize;
use utoipa::ToSchema;

use super::content::Texts;
use crate::db::types::{TemplateId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::locale::Locale;
use crate::segments::Segments;

/// Characters of a name at most.
pub const LONGEST_NAME: usize = 100;

/// What a name is.
///
/// # Errors
/// Says what would be right.
pub fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    let is_right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_right) {
        Ok(())
    } else {
        Err("must be 1 to 100 small letters, digits, `_`, `.` or `-`, such as order.shipped")
    }
}

/// A template as it stands: the texts of one name, for one channel, in one language.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Template)]
pub struct StoredTemplate {
    /// Given by the service.
    pub id: TemplateId,
    /// What routes, notifications and mailings name it by.
    #[schema(example = "order.shipped")]
    pub name: String,
    /// How what it says goes out.
    pub channel: ChannelKind,
    /// For whom it is; null: for all whose language has no template of this name.
    pub locale: Option<Locale>,
    /// Which version of its texts is in use; the first is 1.
    #[schema(example = 1, minimum = 1)]
    pub version: i32,
    /// What stands above the text, with placeholders; null on `sms`.
    pub subject: Option<String>,
    /// The text, with placeholders.
    #[schema(example = "Dear {{ name }}, your order {{ payload.order_id }} has shipped.")]
    pub text: String,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    pub html: Option<String>,
    /// What is filled in, sorted.
    #[schema(example = json!(["name", "payload.order_id"]))]
    pub placeholders: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its texts were changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl StoredTemplate {
    /// What it says.
    pub fn texts(&self) -> Texts {
        Texts { subject: self.subject.clone(), text: self.text.clone(), html: self.html.clone() }
    }

    /// Takes other texts as its next version; answers whether they are others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are none on its channel.
    pub fn revise(&mut self, texts: Texts, now: Timestamp) -> Result<bool> {
        if texts == self.texts() {
            return Ok(false);
        }
        self.placeholders = placeholders(&texts, self.channel)?;
        (self.subject, self.text, self.html) = (texts.subject, texts.text, texts.html);
        let next = self.version.checked_add(1);
        self.version =
            next.ok_or_else(|| Error::Conflict("it has as many versions as there can be".into()))?;
        self.updated_at = now;
        Ok(true)
    }
}

/// What is filled into these texts.
///
/// # Errors
/// [`Error::Invalid`] for texts that are none on this channel.
pub fn placeholders(texts: &Texts, channel: ChannelKind) -> Result<Vec<String>> {
    Ok(texts.parse(channel)?.paths().into_iter().map(str::to_owned).collect())
}

/// One version of a template's texts; it never changes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TemplateVersion {
    /// Which one; the first is 1.
    #[schema(example = 1, minimum = 1)]
    pub version: i32,
    /// What stands above the text.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The text as HTML.
    pub html: Option<String>,
    /// What is filled in, sorted.
    pub placeholders: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A checked new template.
#[derive(Debug, Clone)]
pub struct NewTemplate {
    /// Its name.
    pub name: String,
    /// Its channel.
    pub channel: ChannelKind,
    /// Its language.
    pub locale: Option<Locale>,
    /// What it says.
    pub texts: Texts,
}

/// What a patch changes.
#[derive(Debug, Clone, Default)]
pub struct TemplateChange {
    /// Another subject; `Some(None)` takes it away.
    pub subject: Option<Option<String>>,
    /// Another text.
    pub text: Option<String>,
    /// Other HTML; `Some(None)` takes it away.
    pub html: Option<Option<String>>,
}

impl TemplateChange {
    /// These texts with what it changes.
    pub fn of(self, texts: Texts) -> Texts {
        Texts {
            subject: self.subject.unwrap_or(texts.subject),
            text: self.text.unwrap_or(texts.text),
            html: self.html.unwrap_or(texts.html),
        }
    }
}

/// Which templates a list shows: those that match every field that is given.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those for this channel.
    pub channel: Option<ChannelKind>,
    /// Only those of this very language.
    pub locale: Option<Locale>,
}

/// Texts, filled with data to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TemplatePreview {
    /// The subject; null without one, and when the texts cannot be filled.
    pub subject: Option<String>,
    /// The text; null when the texts cannot be filled.
    pub text: Option<String>,
    /// The HTML; null without one, and when the texts cannot be filled.
    pub html: Option<String>,
    /// What the text is charged as, on `sms`.
    pub segments: Option<Segments>,
    /// What is filled in, sorted.
    pub placeholders: Vec<String>,
    /// The placeholders that the data have no value for, those with a `default` among them.
    pub missing: Vec<String>,
    /// Why the texts cannot be filled.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_few_signs() {
        for name in ["a", "order.shipped", "welcome_2-b", "a".repeat(100).as_str()] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "A", "a b", "ä", "a/b", "a\n", "a".repeat(101).as_str()] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_same_texts_are_no_other_version() {
        let at = Timestamp::from_micros;
        let texts = Texts { subject: None, text: "Dear {{ name }}".into(), html: None };
        let mut template = StoredTemplate {
            id: TemplateId::new(),
            name: "x".into(),
            channel: ChannelKind::Sms,
            locale: None,
            version: 1,
            subject: None,
            text: texts.text.clone(),
            html: None,
            placeholders: vec!["name".into()],
            created_at: at(1),
            updated_at: at(1),
        };
        let before = template.clone();
        assert!(!template.revise(TemplateChange::default().of(template.texts()), at(2)).unwrap());
        assert_eq!(template, before);
        let change = TemplateChange { text: Some("{{ a.b }}".into()), ..TemplateChange::default() };
        assert!(template.revise(change.of(template.texts()), at(3)).unwrap());
        assert_eq!((template.version, template.updated_at), (2, at(3)));
        assert_eq!(template.placeholders, ["a.b"]);
        let wrong =
            TemplateChange { subject: Some(Some("no subject on sms".into())), ..TemplateChange::default() };
        assert!(template.revise(wrong.of(template.texts()), at(4)).is_err());
        assert_eq!(template.version, 2);
    }
}
