//! Routes, as stored and in compiled form.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::condition::{Condition, LONGEST as LONGEST_CONDITION};
use super::pattern::{EventName, Pattern};
use crate::db::types::{RouteId, Timestamp};
use crate::kinds::{ChannelKind, Priority};

/// The most routes: each event is compared with all of them.
pub const MOST_ROUTES: usize = 1000;
/// The most deliveries of one route.
pub const MOST_DELIVERIES: usize = 20;
/// The longest delay, and the longest time until a delivery expires.
pub const LONGEST_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The target that an event sets as `user_target`.
pub const USER: &str = "user";
/// The prefix of a target that is a path into the payload.
pub const PAYLOAD: &str = "payload.";

/// A route: the messages that an event causes.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The id.
    pub id: RouteId,
    /// The pattern of the events that it matches: a name in which `*` matches one word, or at the end all remaining
    /// words.
    pub event: Pattern,
    /// A description for people.
    pub description: Option<String>,
    /// The group that clients may opt out of; the event's first word if absent.
    pub group: Option<String>,
    /// True if clients cannot opt out of it and quiet hours do not defer it.
    pub transactional: bool,
    /// False if it causes no messages.
    pub enabled: bool,
    /// The messages.
    pub deliveries: Vec<RouteDelivery>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
}

/// One message of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteDelivery {
    /// The channel.
    pub channel: ChannelKind,
    /// The recipient: `user` (the event's `user_target`), another role of the event's `targets`, or `payload.` and the
    /// path of a field with a client or an address.
    pub target: String,
    /// A fixed address instead of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The name of a template for this channel; optional for a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The priority.
    pub priority: Priority,
    /// The time from the event to the message, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// The time after which the message expires, counted from the end of the delay, such as `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<String>,
    /// The condition under which the message is created, such as `payload.total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl Route {
    /// Parses the texts of a route, so that it can be matched against events.
    ///
    /// # Errors
    /// The text that cannot be parsed; no version of the service stores one.
    pub fn compile(self) -> Result<CompiledRoute, String> {
        let step = |delivery: &RouteDelivery| {
            Ok(CompiledDelivery {
                delay: delivery.delay.as_deref().map(duration).transpose()?.unwrap_or_default(),
                expires_after: delivery.expires_after.as_deref().map(duration).transpose()?,
                condition: delivery.condition.as_deref().map(Condition::stored),
                delivery: delivery.clone(),
            })
        };
        let steps = self.deliveries.iter().map(step).collect::<Result<_, String>>()?;
        Ok(CompiledRoute { route: self, steps })
    }
}

/// A route with parsed deliveries.
#[derive(Debug)]
pub struct CompiledRoute {
    /// The route.
    pub route: Route,
    /// Its deliveries, in their order.
    pub steps: Vec<CompiledDelivery>,
}

/// A parsed delivery of a route.
#[derive(Debug)]
pub struct CompiledDelivery {
    /// The delivery as stored.
    pub delivery: RouteDelivery,
    /// The time from the event to the message.
    pub delay: Duration,
    /// The time after which the message expires, counted from the end of the delay.
    pub expires_after: Option<Duration>,
    /// The condition under which the message is created.
    pub condition: Option<Condition>,
}

impl CompiledRoute {
    /// Returns true if the route matches this event, enabled or not.
    pub fn knows(&self, name: &EventName) -> bool {
        self.route.event.matches(name)
    }
}

/// Parses a duration such as `10m`, up to a year.
///
/// # Errors
/// A message with the accepted values.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if (Duration::from_millis(1)..=LONGEST_DELAY).contains(&length) => Ok(length),
        Ok(_) => Err("must be between 1 ms and a year".into()),
        Err(_) => Err("must be a duration such as \"30s\", \"10m\" or \"2h\"".into()),
    }
}

/// The fields of a new or changed route. An absent field stays, or has its default in a new route.
#[derive(Debug, Clone, Default)]
pub struct RouteChanges {
    /// The pattern of the events.
    pub event: Option<String>,
    /// The description; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// The group that clients may opt out of; `Some(None)` for the event's first word.
    pub group: Option<Option<String>>,
    /// True if clients cannot opt out of it.
    pub transactional: Option<bool>,
    /// False if it causes no messages.
    pub enabled: Option<bool>,
    /// The messages.
    pub deliveries: Option<Vec<NewDelivery>>,
}

/// A new delivery of a route, not yet validated.
#[derive(Debug, Clone, Default)]
pub struct NewDelivery {
    /// The name of the channel.
    pub channel: String,
    /// The target; `user` if absent.
    pub target: Option<String>,
    /// A fixed address instead of the target's.
    pub recipient: Option<String>,
    /// The name of a template for this channel.
    pub template: Option<String>,
    /// The name of the priority; `normal` if absent.
    pub priority: Option<String>,
    /// The time from the event to the message.
    pub delay: Option<String>,
    /// The time after which the message expires, counted from the end of the delay.
    pub expires_after: Option<String>,
    /// The condition under which the message is created.
    pub condition: Option<String>,
}
