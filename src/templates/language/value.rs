//! Values while a template is filled: borrowed from the data wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use super::number::{Number, order_of_digits};

/// A value of the data, of a constant, or of what was computed from them.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// There is none; JSON's null is none, too.
    Missing,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A number of the data that is written otherwise than [`Number`] writes it, such as one with more digits: it is filled in
    /// as it came.
    Exact(&'a serde_json::Number),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(&'a [Json]),
    /// An object.
    Map(&'a Map<String, Json>),
}

/// A source of values for placeholders.
pub trait Data {
    /// The value of this name; [`Value::Missing`] if there is none.
    fn get(&self, name: &str) -> Value<'_>;
}

impl Data for Map<String, Json> {
    fn get(&self, name: &str) -> Value<'_> {
        self.get(name).into()
    }
}

/// No data at all.
impl Data for () {
    fn get(&self, _: &str) -> Value<'_> {
        Value::Missing
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Missing,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match Number::of_json(number) {
                read if read.is_written(number.as_str()) => Self::Number(read),
                _ => Self::Exact(number),
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::List(items),
            Json::Object(fields) => Self::Map(fields),
        }
    }
}

impl<'a> From<Option<&'a Json>> for Value<'a> {
    fn from(json: Option<&'a Json>) -> Self {
        json.map_or(Self::Missing, Self::from)
    }
}

impl<'a> Value<'a> {
    /// A borrowed text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Returns whether there is no value.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// The number that it is, if it is one; the nearest one that can be calculated with.
    pub fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Exact(number) => Some(Number::of_json(number)),
            _ => None,
        }
    }

    /// The order of two numbers, by all their digits; none if one is not a number.
    pub fn order_of_numbers(&self, other: &Self) -> Option<Ordering> {
        let (a, b) = (self.number()?, other.number()?);
        let by_digits = match (self, other) {
            (Self::Number(_), Self::Number(_)) => None,
            (Self::Exact(a), Self::Exact(b)) => order_of_digits(a.as_str(), b.as_str()),
            (Self::Exact(a), _) => order_of_digits(a.as_str(), &b.to_string()),
            (_, Self::Exact(b)) => order_of_digits(&a.to_string(), b.as_str()),
            _ => None,
        };
        Some(by_digits.unwrap_or_else(|| a.order(b)))
    }

    /// A field of an object; missing where there is none.
    pub fn field(&self, name: &str) -> Self {
        match self {
            Self::Map(fields) => fields.get(name).into(),
            _ => Self::Missing,
        }
    }

    /// Returns whether it counts as true: not zero and not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Bool(value) => *value,
            Self::Number(number) => !number.is_zero(),
            Self::Exact(number) => !Number::of_json(number).is_zero(),
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(fields) => !fields.is_empty(),
        }
    }

    /// The kind, in words for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "empty",
            Self::Bool(_) => "a boolean",
            Self::Number(_) | Self::Exact(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}
