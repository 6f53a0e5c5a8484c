//! The variants of a template: its texts in each language.

use super::content::{Content, Texts};
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::locale::lookup;

/// A template in one language, ready to be rendered.
#[derive(Debug)]
pub struct Variant {
    /// The language; `None` for the fallback, which is used for languages without a variant.
    pub locale: Option<String>,
    /// The version of the texts.
    pub version: i32,
    /// The parsed texts.
    pub content: Content,
    /// The source of the texts.
    pub texts: Texts,
}

impl Variant {
    /// Parses the texts.
    ///
    /// # Errors
    /// As [`Content::parse`].
    pub fn parse(locale: Option<String>, version: i32, channel: ChannelKind, texts: Texts) -> Result<Self> {
        let content = texts.parse(channel)?;
        Ok(Self { locale, version, content, texts })
    }
}

/// A template in all its languages.
#[derive(Debug)]
pub struct Variants {
    base: Variant,
    others: Vec<Variant>,
}

impl Variants {
    /// Creates it from the variant without a locale and the ones with a locale.
    pub fn new(base: Variant, others: Vec<Variant>) -> Self {
        Self { base, others }
    }

    /// Returns the variant for a language: `pt-BR`, else `pt`, else the one without a locale (RFC 4647, 3.4).
    pub fn of(&self, locale: Option<&str>) -> &Variant {
        let is_of = |variant: &&Variant, tag: &str| {
            variant.locale.as_deref().is_some_and(|locale| locale.eq_ignore_ascii_case(tag))
        };
        let mut found =
            locale.into_iter().flat_map(lookup).filter_map(|tag| self.others.iter().find(|v| is_of(v, tag)));
        found.next().unwrap_or(&self.base)
    }

    /// Returns the variant without a locale, which is the fallback.
    pub fn base(&self) -> &Variant {
        &self.base
    }

    /// Returns the variants with a locale.
    pub fn others(&self) -> &[Variant] {
        &self.others
    }

    /// Returns all variants, the one without a locale first.
    pub fn all(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.base).chain(&self.others)
    }

    /// Returns true if the texts depend on the recipient: on the language, or on the values for placeholders.
    pub fn needs_reader(&self) -> bool {
        !self.others.is_empty() || self.base.content.needs_values()
    }

    /// Returns its approximate size in bytes.
    pub(super) fn weight(&self) -> usize {
        let of = |part: &Option<String>| part.as_ref().map_or(0, String::len);
        // each text is stored as source and as parsed template
        self.all().map(|v| 1000 + 4 * (v.texts.text.len() + of(&v.texts.subject) + of(&v.texts.html))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_the_nearest_language() {
        let variant = |locale: Option<&str>| {
            let texts = Texts { subject: None, text: "x".into(), html: None };
            Variant::parse(locale.map(str::to_owned), 1, ChannelKind::Sms, texts).unwrap()
        };
        let others = ["pt", "pt-BR", "zh-Hant"].map(|locale| variant(Some(locale))).into();
        let variants = Variants::new(variant(None), others);
        for (wanted, found) in [
            (None, None),
            (Some("pt"), Some("pt")),
            (Some("pt-BR"), Some("pt-BR")),
            (Some("PT-br"), Some("pt-BR")),
            (Some("pt-BR-abl1943"), Some("pt-BR")),
            (Some("pt-AO"), Some("pt")),
            (Some("zh-Hant-TW"), Some("zh-Hant")),
            (Some("zh-TW"), None),
            (Some("p"), None),
            (Some(""), None),
        ] {
            assert_eq!(variants.of(wanted).locale.as_deref(), found, "{wanted:?}");
        }
    }
}
