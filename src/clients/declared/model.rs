//! A declared attribute.

use std::collections::HashMap;

use super::convert::convert;
use crate::clients::model::{AttributeName, ClientPatch};
use crate::db::types::Timestamp;
use crate::error::FieldError;
use crate::kinds::AttributeKind;

/// The largest number of characters of a label.
pub const LONGEST_LABEL: usize = 100;

/// An attribute that has a type.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredAttribute {
    /// The name, which is also the name of the placeholder.
    pub name: AttributeName,
    /// The type of its values.
    pub kind: AttributeKind,
    /// A label for people.
    pub label: Option<String>,
    /// The progress of converting existing clients.
    pub conversion: Conversion,
    /// The time of the declaration.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

/// The conversion of stored clients to the type of an attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conversion {
    /// True while the conversion is running.
    pub is_running: bool,
    /// The number of clients that were checked.
    pub clients: i64,
    /// The number of values that were converted.
    pub converted: i64,
    /// The number of values that do not fit the type and stay as they were.
    pub unconverted: i64,
}

/// The types of declared attributes, by name.
#[derive(Debug, Clone, Default)]
pub struct Types(HashMap<String, AttributeKind>);

impl Types {
    /// Creates the map from pairs of name and type.
    pub fn new(types: impl IntoIterator<Item = (String, AttributeKind)>) -> Self {
        Self(types.into_iter().collect())
    }

    /// Returns true if there are no types.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Converts the values of a patch. Removes values that do not fit and returns their errors, whose field is the bare
    /// name of the attribute.
    pub fn apply(&self, patch: &mut ClientPatch) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        patch.attributes.retain_mut(|(name, value)| {
            let (Some(kind), Some(given)) = (self.0.get(name.as_str()), value.as_ref()) else { return true };
            match convert(*kind, given) {
                Ok(None) => true,
                Ok(Some(converted)) => {
                    *value = Some(converted);
                    true
                }
                Err(reason) => {
                    wrong.push(FieldError::new(name.as_str(), reason));
                    false
                }
            }
        });
        wrong
    }
}
