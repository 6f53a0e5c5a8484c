//! Declared attributes, as the API shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Conversion, DeclaredAttribute};
use crate::clients::model::AttributeName;
use crate::db::types::Timestamp;
use crate::kinds::AttributeKind;

/// An attribute that has a type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeclaredAttribute)]
pub struct DeclaredAttributeView {
    /// The name, which is also the name of the placeholder.
    #[schema(value_type = String, example = "member")]
    pub name: AttributeName,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: AttributeKind,
    /// A label for people.
    #[schema(example = "Is a member of the club")]
    pub label: Option<String>,
    /// The progress of converting existing clients.
    pub conversion: ConversionView,
    /// The time of the declaration.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<DeclaredAttribute> for DeclaredAttributeView {
    fn from(attribute: DeclaredAttribute) -> Self {
        let DeclaredAttribute { name, kind, label, conversion, created_at, updated_at } = attribute;
        Self { name, kind, label, conversion: conversion.into(), created_at, updated_at }
    }
}

/// The conversion of stored clients to the type of an attribute.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversion)]
pub struct ConversionView {
    /// True while the conversion is running.
    pub is_running: bool,
    /// The number of clients that were checked.
    pub clients: i64,
    /// The number of values that were converted.
    pub converted: i64,
    /// The number of values that do not fit the type and stay as they were.
    pub unconverted: i64,
}

impl From<Conversion> for ConversionView {
    fn from(conversion: Conversion) -> Self {
        let Conversion { is_running, clients, converted, unconverted } = conversion;
        Self { is_running, clients, converted, unconverted }
    }
}
