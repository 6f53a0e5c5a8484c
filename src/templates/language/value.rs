//! Values while a template is filled: borrowed from the data wherever they can be.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::number::Number;

/// A value of the data, of a constant, or of what was computed from them.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// There is none; JSON's null is none, too.
    Missing,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
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
            Json::Number(number) => Self::Number(Number::of_json(number)),
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
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}
