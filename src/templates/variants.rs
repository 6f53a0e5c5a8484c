//! What a template says in each language.

use super::content::{Content, Texts};
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::locale::lookup;

/// A template in one language, ready to be filled.
#[derive(Debug)]
pub struct Variant {
    /// For whom it is; none: for all whose language has no variant.
    pub locale: Option<String>,
    /// Which version of the texts it is.
    pub version: i32,
    /// What it says.
    pub content: Content,
    /// The same as it was written.
    pub texts: Texts,
}

impl Variant {
    /// Reads the texts.
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
    /// Of the one without a locale, and those that fall back to it.
    pub fn new(base: Variant, others: Vec<Variant>) -> Self {
        Self { base, others }
    }

    /// The variant for somebody of this language: `pt-BR`, else `pt`, else the one without a locale (RFC 4647, 3.4).
    pub fn of(&self, locale: Option<&str>) -> &Variant {
        let is_of = |variant: &&Variant, tag: &str| {
            variant.locale.as_deref().is_some_and(|locale| locale.eq_ignore_ascii_case(tag))
        };
        let mut found =
            locale.into_iter().flat_map(lookup).filter_map(|tag| self.others.iter().find(|v| is_of(v, tag)));
        found.next().unwrap_or(&self.base)
    }

    /// The one without a locale, which the others fall back to.
    pub fn base(&self) -> &Variant {
        &self.base
    }

    /// Those with a locale.
    pub fn others(&self) -> &[Variant] {
        &self.others
    }

    /// All of them, the one without a locale first.
    pub fn all(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.base).chain(&self.others)
    }

    /// Whether it depends on the reader what is said: on the language, or on what fills the placeholders.
    pub fn needs_reader(&self) -> bool {
        !self.others.is_empty() || self.base.content.needs_values()
    }

    /// Roughly the bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let of = |part: &Option<String>| part.as_ref().map_or(0, String::len);
        // each text stands there as it was written and as it is read
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
