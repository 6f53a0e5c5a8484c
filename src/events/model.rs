//! Events, as senders post them and as the API returns them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::target::Target;
use crate::clients::model::{Email, ExternalId, GivenPhoneNumber, PushToken};
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::kinds::{ChannelKind, Priority};
pub use crate::kinds::{EventNamespace as Namespace, EventSource as Source};
use crate::notifications::model::{Notification, Raw, TemplateUsed};
use crate::routes::pattern::EventName;

/// The maximum size of a payload, in bytes of JSON.
pub const LARGEST_PAYLOAD: usize = 64 * 1024;
/// The most targets of an event, besides its user target.
pub const MOST_TARGETS: usize = 20;
/// The longest sender's id, in characters.
pub const LONGEST_KEY: usize = 200;

/// A validated new event.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The sender's id of the event.
    pub key: Option<String>,
    /// The event's type.
    pub name: EventName,
    /// The main target.
    pub user_target: Option<Target>,
    /// The other targets, by role.
    pub targets: BTreeMap<String, Target>,
    /// The payload.
    pub payload: Map<String, Value>,
    /// The time at which it happened, if the sender knows it.
    pub occurred_at: Option<Timestamp>,
    /// The namespace in which its key is unique. An action is stored even if it has no route.
    pub namespace: Namespace,
    /// A digest of its content. Events with equal content have the same fingerprint, whatever their keys.
    pub fingerprint: Vec<u8>,
    /// The parts that are stored unchanged.
    pub raw: RawParts,
}

/// The parts of an event that are stored unchanged, as JSON.
#[derive(Debug, Clone, Default)]
pub struct RawParts {
    /// `user_target`.
    pub user_target: Option<String>,
    /// `targets`.
    pub targets: Option<String>,
    /// `payload`.
    pub payload: String,
}

/// Validates a sender's id of an event.
///
/// # Errors
/// The rule for ids.
pub fn key(text: String) -> Result<String, String> {
    let is_good = (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if is_good { Ok(text) } else { Err(format!("must be 1 to {LONGEST_KEY} visible ASCII characters")) }
}

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

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// The event's id, assigned by the service.
    pub event_id: EventId,
    /// The sender's id of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The event's type.
    #[schema(example = "order.shipped")]
    pub event: String,
    /// The main target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EventTarget>, nullable = false)]
    pub user_target: Option<Raw>,
    /// The other targets, by role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, EventTarget>>, nullable = false)]
    pub targets: Option<Raw>,
    /// The payload.
    #[schema(value_type = Object)]
    pub payload: Raw,
    /// The time at which it happened, if the sender gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub occurred_at: Option<Timestamp>,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source from which it came.
    pub source: Source,
    /// The messages of its routes that were not created.
    pub skipped: Vec<Skipped>,
}

/// An event with the messages that it caused.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventWithNotifications {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Its messages, in the order of the deliveries of its routes.
    pub notifications: Vec<Notification>,
}

/// A message of a route that was not created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// The event pattern of the route.
    #[schema(example = "order.*")]
    pub route: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The target.
    #[schema(example = "seller")]
    pub target: String,
    /// The reason why it was not created.
    #[schema(example = "the client has no push token, which `push` needs")]
    pub reason: String,
}

/// A message that an event causes, rendered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Draft {
    /// The event pattern of the route.
    #[schema(example = "order.*")]
    pub route: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The target.
    #[schema(example = "seller")]
    pub target: String,
    /// The address on the channel.
    pub recipient: String,
    /// The client with this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<ClientId>,
    /// The template from which it was rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<TemplateUsed>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// The text.
    pub content: String,
    /// The text of an e-mail as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub html: Option<String>,
    /// An object for the recipient's application.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Raw>,
    /// The priority.
    pub priority: Priority,
    /// The group that clients may opt out of.
    pub group: String,
    /// True if recipients cannot opt out of it.
    pub transactional: bool,
    /// The time before which it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub expires_at: Option<Timestamp>,
}

/// The messages that an event causes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Plan {
    /// The messages.
    pub notifications: Vec<Draft>,
    /// The messages of its routes that are not created.
    pub skipped: Vec<Skipped>,
}

/// The result of accepting an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The event's id.
    pub id: EventId,
    /// The time at which it was accepted, which is earlier than the request if the event was known.
    pub received_at: Timestamp,
    /// The messages of its routes that were not created.
    pub skipped: Vec<Skipped>,
    /// True if the event was accepted before, with the same sender's id.
    pub is_known: bool,
}
