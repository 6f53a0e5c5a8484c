//! A declared attribute.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::convert::convert;
use crate::clients::model::{AttributeName, ClientPatch};
use crate::db::types::Timestamp;
use crate::error::FieldError;
use crate::kinds::AttributeKind;

/// The longest label.
pub const LONGEST_LABEL: usize = 100;

/// An attribute that has a type.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeclaredAttribute {
    /// Its name, which is also that of its placeholder.
    #[schema(value_type = String, example = "member")]
    pub name: AttributeName,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: AttributeKind,
    /// Words for people.
    #[schema(example = "Is a member of the club")]
    pub label: Option<String>,
    /// How far the clients are converted that had the attribute before.
    pub conversion: Conversion,
    /// When it was declared.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// The conversion of stored clients to the type of an attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conversion {
    /// True while clients are still to be looked at.
    pub is_running: bool,
    /// Clients that were looked at.
    pub clients: i64,
    /// Values that were converted.
    pub converted: i64,
    /// Values that do not fit the type and stay as they were.
    pub unconverted: i64,
}

/// The types of some attributes.
#[derive(Debug, Clone, Default)]
pub struct Types(HashMap<String, AttributeKind>);

impl Types {
    /// These.
    pub fn new(types: impl IntoIterator<Item = (String, AttributeKind)>) -> Self {
        Self(types.into_iter().collect())
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Converts the values of a patch. One that does not fit is left out and returned, named as in a row of a file.
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
