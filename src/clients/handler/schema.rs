//! The bodies as the documentation shows them. They are read field by field (`ClientPatch`), so that a caller hears of
//! every wrong field at once; a test holds the two together.

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A whole client, to create or replace one.
#[derive(ToSchema)]
#[schema(example = json!({
    "phone_number": "79031234567", "tag": "vip", "timezone": "Europe/Moscow", "email": "anna@example.com",
    "external_id": "crm-1001", "attributes": {"name": "Anna", "bonus": 250, "member": true}
}))]
pub struct ClientBody {
    /// 7 to 15 digits with the country code first, a plus before them is accepted. No two clients share one.
    pub phone_number: String,
    /// 1 to 10 digits; taken from a Russian number when absent.
    pub mobile_operator_code: Option<String>,
    /// Up to 100 characters.
    pub tag: Option<String>,
    /// The IANA name of a time zone.
    pub timezone: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
    /// Up to 4096 bytes.
    pub push_token: Option<String>,
    /// Up to 200 characters. No two clients share one.
    pub external_id: Option<String>,
    /// Up to 50 texts, numbers, trues and falses by name; nulls are dropped.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Map<String, Value>>,
}

/// Changes to a client: absent stays, null clears.
#[derive(ToSchema)]
#[schema(example = json!({"tag": "gold", "push_token": null, "attributes": {"bonus": 300, "member": null}}))]
pub struct ClientChanges {
    /// As in a new client; cannot be null.
    #[schema(nullable = false)]
    pub phone_number: Option<String>,
    /// As in a new client.
    pub mobile_operator_code: Option<String>,
    /// As in a new client.
    pub tag: Option<String>,
    /// As in a new client.
    pub timezone: Option<String>,
    /// As in a new client.
    pub email: Option<String>,
    /// As in a new client.
    pub push_token: Option<String>,
    /// As in a new client.
    pub external_id: Option<String>,
    /// Merged into those there are; a null value removes its name, null in place of the object removes all.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Map<String, Value>>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    use super::*;
    use crate::clients::model::{ClientPatch, Field};

    fn documented<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).unwrap()
    }

    #[test]
    fn the_documented_fields_are_those_that_are_read() {
        let mut read: BTreeSet<&str> = Field::ALL.iter().map(|field| field.name()).collect();
        read.insert("attributes");
        for schema in [documented::<ClientBody>(), documented::<ClientChanges>()] {
            let shown: BTreeSet<&str> =
                schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(shown, read);
        }
    }

    #[test]
    fn the_examples_are_accepted() {
        let example = |schema: Value| schema["example"].as_object().unwrap().clone();
        assert!(ClientPatch::from_whole_json(example(documented::<ClientBody>())).is_ok());
        assert!(ClientPatch::from_json(example(documented::<ClientChanges>())).is_ok());
    }
}
