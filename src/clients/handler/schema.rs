//! The bodies as the documentation shows them. They are read field by field (`ClientPatch`), so that a caller hears of
//! every wrong field at once; a test holds the two together.

use utoipa::ToSchema;

use crate::clients::model::{
    AttributeChanges, Email, ExternalId, GivenPhoneNumber, OperatorCode, PushToken, Tag, Timezone,
};
use crate::locale::Locale;

/// A whole client, to create or replace one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "phone_number": "79031234567", "tag": "vip", "timezone": "Europe/Moscow", "email": "anna@example.com",
    "external_id": "crm-1001", "attributes": {"name": "Anna", "bonus": 250, "member": true}
}))]
pub struct ClientBody {
    /// Its operator, if it is a Russian one, is told from it. No two clients share one. A client without one has an `email`, a
    /// `push_token` or an `external_id`.
    pub phone_number: Option<GivenPhoneNumber>,
    /// Taken from a Russian number when absent.
    pub mobile_operator_code: Option<OperatorCode>,
    /// The only one of its tags; with `tags` it is the first of them.
    pub tag: Option<Tag>,
    /// Words of yours to choose audiences by, compared without case.
    #[schema(max_items = 50)]
    pub tags: Option<Vec<Tag>>,
    /// Where the client lives.
    pub timezone: Option<Timezone>,
    /// The language that the client is written to in.
    pub locale: Option<Locale>,
    /// For the e-mail channel.
    pub email: Option<Email>,
    /// For the push channel.
    pub push_token: Option<PushToken>,
    /// The id in your other systems. No two clients share one.
    pub external_id: Option<ExternalId>,
    /// What the placeholders of a text are filled from; nulls are dropped.
    pub attributes: Option<AttributeChanges>,
}

/// Changes to a client: absent stays, null clears.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tag": "gold", "push_token": null, "attributes": {"bonus": 300, "member": null}}))]
pub struct ClientChanges {
    /// As in a new client.
    pub phone_number: Option<GivenPhoneNumber>,
    /// As in a new client.
    pub mobile_operator_code: Option<OperatorCode>,
    /// Takes the place of all tags.
    pub tag: Option<Tag>,
    /// Takes the place of all tags.
    #[schema(max_items = 50)]
    pub tags: Option<Vec<Tag>>,
    /// As in a new client.
    pub timezone: Option<Timezone>,
    /// As in a new client.
    pub locale: Option<Locale>,
    /// As in a new client.
    pub email: Option<Email>,
    /// As in a new client.
    pub push_token: Option<PushToken>,
    /// As in a new client.
    pub external_id: Option<ExternalId>,
    /// Merged into those there are; a null value removes its name, null in place of the object removes all.
    pub attributes: Option<AttributeChanges>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
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
        assert!(ClientPatch::from_json(example(documented::<ClientBody>())).is_ok());
        assert!(ClientPatch::from_json(example(documented::<ClientChanges>())).is_ok());
    }
}
