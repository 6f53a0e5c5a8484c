//! Attributes: a caller's own data of a client beside its fields, and the values for a text's placeholders.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Number, Value};

use super::field::Field;
use crate::error::FieldError;

/// The largest number of attributes of a client, which is also the largest number of columns of an imported file.
pub const LARGEST_ATTRIBUTE_COUNT: usize = 500;
/// The largest number of characters of all texts of a client together: 50 texts of the largest length.
const LONGEST_TEXTS: usize = 50 * LONGEST_ATTRIBUTE_TEXT;
/// The largest number of characters of one text.
pub const LONGEST_ATTRIBUTE_TEXT: usize = 1000;

/// The name of an attribute, which is also the name of its placeholder. The text is shared and not copied, because an
/// import has the same few names in every row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeName(Arc<str>);

impl AttributeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AttributeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !begins || text.len() > 64 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("an attribute's name is a letter or _, then up to 63 letters, digits or _");
        }
        if Field::is_taken(text) {
            return Err("an attribute cannot have the name of a client's field");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for AttributeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for AttributeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The value of an attribute. There is no null: an attribute without a value does not exist.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// Up to 1000 characters.
    Text(String),
    /// Any number that JSON can write.
    Number(Number),
    /// True or false.
    Flag(bool),
}

impl AttributeValue {
    /// Creates a text.
    ///
    /// # Errors
    /// The text is too long.
    pub fn text(text: &str) -> Result<Self, &'static str> {
        if text.chars().nth(LONGEST_ATTRIBUTE_TEXT).is_some() {
            return Err("must not be longer than 1000 characters");
        }
        Ok(Self::Text(text.to_owned()))
    }

    /// Returns the value as the text of a CSV cell.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.to_string().into(),
            Self::Flag(flag) => if *flag { "true" } else { "false" }.into(),
        }
    }

    /// Converts a JSON value; null becomes `None`.
    ///
    /// # Errors
    /// The value is an object, an array, or a text that is too long.
    pub fn from_json(value: Value) -> Result<Option<Self>, &'static str> {
        match value {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(Self::Flag(flag))),
            Value::Number(number) => Ok(Some(Self::Number(number))),
            Value::String(text) => Self::text(&text).map(Some),
            Value::Array(_) | Value::Object(_) => Err("must be a string, a number, true, false or null"),
        }
    }
}

/// The attributes of one client, by name.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Attributes(BTreeMap<AttributeName, AttributeValue>);

