//! Marks the fields that a response always has, and the request bodies that are optional.

use utoipa::Modify;
use utoipa::openapi::schema::{AdditionalProperties, Schema, SchemaType};
use utoipa::openapi::{Object, OpenApi, RefOr, Required, Type};

/// Operations whose body is not read: the attribute of a handler cannot express that.
const BODY_MAY_BE_MISSING: &[&str] = &[
    "unsubscribe_recipient",
    "resubscribe_recipient",
    "unsubscribe_recipient_from_all",
    "resubscribe_recipient_to_all",
];

/// Makes nullable fields required in responses. A field without a value is either always omitted or always null; for an
/// `Option` alone, the document would allow both.
pub(super) struct Presence;

impl Modify for Presence {
    fn modify(&self, document: &mut OpenApi) {
        for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
            match schema {
                RefOr::T(Schema::Object(object)) if !is_of_a_request(object) => complete(object),
                _ => {}
            }
        }
        let posts = document.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
        for operation in posts {
            let id = operation.operation_id.as_deref();
            if let Some(RefOr::T(body)) = &mut operation.request_body
                && id.is_some_and(|id| BODY_MAY_BE_MISSING.contains(&id))
            {
                body.required = Some(Required::False);
            }
        }
    }
}

/// Returns true for the schema of a request body: only these forbid further fields, since responses may gain fields.
fn is_of_a_request(object: &Object) -> bool {
    matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false)))
}

fn complete(object: &mut Object) {
    let nullable = object.properties.iter().filter(|(_, schema)| may_be_null(schema));
    let missing: Vec<String> =
        nullable.map(|(name, _)| name.clone()).filter(|name| !object.required.contains(name)).collect();
    object.required.extend(missing);
}

fn may_be_null(schema: &RefOr<Schema>) -> bool {
    let has_null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        _ => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => has_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => has_null(&array.schema_type),
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.iter().any(may_be_null),
        _ => false,
    }
}
