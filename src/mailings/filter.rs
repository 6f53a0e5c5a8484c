//! The filter that selects the clients of a mailing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clients::model::{OperatorCode, Tag, distinct_by_key, tag_key};
use crate::error::{Complaints, Result};
use crate::kinds::ChannelKind;

/// The most operator codes or tags of one filter.
const MOST_VALUES: usize = 200;
/// The channels whose addresses a filter can require.
const REACHED: [&str; 3] =
    [ChannelKind::Sms.as_str(), ChannelKind::Email.as_str(), ChannelKind::Push.as_str()];

/// The addresses that a client must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequiredAddresses {
    /// A phone number.
    pub by_sms: bool,
    /// An e-mail address.
    pub by_email: bool,
    /// A push token.
    pub by_push: bool,
}

/// A validated filter: its lists are sorted and have no duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceFilter {
    /// Selects clients with one of these operator codes; empty for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mobile_operator_code: Vec<String>,
    /// Selects clients with one of these tags, compared case-insensitively; empty for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
    /// Selects clients with an address on each of these channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
}

/// A part of an audience that is contiguous in an index which ends in the client's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// All clients.
    All,
    /// All clients of an operator.
    Operator(String),
    /// All clients whose first tag has this key.
    Tag(String),
    /// All clients of an operator whose first tag has this key.
    Both(String, String),
    /// All clients, or the clients of an operator, that have a tag after their first one and are in no earlier range.
    Further(Option<String>, Further),
}

/// One of the tags of a filter, matched against the tags of a client after the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    keys: Arc<[String]>,
    at: usize,
}

impl Further {
    /// Returns the tag's key.
    pub fn key(&self) -> &str {
        self.keys.get(self.at).map_or("", String::as_str)
    }

    /// Returns true if this is the first of the filter's tags that the client has, and the client's first tag puts it
    /// in no other range.
    fn is_first_of(&self, mut keys: impl Iterator<Item = impl AsRef<str>>) -> bool {
        let place = |key: &str| self.keys.iter().position(|wanted| wanted == key);
        keys.next().is_some_and(|first| place(first.as_ref()).is_none())
            && keys.filter_map(|key| place(key.as_ref())).min() == Some(self.at)
    }
}

impl Range {
    /// Returns true if a client with this operator code and these tag keys is in the range.
    pub fn holds(&self, operator: Option<&str>, keys: &[impl AsRef<str>]) -> bool {
        let first = keys.first().map(AsRef::as_ref);
        match self {
            Self::All => true,
            Self::Operator(code) => operator == Some(code),
            Self::Tag(wanted) => first == Some(wanted),
            Self::Both(code, wanted) => operator == Some(code) && first == Some(wanted),
            Self::Further(code, tag) => {
                code.as_deref().is_none_or(|code| operator == Some(code)) && tag.is_first_of(keys.iter())
            }
        }
    }
}

impl AudienceFilter {
    /// Validates the lists of a filter: operator codes, tags, and channels on which the client must have an address.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] with the list and the index in it.
    pub fn parse(mobile_operator_code: &[String], tag: &[String], has: &[String]) -> Result<Self> {
        let mut wrong = Complaints::default();
        let mut codes = Vec::new();
        for (i, code) in mobile_operator_code.iter().enumerate() {
            codes.extend(
                wrong.check(&format!("filter.mobile_operator_code[{i}]"), code.parse::<OperatorCode>()),
            );
        }
        let mut tags = Vec::new();
        for (i, tag) in tag.iter().enumerate() {
            tags.extend(wrong.check(&format!("filter.tag[{i}]"), tag.parse::<Tag>()));
        }
        if has.len() > REACHED.len() {
            wrong.add("filter.has", format!("must contain each of {} at most once", REACHED.join(", ")));
        }
        for (i, word) in has.iter().enumerate().take(MOST_VALUES) {
            if !REACHED.contains(&word.as_str()) {
                wrong.add(format!("filter.has[{i}]"), format!("must be one of {}", REACHED.join(", ")));
            }
        }
        for (field, count) in [("filter.mobile_operator_code", codes.len()), ("filter.tag", tags.len())] {
            if count > MOST_VALUES {
                wrong.add(field, format!("must have at most {MOST_VALUES} values, not {count}"));
            }
        }
        wrong.finish()?;
        Ok(Self {
            mobile_operator_code: sorted(codes.iter().map(OperatorCode::as_str)),
            tag: distinct_by_key(sorted(tags.iter().map(Tag::as_str)), |tag| tag),
            has: sorted(has.iter().map(String::as_str)),
        })
    }

    /// Returns the addresses that a client must have.
    pub fn reachable(&self) -> RequiredAddresses {
        let has = |channel: ChannelKind| self.has.iter().any(|word| word == channel.as_str());
        RequiredAddresses {
            by_sms: has(ChannelKind::Sms),
            by_email: has(ChannelKind::Email),
            by_push: has(ChannelKind::Push),
        }
    }

    /// Returns the keys of its tags.
    pub fn keys(&self) -> Vec<String> {
        // a filter that an earlier version stored may have a tag in two spellings
        distinct_by_key(self.tag.iter().map(|tag| tag_key(tag).into_owned()).collect(), |key| key)
    }

    /// Returns the disjoint ranges that make up the audience. Their order is fixed, because a cursor refers to a range
    /// by its index. The ranges of further tags come last.
    pub fn ranges(&self) -> Vec<Range> {
        let keys: Arc<[String]> = self.keys().into();
        let further = |code: Option<&String>| {
            let code = code.cloned();
            let all = (0..keys.len()).map(|at| Further { keys: Arc::clone(&keys), at });
            all.map(|tag| Range::Further(code.clone(), tag)).collect::<Vec<_>>()
        };
        match (self.mobile_operator_code.as_slice(), keys.as_ref()) {
            ([], []) => vec![Range::All],
            (codes, []) => codes.iter().cloned().map(Range::Operator).collect(),
            ([], keys) => keys.iter().cloned().map(Range::Tag).chain(further(None)).collect(),
            (codes, keys) => {
                let both = |code: &String| {
                    keys.iter().map(|key| Range::Both(code.clone(), key.clone())).collect::<Vec<_>>()
                };
                codes.iter().flat_map(both).chain(codes.iter().flat_map(|code| further(Some(code)))).collect()
            }
        }
    }
}

fn sorted<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    let set: std::collections::BTreeSet<&str> = values.collect();
    set.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_client_of_the_audience_lies_in_exactly_one_range(
            codes in proptest::collection::vec("[0-9]{3}", 0..5),
            tags in proptest::collection::vec("[a-cA-C]", 0..5),
            code in "[0-9]{3}",
            keys in proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle(),
        ) {
            let filter = AudienceFilter::parse(&codes, &tags, &[]).unwrap();
            let is_tagged = tags.iter().any(|tag| keys.contains(&tag.to_lowercase().as_str()));
            let expected = (codes.is_empty() || codes.contains(&code)) && (tags.is_empty() || is_tagged);
            let hits = filter.ranges().iter().filter(|r| r.holds(Some(&code), &keys)).count();
            prop_assert_eq!(hits, usize::from(expected));
        }
    }
}
