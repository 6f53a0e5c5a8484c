//! The tags of a client: labels that select audiences, compared without case.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::fields::{ensure, is_line};
use crate::address::text::composed;

/// The largest number of tags of a client.
pub const MOST_TAGS: usize = 50;

/// The characters that separate tags in a cell, in the order of precedence.
const SEPARATORS: [char; 3] = [';', '|', ','];
/// The validation error of a list with too many tags.
const TOO_MANY: &str = "must be at most 50 tags";

/// A label that selects clients, in the spelling that was given: trimmed, in Unicode's composed form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Tag(String);

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key that all spellings of one tag share.
    pub fn key(&self) -> Cow<'_, str> {
        tag_key(&self.0)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl FromStr for Tag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = composed(text.trim());
        ensure(is_line(&text, 100), "must be 1 to 100 characters, no control characters among them")?;
        Ok(Self(text.into_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the key that all spellings of one tag share: lower case, composed.
pub fn tag_key(tag: &str) -> Cow<'_, str> {
    if tag.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return tag.into();
    }
    composed(&composed(tag).to_lowercase()).into_owned().into()
}

/// Removes repeated tags and keeps the order.
///
/// # Errors
/// There are more than [`MOST_TAGS`].
pub fn distinct(tags: impl IntoIterator<Item = Tag>) -> Result<Vec<Tag>, &'static str> {
    let all = distinct_by_key(tags.into_iter().collect(), Tag::as_str);
    ensure(all.len() <= MOST_TAGS, TOO_MANY).map(|()| all)
}

/// Removes items whose tag, in any spelling, an earlier item already has.
pub fn distinct_by_key<T>(all: Vec<T>, tag: impl Fn(&T) -> &str) -> Vec<T> {
    if all.len() < 2 {
        return all;
    }
    let mut keys: HashSet<String> = HashSet::new();
    all.into_iter().filter(|one| keys.insert(tag_key(tag(one)).into_owned())).collect()
}

/// Splits a cell into tags: a JSON array of strings, or words separated by `;`, else by `|`, else by `,`. A word in
/// double quotes may contain these.
///
/// # Errors
/// A tag is not valid, or there are too many.
pub fn split(cell: &str) -> Result<Vec<Tag>, &'static str> {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(cell) {
        let tags: Result<Vec<Tag>, _> = words.iter().map(|word| word.parse()).collect();
        return distinct(tags?);
    }
    let is_quoted = cell.contains('"');
    let separator = SEPARATORS.into_iter().find(|separator| cell.contains(*separator));
    let Some(separator) = separator.filter(|_| !is_quoted).or(is_quoted.then_some(',')) else {
        return Ok(vec![cell.parse()?]);
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(u8::try_from(separator).unwrap_or(b','))
        .trim(csv::Trim::All)
        .from_reader(cell.as_bytes());
    let mut tags = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|_| "must be tags separated by semicolons")?;
        for word in record.iter().filter(|word| !word.is_empty()) {
            tags.push(word.parse()?);
        }
    }
    distinct(tags)
}

/// Joins tags into the cell that [`split`] parses.
pub fn join(tags: &[Tag]) -> Cow<'_, str> {
    let is_plain = |tag: &Tag| !tag.0.contains(SEPARATORS) && !tag.0.contains('"') && !tag.0.starts_with('[');
    match tags {
        [] => "".into(),
        [tag] if is_plain(tag) => tag.as_str().into(),
        tags if tags.iter().all(is_plain) => {
            tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(";").into()
        }
        tags => Value::from(tags.iter().map(Tag::as_str).collect::<Vec<_>>()).to_string().into(),
    }
}

/// Returns the stored form of the tags after the first one: `[[key, tag], …]` in JSON; `None` if there are none.
pub fn more_to_stored(tags: &[Tag]) -> Option<String> {
    let more = tags.get(1..).filter(|more| !more.is_empty())?;
    let pairs: Vec<Value> =
        more.iter().map(|tag| Value::from(vec![tag.key().as_ref(), tag.as_str()])).collect();
    Some(Value::from(pairs).to_string())
}

/// Returns the `(key, tag)` pairs of stored tags. Unreadable text has no tags.
pub fn more_of_stored(stored: Option<&str>) -> Vec<(String, String)> {
    stored.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(tags: &[Tag]) -> Vec<&str> {
        tags.iter().map(Tag::as_str).collect()
    }

    #[test]
    fn spellings_of_a_tag_are_one() {
        let tags = [" VIP", "vip ", "Zoe\u{308}", "ZOË", "Москва", "МОСКВА", "vip2"];
        let all = distinct(tags.map(|tag| tag.parse().unwrap())).unwrap();
        assert_eq!(texts(&all), ["VIP", "Zoë", "Москва", "vip2"]);
    }

    #[test]
    fn a_cell_of_tags_is_split_where_it_says() {
        for (cell, tags) in [
            ("vip", vec!["vip"]),
            ("new customer", vec!["new customer"]),
            ("vip;gold", vec!["vip", "gold"]),
            ("vip ; a, b;; VIP", vec!["vip", "a, b"]),
            ("vip|gold", vec!["vip", "gold"]),
            ("vip, gold", vec!["vip", "gold"]),
            ("\"vip\",\"a,b\"", vec!["vip", "a,b"]),
            ("[\"vip\", \"a;b\"]", vec!["vip", "a;b"]),
            ("[vip]", vec!["[vip]"]),
            (";", vec![]),
        ] {
            assert_eq!(texts(&split(cell).unwrap()), tags, "{cell}");
        }
        assert!(split(&format!("vip;{}", "x".repeat(101))).is_err());
        assert!(
            "я".repeat(100).parse::<Tag>().is_ok()
                && "a\nb".parse::<Tag>().is_err()
                && " ".parse::<Tag>().is_err()
        );
        let many: Vec<String> = (0..=MOST_TAGS).map(|n| n.to_string()).collect();
        assert_eq!(split(&many.join(";")), Err(TOO_MANY));
    }

    proptest! {
        #[test]
        fn tags_are_read_from_the_cell_that_they_are_written_to(
            words in prop::collection::vec("[a-zA-Zя \\[\\];,|\"\\\\]{0,6}[a-zя\\]\"]", 0..6),
        ) {
            let tags = distinct(words.iter().map(|word| word.parse().unwrap())).unwrap();
            let cell = join(&tags);
            let read = if cell.is_empty() { Vec::new() } else { split(&cell).unwrap() };
            prop_assert_eq!(read, tags);
        }

        #[test]
        fn keys_are_normal_forms(word in "\\PC{1,20}") {
            let key = tag_key(&word).into_owned();
            prop_assert_eq!(tag_key(&key), key.as_str());
        }

        #[test]
        fn stored_tags_are_read_as_they_were(words in prop::collection::vec("\\PC{0,5}[a-z]", 0..5)) {
            let tags = distinct(words.iter().map(|word| word.parse().unwrap())).unwrap();
            let stored = more_to_stored(&tags);
            let read: Vec<String> = more_of_stored(stored.as_deref()).into_iter().map(|(_, tag)| tag).collect();
            prop_assert_eq!(read, texts(tags.get(1..).unwrap_or_default()));
        }
    }
}