impl Attributes {
    /// Reads the output of [`Attributes::to_json`].
    ///
    /// # Errors
    /// The text is not a JSON object.
    pub fn from_stored(text: &str) -> crate::error::Result<Self> {
        if text == "{}" {
            return Ok(Self::default());
        }
        let stored: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|e| crate::error::Error::Internal(e.into()))?;
        let pairs = stored.into_iter().filter_map(|(name, value)| {
            let value = AttributeValue::from_json(value).ok()??;
            // names are not checked: a later version may add a field of this name, and the attribute must stay readable
            Some((AttributeName(name.into()), value))
        });
        Ok(Self(pairs.collect()))
    }

    /// Returns the JSON text that the database stores.
    pub fn to_json(&self) -> String {
        // names are texts and values are scalars, so serialization cannot fail
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }

    /// Merges changes by RFC 7396: a value replaces, `None` removes, and a name that is absent stays as it is.
    ///
    /// # Errors
    /// The result has more than 500 attributes, or more characters of text than are allowed.
    pub fn merge(&mut self, changes: &[(AttributeName, Option<AttributeValue>)]) -> Result<(), FieldError> {
        for (name, value) in changes {
            match value {
                Some(value) => self.0.insert(name.clone(), value.clone()),
                None => self.0.remove(name),
            };
        }
        if self.0.len() > LARGEST_ATTRIBUTE_COUNT {
            return Err(FieldError::new("attributes", "a client has at most 500 attributes"));
        }
        // up to 50 texts cannot exceed the limit
        if self.0.len() > LONGEST_TEXTS / LONGEST_ATTRIBUTE_TEXT && self.text_length() > LONGEST_TEXTS {
            return Err(FieldError::new(
                "attributes",
                "a client's texts have at most 50000 characters together",
            ));
        }
        Ok(())
    }

    fn text_length(&self) -> usize {
        let texts = self.0.values().map(|value| match value {
            AttributeValue::Text(text) => text.chars().count(),
            AttributeValue::Number(_) | AttributeValue::Flag(_) => 0,
        });
        texts.sum()
    }

    /// Restores numbers and flags that were replaced by their own text. A CSV file has only texts, and importing an
    /// exported file must not change the types.
    pub fn keep_kinds(&mut self, before: &Self) {
        for (name, value) in &mut self.0 {
            if let AttributeValue::Text(text) = value
                && let Some(old) = before.0.get(name.as_str())
                && !matches!(old, AttributeValue::Text(_))
                && old.to_text() == text.as_str()
            {
                value.clone_from(old);
            }
        }
    }

    /// Returns the value of this name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.get(name)
    }

    /// Iterates over all attributes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&AttributeName, &AttributeValue)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_that_a_placeholder_can_have() {
        for name in ["name", "_x", "A1_b", &"a".repeat(64)] {
            assert!(name.parse::<AttributeName>().is_ok(), "{name}");
        }
        for name in ["", "1a", "a-b", "имя", "a b", "phone_number", "id", "attributes", &"a".repeat(65)] {
            assert!(name.parse::<AttributeName>().is_err(), "{name}");
        }
    }

    #[test]
    fn values_are_flat_and_short() {
        for value in [json!({}), json!([1]), json!("я".repeat(1001))] {
            assert!(AttributeValue::from_json(value).is_err());
        }
        assert_eq!(AttributeValue::from_json(json!(null)), Ok(None));
        assert!(AttributeValue::from_json(json!("я".repeat(1000))).is_ok());
    }

    #[test]
    fn too_many_and_too_long_ones_are_refused() {
        let of = |count: usize, value: AttributeValue| {
            let many: Vec<_> =
                (0..count).map(|n| (format!("a{n}").parse().unwrap(), Some(value.clone()))).collect();
            Attributes::default().merge(&many).map_err(|e| e.field)
        };
        assert_eq!(of(500, AttributeValue::Flag(true)), Ok(()));
        assert_eq!(of(501, AttributeValue::Flag(true)), Err("attributes".into()));
        assert_eq!(of(50, AttributeValue::Text("я".repeat(1000))), Ok(()));
        assert_eq!(of(51, AttributeValue::Text("я".repeat(1000))), Err("attributes".into()));
        assert_eq!(of(500, AttributeValue::Text("я".repeat(100))), Ok(()));
    }

    fn change() -> impl Strategy<Value = (AttributeName, Option<AttributeValue>)> {
        let value = prop_oneof![
            Just(None),
            any::<bool>().prop_map(|b| Some(AttributeValue::Flag(b))),
            any::<i64>().prop_map(|n| Some(AttributeValue::Number(n.into()))),
            ".{0,5}".prop_map(|t| Some(AttributeValue::Text(t))),
        ];
        ("[a-e]", value).prop_map(|(name, value)| (name.parse().unwrap(), value))
    }

    proptest! {
        #[test]
        fn what_is_stored_reads_back(changes in prop::collection::vec(change(), 0..9)) {
            let mut attributes = Attributes::default();
            attributes.merge(&changes).unwrap();
            prop_assert_eq!(Attributes::from_stored(&attributes.to_json()).unwrap(), attributes);
        }

        #[test]
        fn the_last_word_on_a_name_counts(changes in prop::collection::vec(change(), 1..9)) {
            let mut attributes = Attributes::default();
            attributes.merge(&changes).unwrap();
            for (name, _) in &changes {
                let last = changes.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_ref());
                prop_assert_eq!(attributes.get(name.as_str()), last);
            }
        }
    }
}
