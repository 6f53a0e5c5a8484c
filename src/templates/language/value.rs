//! The values of expressions, borrowed from the data where possible.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use super::number::{Number, order_of_digits};

/// A value of the data, a constant, or the result of a computation.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// No value; JSON's null counts as no value too.
    Missing,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A number of the data in a notation that [`Number`] would not reproduce, for example with more digits. It is
    /// rendered unchanged.
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
    /// Returns the value of a name; [`Value::Missing`] if it has none.
    fn get(&self, name: &str) -> Value<'_>;
}

impl Data for Map<String, Json> {
    fn get(&self, name: &str) -> Value<'_> {
        self.get(name).into()
    }
}

/// Empty data.
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
    /// Creates a borrowed text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Returns true if there is no value.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Returns the value as a number that arithmetic can use, rounded if necessary; `None` if it is not a number.
    pub fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Exact(number) => Some(Number::of_json(number)),
            _ => None,
        }
    }

    /// Compares two numbers by all their digits. Returns `None` if one of them is not a number.
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

    /// Returns a field of an object; [`Value::Missing`] if it does not exist.
    pub fn field(&self, name: &str) -> Self {
        match self {
            Self::Map(fields) => fields.get(name).into(),
            _ => Self::Missing,
        }
    }

    /// Returns true if it counts as true: it is not zero and not empty.
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

    /// Returns the kind, as error messages name it.
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

/// Returns a boolean in JSON's notation.
pub(super) fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
