//! Events, the messages that they cause, and the results of accepting them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::target::Target;
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

/// An accepted event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's id, assigned by the service.
    pub event_id: EventId,
    /// The sender's id of the event.
    pub id: Option<String>,
    /// The event's type.
    pub event: String,
    /// The main target.
    pub user_target: Option<Raw>,
    /// The other targets, by role.
    pub targets: Option<Raw>,
    /// The payload.
    pub payload: Raw,
    /// The time at which it happened, if the sender gave it.
    pub occurred_at: Option<Timestamp>,
    /// The time at which it was accepted.
    pub received_at: Timestamp,
    /// The source from which it came.
    pub source: Source,
    /// The messages of its routes that were not created.
    pub skipped: Vec<SkippedMessage>,
}

/// An event with the messages that it caused.
#[derive(Debug, Clone, PartialEq)]
pub struct EventWithNotifications {
    /// The event.
    pub event: Event,
    /// Its messages, in the order of the deliveries of its routes.
    pub notifications: Vec<Notification>,
}

/// A message of a route that was not created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedMessage {
    /// The event pattern of the route.
    pub route: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The target.
    pub target: String,
    /// The reason why it was not created.
    pub reason: String,
}

/// A message that an event causes, rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedMessage {
    /// The event pattern of the route.
    pub route: String,
    /// The channel.
    pub channel: ChannelKind,
    /// The target.
    pub target: String,
    /// The address on the channel.
    pub recipient: String,
    /// The client with this address.
    pub client_id: Option<ClientId>,
    /// The template from which it was rendered.
    pub template: Option<TemplateUsed>,
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub content: String,
    /// The text of an e-mail as HTML.
    pub html: Option<String>,
    /// An object for the recipient's application.
    pub data: Option<Raw>,
    /// The priority.
    pub priority: Priority,
    /// The group that clients may opt out of.
    pub group: String,
    /// True if recipients cannot opt out of it.
    pub transactional: bool,
    /// The time before which it is not sent.
    pub scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    pub expires_at: Option<Timestamp>,
}

/// The messages that an event causes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPlan {
    /// The messages.
    pub notifications: Vec<PlannedMessage>,
    /// The messages of its routes that are not created.
    pub skipped: Vec<SkippedMessage>,
}

/// The result of accepting an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedEvent {
    /// The event's id.
    pub id: EventId,
    /// The time at which it was accepted, which is earlier than the request if the event was known.
    pub received_at: Timestamp,
    /// The messages of its routes that were not created.
    pub skipped: Vec<SkippedMessage>,
    /// True if the event was accepted before, with the same sender's id.
    pub is_known: bool,
}
