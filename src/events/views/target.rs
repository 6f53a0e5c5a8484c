//! Targets of events, as OpenAPI schemas.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::clients::model::{Email, ExternalId, GivenPhoneNumber, PushToken};
use crate::db::types::ClientId;

/// A target of an event, as an OpenAPI schema: an identifier of a client, an address, or an object of them.
// Serialize is derived because the OpenAPI schema needs it for `untagged`. Targets are parsed by hand, so that errors
// name the field
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventTarget {
    /// A client's id, external_id, e-mail address or phone number; or an address.
    #[schema(value_type = TargetName)]
    Name(String),
    /// An object with identifiers and addresses.
    Person(EventPerson),
}

/// An identifier of a client, as an OpenAPI schema.
pub struct TargetName;

impl PartialSchema for TargetName {
    fn schema() -> RefOr<Schema> {
        let name = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(254));
        let line =
            r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
        name.pattern(Some(line)).examples(["crm-1001"]).into()
    }
}

impl ToSchema for TargetName {}

/// The identifiers and addresses of a target, at least one of them.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPerson {
    /// The client's id in this service.
    #[schema(nullable = false)]
    client_id: Option<ClientId>,
    /// The client's id in your other systems; the user's id on `in_app`.
    #[schema(value_type = Option<ExternalId>, nullable = false)]
    external_id: Option<String>,
    /// An e-mail address.
    #[schema(value_type = Option<Email>, nullable = false)]
    email: Option<String>,
    /// A phone number.
    #[schema(value_type = Option<GivenPhoneNumber>, nullable = false)]
    phone_number: Option<String>,
    /// The push token of a device.
    #[schema(value_type = Option<PushToken>, nullable = false)]
    push_token: Option<String>,
    /// An https URL.
    #[schema(nullable = false)]
    webhook_url: Option<String>,
    /// The URL of a Discord webhook.
    #[schema(nullable = false)]
    discord_url: Option<String>,
}
