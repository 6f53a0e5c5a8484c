//! OpenAPI schemas of the request bodies. The bodies are parsed field by field (`ClientPatch`), so that a caller is
//! told of every invalid field at once; a test compares the two.

use utoipa::ToSchema;

use crate::clients::model::{Email, ExternalId, GivenPhoneNumber, OperatorCode, PushToken, Tag, Timezone};
use crate::clients::schema::AttributeChanges;
use crate::locale::Locale;

/// A whole client, to create or replace one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "phone_number": "79031234567", "tag": "vip", "timezone": "Europe/Moscow", "email": "anna@example.com",
    "external_id": "crm-1001", "attributes": {"name": "Anna", "bonus": 250, "member": true}
}))]
pub struct ClientBody {
    /// The phone number, unique among clients. The operator code is derived from a Russian number. A client without a
    /// number needs an `email`, a `push_token` or an `external_id`.
    pub phone_number: Option<GivenPhoneNumber>,
    /// The operator code. If absent, it is derived from a Russian number.
    pub mobile_operator_code: Option<OperatorCode>,
    /// The only tag of the client; together with `tags` it must be the first of them.
    pub tag: Option<Tag>,
    /// Labels that select audiences, compared without case.
    #[schema(max_items = 50)]
    pub tags: Option<Vec<Tag>>,
    /// The client's time zone.
    pub timezone: Option<Timezone>,
    /// The client's language.
    pub locale: Option<Locale>,
    /// The address for the e-mail channel.
    pub email: Option<Email>,
    /// The token for the push channel.
    pub push_token: Option<PushToken>,
    /// The client's id in your other systems, unique among clients.
    pub external_id: Option<ExternalId>,
    /// The values for the placeholders of a text; nulls are dropped.
    pub attributes: Option<AttributeChanges>,
}

/// Changes to a client: an absent field stays, null clears a field.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tag": "gold", "push_token": null, "attributes": {"bonus": 300, "member": null}}))]
pub struct ClientChanges {
    /// The same as in a new client.
    pub phone_number: Option<GivenPhoneNumber>,
    /// The same as in a new client.
    pub mobile_operator_code: Option<OperatorCode>,
    /// Replaces all tags.
    pub tag: Option<Tag>,
    /// Replaces all tags.
    #[schema(max_items = 50)]
    pub tags: Option<Vec<Tag>>,
    /// The same as in a new client.
    pub timezone: Option<Timezone>,
    /// The same as in a new client.
    pub locale: Option<Locale>,
    /// The same as in a new client.
    pub email: Option<Email>,
    /// The same as in a new client.
    pub push_token: Option<PushToken>,
    /// The same as in a new client.
    pub external_id: Option<ExternalId>,
    /// Changes that are merged into the attributes: a null value removes its name, null instead of the object removes
    /// all.
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
