//! OpenAPI schemas of the parts of a client: the rules of the model as patterns.

use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, Schema};
use utoipa::openapi::{Object, ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::model::{
    Attributes, Email, ExternalId, GivenPhoneNumber, LARGEST_ATTRIBUTE_COUNT, LONGEST_ATTRIBUTE_TEXT,
    OperatorCode, PhoneNumber, PushToken, Tag, Timezone,
};

/// Matches a line of text: no control characters, and not only spaces.
const LINE: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// Matches one e-mail address: no second address, and no character that could end a header.
const EMAIL: &str = concat!(
    r#"^[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".]+(\.[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".]+)*@"#,
    r#"[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".-]+(-+[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".-]+)*"#,
    r#"(\.[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".-]+(-+[^\s\u0000-\u001f\u007f-\u009f@,;:<>()\[\]\\".-]+)*)+$"#,
);

/// Implements the schema of a text: its largest length in characters, its pattern, an example and a description.
macro_rules! text_schema {
    ($($name:ident, $most:expr, $pattern:expr, $example:literal, $description:literal;)+) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .min_length(Some(1))
                    .max_length(Some($most))
                    .pattern($pattern)
                    .examples([$example])
                    .description(Some($description))
                    .into()
            }
        }
        impl ToSchema for $name {}
    )+};
}

text_schema! {
    PhoneNumber, 15, Some("^(7[0-9]{10}|[1-689][0-9]{6,14})$"), "79031234567",
        "The digits of an E.164 number: the country code first, without a plus.";
    GivenPhoneNumber, 64, None::<&str>, "+7 903 123-45-67",
        "A phone number with its country code, as people write it: spaces, brackets, dashes, dots and slashes are \
         ignored, and `00` means `+`. With `DEFAULT_COUNTRY` the national form is accepted as well. It has to be a \
         possible number of its country.";
    OperatorCode, 10, Some("^[0-9]+$"), "903", "The code of a mobile operator.";
    Tag, 100, Some(LINE), "vip", "A label that selects clients.";
    Timezone, 64, Some("^[A-Za-z][A-Za-z0-9+/_-]*$"), "Europe/Moscow", "The IANA name of a time zone.";
    Email, 254, Some(EMAIL), "anna@example.com", "An e-mail address; at most 64 bytes before the @, and 254 in all.";
    PushToken, 4096, Some(LINE), "fcm:3c9a51f0", "The address of a device at a push provider: up to 4096 bytes.";
    ExternalId, 200, Some(LINE), "crm-1001", "The client's id in another system.";
}

fn named(value: Schema) -> ObjectBuilder {
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z_][A-Za-z0-9_]{0,63}$"));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::Object(name.build())))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value))))
        .max_properties(Some(LARGEST_ATTRIBUTE_COUNT))
}

fn value() -> AnyOfBuilder {
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::String).max_length(Some(LONGEST_ATTRIBUTE_TEXT)))
        .item(Object::with_type(Type::Number))
        .item(Object::with_type(Type::Boolean))
}

impl PartialSchema for Attributes {
    fn schema() -> RefOr<Schema> {
        named(value().build().into())
            .description(Some("Strings, numbers and booleans by name."))
            .examples([serde_json::json!({"name": "Anna", "bonus": 250, "member": true})])
            .into()
    }
}
impl ToSchema for Attributes {}

/// The OpenAPI schema of the attributes in a request, which may be null.
pub struct AttributeChanges;

impl PartialSchema for AttributeChanges {
    fn schema() -> RefOr<Schema> {
        named(value().item(Object::with_type(Type::Null)).build().into())
            .description(Some(
                "Up to 500 strings, numbers, booleans and nulls by name. A name is a letter or `_`, then up to 63 \
                 letters, digits or `_`, and is not the name of a field of a client.",
            ))
            .examples([serde_json::json!({"name": "Anna", "bonus": 250, "member": null})])
            .into()
    }
}
impl ToSchema for AttributeChanges {}
