//! Events as they come in and as the API shows them.

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

/// Bytes of a payload's JSON.
pub const LARGEST_PAYLOAD: usize = 64 * 1024;
/// Targets that an event names besides its user.
pub const MOST_TARGETS: usize = 20;
/// Characters of a sender's id.
pub const LONGEST_KEY: usize = 200;

/// An event that came in, read and checked.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The sender's own id for it.
    pub key: Option<String>,
    /// Its type.
    pub name: EventName,
    /// Whom it concerns first.
    pub user_target: Option<Target>,
    /// Whom else, by their roles.
    pub targets: BTreeMap<String, Target>,
    /// What happened.
    pub payload: Map<String, Value>,
    /// When it happened, if the sender says so.
    pub occurred_at: Option<Timestamp>,
    /// The things among which its key is unique. An action is kept also when no route is for it.
    pub namespace: Namespace,
    /// A digest of what it says: an equal event has the same one, whatever its key.
    pub fingerprint: Vec<u8>,
    /// As they came, in JSON.
    pub raw: RawParts,
}

/// The parts of an event that are kept as they came.
#[derive(Debug, Clone, Default)]
pub struct RawParts {
    /// `user_target`.
    pub user_target: Option<String>,
    /// `targets`.
    pub targets: Option<String>,
    /// `payload`.
    pub payload: String,
}

/// The id that a sender gives an event.
///
/// # Errors
/// Says what one looks like.
pub fn key(text: String) -> Result<String, String> {
    let is_good = (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if is_good { Ok(text) } else { Err(format!("must be 1 to {LONGEST_KEY} visible ASCII characters")) }
}

/// Whom an event concerns, for the API's document: a client's name or an address, or an object of them.
// Serialize is what lets the document know of `untagged`; it is read by hand, so that what is wrong is named
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventTarget {
    /// A client's id, external_id, e-mail address or phone number; or an address.
    #[schema(value_type = TargetName)]
    Name(String),
    /// Some of these.
    Person(EventPerson),
}

/// Any name of a client, for the API's document.
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

/// Whom an event concerns, by what it is known and reached by. At least one is given.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPerson {
    /// The client's id here.
    #[schema(nullable = false)]
    client_id: Option<ClientId>,
    /// Its id in your other systems; on `in_app`, the user's.
    #[schema(value_type = Option<ExternalId>, nullable = false)]
    external_id: Option<String>,
    /// An e-mail address.
    #[schema(value_type = Option<Email>, nullable = false)]
    email: Option<String>,
    /// A phone number.
    #[schema(value_type = Option<GivenPhoneNumber>, nullable = false)]
    phone_number: Option<String>,
    /// A device.
    #[schema(value_type = Option<PushToken>, nullable = false)]
    push_token: Option<String>,
    /// An https URL.
    #[schema(nullable = false)]
    webhook_url: Option<String>,
    /// The URL of a Discord webhook.
    #[schema(nullable = false)]
    discord_url: Option<String>,
}

/// An event that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Which event.
    pub event_id: EventId,
    /// The sender's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Its type.
    #[schema(example = "order.shipped")]
    pub event: String,
    /// Whom it concerns first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EventTarget>, nullable = false)]
    pub user_target: Option<Raw>,
    /// Whom else, by their roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, EventTarget>>, nullable = false)]
    pub targets: Option<Raw>,
    /// What happened.
    #[schema(value_type = Object)]
    pub payload: Raw,
    /// When it happened, if the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub occurred_at: Option<Timestamp>,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// By which way it came.
    pub source: Source,
    /// Messages that its routes asked for and that were not made.
    pub skipped: Vec<Skipped>,
}

/// An event with the messages that it caused.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventWithNotifications {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Its messages, in the order of its routes' deliveries.
    pub notifications: Vec<Notification>,
}

/// A message that a route asked for and that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// The route's events.
    #[schema(example = "order.*")]
    pub route: String,
    /// How it would go out.
    pub channel: ChannelKind,
    /// For whom it was.
    #[schema(example = "seller")]
    pub target: String,
    /// Why there is none.
    #[schema(example = "the client has no push token, which `push` needs")]
    pub reason: String,
}

/// A message that an event causes, rendered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Draft {
    /// The route's events.
    #[schema(example = "order.*")]
    pub route: String,
    /// How it goes out.
    pub channel: ChannelKind,
    /// For whom it is.
    #[schema(example = "seller")]
    pub target: String,
    /// The address on the channel.
    pub recipient: String,
    /// The client who has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<ClientId>,
    /// The template that it was rendered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<TemplateUsed>,
    /// What stands above the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// The text.
    pub content: String,
    /// The same as HTML, of an e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub html: Option<String>,
    /// An object for the recipient's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Raw>,
    /// How urgent it is.
    pub priority: Priority,
    /// What clients may opt out of.
    pub group: String,
    /// Nobody may opt out of it.
    pub transactional: bool,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<Timestamp>,
    /// Never at this time or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub expires_at: Option<Timestamp>,
}

/// What an event would cause, or causes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Plan {
    /// Its messages.
    pub notifications: Vec<Draft>,
    /// What its routes ask for and is not made.
    pub skipped: Vec<Skipped>,
}

/// An event as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Which event.
    pub id: EventId,
    /// When it was taken: before this, if its sender's id was known.
    pub received_at: Timestamp,
    /// Messages that its routes asked for and that were not made.
    pub skipped: Vec<Skipped>,
    /// True if its sender's id was known.
    pub is_known: bool,
}
