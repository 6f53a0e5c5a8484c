//! The filter of a request body.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::clients::model::{OperatorCode, Tag};
use crate::error::Result;
use crate::mailings::filter::AudienceFilter;
use crate::mailings::views::Reached;

/// The filter of a request: an object, or a string with one operator code (digits) or one tag.
// Serialize is derived because the OpenAPI schema needs it for `untagged`. Deserialize is written by hand: a derived
// untagged enum accepts `[]` as an object without fields, which selects everyone, and its errors name no field
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum FilterInput {
    /// One operator code or one tag.
    #[schema(value_type = Tag)]
    Text(String),
    /// Lists of codes, tags and channels.
    Lists(FilterLists),
}

/// Conditions on clients: OR within a list, AND between the lists. An empty list selects everyone.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mobile_operator_code": ["903", "904"], "tag": ["vip"]}))]
pub struct FilterLists {
    /// Mobile operator codes.
    #[serde(default)]
    #[schema(value_type = Vec<OperatorCode>, max_items = 200)]
    pub mobile_operator_code: Vec<String>,
    /// Tags, compared case-insensitively.
    #[serde(default, alias = "tags")]
    #[schema(value_type = Vec<Tag>, max_items = 200)]
    pub tag: Vec<String>,
    /// Channels on which the client must have an address: `sms`, `email`, `push`. Several are combined with AND.
    #[serde(default)]
    #[schema(value_type = Vec<Reached>, max_items = 3)]
    pub has: Vec<String>,
}

impl FilterInput {
    /// Validates the filter.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) with the list and the index in it.
    pub fn into_filter(self) -> Result<AudienceFilter> {
        let lists = match self {
            Self::Lists(lists) => lists,
            Self::Text(text) => one_value(text.trim()),
        };
        AudienceFilter::parse(&lists.mobile_operator_code, &lists.tag, &lists.has)
    }
}

/// Parses a filter that is a string: only digits are an operator code, everything else is a tag.
fn one_value(text: &str) -> FilterLists {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        FilterLists { mobile_operator_code: vec![text.to_owned()], ..FilterLists::default() }
    } else {
        FilterLists { tag: vec![text.to_owned()], ..FilterLists::default() }
    }
}

impl<'de> Deserialize<'de> for FilterInput {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        reader.deserialize_any(FilterVisitor)
    }
}

struct FilterVisitor;

impl<'de> Visitor<'de> for FilterVisitor {
    type Value = FilterInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an object with the lists mobile_operator_code, tag and has, or a string with one code or tag",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<FilterInput, E> {
        Ok(FilterInput::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<FilterInput, A::Error> {
        FilterLists::deserialize(MapAccessDeserializer::new(map)).map(FilterInput::Lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailings::filter::Range;

    fn parse(json: &str) -> Result<AudienceFilter> {
        serde_json::from_str::<FilterInput>(json).unwrap().into_filter()
    }

    #[test]
    fn a_plain_text_is_an_operator_code_or_a_tag() {
        assert_eq!(parse(r#""903""#).unwrap().ranges(), [Range::Operator("903".into())]);
        let ranges = parse(r#"" VIP ""#).unwrap().ranges();
        assert_eq!(ranges.first(), Some(&Range::Tag("vip".into())));
        assert!(parse(r#""""#).is_err(), "an empty text does not select everyone");
    }

    #[test]
    fn an_empty_object_is_everyone() {
        assert_eq!(parse("{}").unwrap().ranges(), [Range::All]);
    }

    #[test]
    fn only_an_object_is_lists_and_its_wrong_fields_are_named() {
        for (json, named) in [
            ("[]", "sequence"),
            (r#"[["903"], ["vip"]]"#, "sequence"),
            ("5", "an object with"),
            (r#"{"labels": ["vip"]}"#, "`labels`"),
            (r#"{"tag": ["vip"], "tags": ["vip"]}"#, "duplicate field `tag`"),
            (r#"{"tag": "vip"}"#, "a sequence"),
            (r#"{"tag": [], "tag": []}"#, "duplicate field `tag`"),
        ] {
            let error = serde_json::from_str::<FilterInput>(json).unwrap_err().to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        let error = parse(r#"{"mobile_operator_code": ["903", "x"], "tag": [""]}"#).unwrap_err().to_string();
        assert!(
            error.contains("filter.mobile_operator_code[1]") && error.contains("filter.tag[0]"),
            "{error}"
        );
    }
}
