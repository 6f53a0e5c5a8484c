//! Templates, their versions, and the rules of their names.

use super::content::Texts;
use crate::db::types::{TemplateId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;
use crate::locale::Locale;
use crate::segments::Segments;

/// The longest name, in characters.
pub const LONGEST_NAME: usize = 100;

/// Validates the name of a template.
///
/// # Errors
/// The rule for names.
pub fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    let is_right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_right) {
        Ok(())
    } else {
        Err("must be 1 to 100 characters: letters a to z, digits, `_`, `.` and `-`, such as order.shipped")
    }
}

/// A template: the texts with one name, for one channel, in one language.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTemplate {
    /// The template's id, assigned by the service.
    pub id: TemplateId,
    /// The name by which routes, notifications and mailings refer to it.
    pub name: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The language of its readers; null for the fallback, which is used for languages without a template of this name.
    pub locale: Option<Locale>,
    /// The version in use; the first is 1.
    pub version: i32,
    /// The subject, with placeholders; null on `sms`.
    pub subject: Option<String>,
    /// The text, with placeholders.
    pub text: String,
    /// The text as HTML, with placeholders whose values are escaped; null on all channels but `email`.
    pub html: Option<String>,
    /// The placeholders, sorted.
    pub placeholders: Vec<String>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of the last change of its texts.
    pub updated_at: Timestamp,
}

impl StoredTemplate {
    /// Returns its texts.
    pub fn texts(&self) -> Texts {
        Texts { subject: self.subject.clone(), text: self.text.clone(), html: self.html.clone() }
    }

    /// Sets the texts of its next version. Returns false, and changes nothing, if they are the present texts.
    ///
    /// # Errors
    /// [`Error::Invalid`] for texts that are not valid on its channel.
    pub fn revise(&mut self, texts: Texts, now: Timestamp) -> Result<bool> {
        if texts == self.texts() {
            return Ok(false);
        }
        self.placeholders = placeholders(&texts, self.channel)?;
        (self.subject, self.text, self.html) = (texts.subject, texts.text, texts.html);
        let next = self.version.checked_add(1);
        self.version =
            next.ok_or_else(|| Error::Conflict("the template has the maximum number of versions".into()))?;
        self.updated_at = now;
        Ok(true)
    }
}

/// Returns the placeholders of texts, sorted.
///
/// # Errors
/// [`Error::Invalid`] for texts that are not valid on the channel.
pub fn placeholders(texts: &Texts, channel: ChannelKind) -> Result<Vec<String>> {
    Ok(texts.parse(channel)?.paths().into_iter().map(str::to_owned).collect())
}

/// One version of a template's texts; it never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateVersion {
    /// The number of the version; the first is 1.
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
    pub created_at: Timestamp,
}

/// A validated new template.
#[derive(Debug, Clone)]
pub struct NewTemplate {
    /// Its name.
    pub name: String,
    /// Its channel.
    pub channel: ChannelKind,
    /// Its language.
    pub locale: Option<Locale>,
    /// Its texts.
    pub texts: Texts,
}

/// The changes of a patch.
#[derive(Debug, Clone, Default)]
pub struct TemplateChange {
    /// The new subject; `Some(None)` removes it.
    pub subject: Option<Option<String>>,
    /// The new text.
    pub text: Option<String>,
    /// The new HTML; `Some(None)` removes it.
    pub html: Option<Option<String>>,
}

impl TemplateChange {
    /// Applies the changes to texts.
    pub fn of(self, texts: Texts) -> Texts {
        Texts {
            subject: self.subject.unwrap_or(texts.subject),
            text: self.text.unwrap_or(texts.text),
            html: self.html.unwrap_or(texts.html),
        }
    }
}

/// The filter of the list. A template must match every condition that is set.
#[derive(Debug, Clone, Default)]
pub struct TemplateListFilter {
    /// Selects a name.
    pub name: Option<String>,
    /// Selects a channel.
    pub channel: Option<ChannelKind>,
    /// Selects exactly this language.
    pub locale: Option<Locale>,
}

/// Texts that were rendered with the data of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplatePreview {
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
