//! The language of messages to a person: BCP 47 language tags (RFC 5646), without extensions.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

/// The length of the longest tag that systems must expect (RFC 5646, 4.4.1).
pub const LONGEST_LOCALE: usize = 35;
/// The pattern of a tag.
pub const PATTERN: &str =
    "^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*$";
const RULE: &str = "must be a language tag such as de, pt-BR or zh-Hant: a language, optionally followed by a script, a region and \
    variants, joined by `-`";

/// A well-formed tag: language, script, region and variants, in the case that RFC 5646 recommends (2.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Locale(String);

impl Locale {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the tag and its fallbacks, each one subtag shorter (RFC 4647, 3.4).
pub fn lookup(tag: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(tag), |tag| tag.rsplit_once('-').map(|(shorter, _)| shorter))
}

impl FromStr for Locale {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > LONGEST_LOCALE {
            return Err("must be a language tag of at most 35 characters, such as pt-BR");
        }
        let mut subtags = text.split('-').peekable();
        let language = subtags.next().filter(|tag| is_alphabetic(tag, 2..=3)).ok_or(RULE)?;
        let mut tag = language.to_ascii_lowercase();
        let mut push = |subtag: &str| {
            tag.push('-');
            tag.push_str(subtag);
        };
        if let Some(script) = subtags.next_if(|subtag| is_alphabetic(subtag, 4..=4)) {
            let (first, rest) = script.split_at(1);
            push(&(first.to_ascii_uppercase() + &rest.to_ascii_lowercase()));
        }
        if let Some(region) = subtags.next_if(|subtag| is_region(subtag)) {
            push(&region.to_ascii_uppercase());
        }
        for variant in subtags {
            if !is_variant(variant) {
                return Err(RULE);
            }
            push(&variant.to_ascii_lowercase());
        }
        Ok(Self(tag))
    }
}

fn is_alphabetic(subtag: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphabetic())
}

fn is_region(subtag: &str) -> bool {
    is_alphabetic(subtag, 2..=2) || (subtag.len() == 3 && subtag.bytes().all(|b| b.is_ascii_digit()))
}

fn is_variant(subtag: &str) -> bool {
    let is_short = subtag.len() == 4 && subtag.starts_with(|c: char| c.is_ascii_digit());
    (is_short || (5..=8).contains(&subtag.len())) && subtag.bytes().all(|b| b.is_ascii_alphanumeric())
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialSchema for Locale {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(2))
            .max_length(Some(LONGEST_LOCALE))
            .pattern(Some(PATTERN))
            .examples(["pt-BR"])
            .description(Some(
                "A BCP 47 language tag: a language, optionally followed by a script, a region and variants.",
            ))
            .into()
    }
}
impl ToSchema for Locale {
    fn name() -> Cow<'static, str> {
        "Locale".into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_kept_in_their_usual_case() {
        for (text, tag) in [
            ("de", "de"),
            (" PT-br ", "pt-BR"),
            ("zh-hANT-tw", "zh-Hant-TW"),
            ("ES-419", "es-419"),
            ("sl-ROZAJ-biske-1994", "sl-rozaj-biske-1994"),
            ("haw", "haw"),
        ] {
            assert_eq!(text.parse::<Locale>().unwrap().as_str(), tag);
        }
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        let long = format!("de{}", "-abcdefgh".repeat(4));
        for text in [
            "",
            "d",
            "deutsch",
            "d3",
            "de_DE",
            "de-",
            "-de",
            "de--DE",
            "de-D",
            "de-u-co-phonebk",
            "x-private",
            "дe",
            "de-DE-Latn",
            "de-\0\0\0\0\0",
            long.as_str(),
        ] {
            assert!(text.parse::<Locale>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_tag_falls_back_subtag_by_subtag() {
        assert_eq!(lookup("zh-Hant-TW").collect::<Vec<_>>(), ["zh-Hant-TW", "zh-Hant", "zh"]);
        assert_eq!(lookup("").collect::<Vec<_>>(), [""]);
    }

    proptest! {
        /// A parsed tag parses to itself.
        #[test]
        fn a_tag_is_read_as_it_was_kept(text in "[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{5,8})?") {
            let tag: Locale = text.parse().unwrap();
            prop_assert_eq!(tag.as_str().parse::<Locale>().unwrap(), tag.clone());
            prop_assert!(tag.as_str().eq_ignore_ascii_case(&text));
        }
    }
}
