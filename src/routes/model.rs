//! Routes as the API shows them and as they work.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::condition::{Condition, LONGEST as LONGEST_CONDITION};
use super::pattern::{EventName, Pattern};
use crate::db::types::{RouteId, Timestamp};
use crate::kinds::{ChannelKind, ChannelToPeople, Priority};

/// Routes that there may be: each event is held against all of them.
pub const MOST_ROUTES: usize = 1000;
/// Deliveries of one route.
pub const MOST_DELIVERIES: usize = 20;
/// The longest delay, and the longest time until a delivery expires.
pub const LONGEST_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The target that an event names as `user_target`.
pub const USER: &str = "user";
/// Before the path of a target that the payload names.
pub const PAYLOAD: &str = "payload.";

/// A route: which messages an event causes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Route {
    /// Which route.
    pub id: RouteId,
    /// The events that it is for: a name, in which `*` stands for a word, or at the end for all that follow.
    #[schema(value_type = String, example = "order.*")]
    #[serde(serialize_with = "text_of")]
    pub event: Pattern,
    /// Words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub description: Option<String>,
    /// What clients may opt out of; the event's first word unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "orders")]
    pub group: Option<String>,
    /// Nobody may opt out of it, and quiet hours do not hold it back.
    pub transactional: bool,
    /// Whether it causes messages.
    pub enabled: bool,
    /// The messages.
    pub deliveries: Vec<RouteDelivery>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

fn text_of<S: serde::Serializer>(pattern: &Pattern, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(pattern.as_str())
}

/// One message of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteDelivery {
    /// How it goes out.
    pub channel: ChannelKind,
    /// To whom: `user` (the event's `user_target`), another role of the event's `targets`, or `payload.` and the path of a
    /// field that names a client or an address.
    #[schema(example = "seller")]
    pub target: String,
    /// A fixed address instead of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub recipient: Option<String>,
    /// The name of a template for this channel; a webhook may do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// How long after the event it goes out, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "10m")]
    pub delay: Option<String>,
    /// How long after that it is still sent, such as `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "1h")]
    pub expires_after: Option<String>,
    /// It is made only if this holds, such as `payload.total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "payload.total > 100")]
    pub condition: Option<String>,
}

impl Route {
    /// Ready to be held against events.
    ///
    /// # Errors
    /// What of it cannot be read, which is never stored.
    pub fn compile(self) -> Result<Compiled, String> {
        let step = |delivery: &RouteDelivery| {
            Ok(Step {
                delay: delivery.delay.as_deref().map(duration).transpose()?.unwrap_or_default(),
                expires_after: delivery.expires_after.as_deref().map(duration).transpose()?,
                condition: delivery.condition.as_deref().map(Condition::stored),
                delivery: delivery.clone(),
            })
        };
        let steps = self.deliveries.iter().map(step).collect::<Result<_, String>>()?;
        Ok(Compiled { route: self, steps })
    }
}

/// A route ready to be held against events.
#[derive(Debug)]
pub struct Compiled {
    /// The route.
    pub route: Route,
    /// Its deliveries, in their order.
    pub steps: Vec<Step>,
}

/// A delivery of a route, read.
#[derive(Debug)]
pub struct Step {
    /// As it is written.
    pub delivery: RouteDelivery,
    /// From the event to the message.
    pub delay: Duration,
    /// From then to its end.
    pub expires_after: Option<Duration>,
    /// Whether it is made at all.
    pub condition: Option<Condition>,
}

impl Compiled {
    /// Whether it is for this event, enabled or not.
    pub fn knows(&self, name: &EventName) -> bool {
        self.route.event.matches(name)
    }
}

/// A duration such as `10m`, up to a year.
///
/// # Errors
/// Says what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if (Duration::from_millis(1)..=LONGEST_DELAY).contains(&length) => Ok(length),
        Ok(_) => Err("must be within 1 ms and a year".into()),
        Err(_) => Err("must be a duration such as \"30s\", \"10m\" or \"2h\"".into()),
    }
}

/// What somebody says of a route. What is absent stays, or is as in a new one.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The events that it is for.
    pub event: Option<String>,
    /// Words for people; none at all.
    pub description: Option<Option<String>>,
    /// What clients may opt out of; the event's first word.
    pub group: Option<Option<String>>,
    /// Whether nobody may opt out of it.
    pub transactional: Option<bool>,
    /// Whether it causes messages.
    pub enabled: Option<bool>,
    /// The messages.
    pub deliveries: Option<Vec<DeliveryDraft>>,
}

/// A delivery as somebody wrote it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRouteDelivery, example = json!({"channel": "email", "target": "seller", "template": "order.purchased"}))]
pub struct DeliveryDraft {
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// `user` (the default: the event's `user_target`), another role of its `targets`, or `payload.` and the path of a field
    /// that names a client or an address.
    #[schema(max_length = 100, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
    pub target: Option<String>,
    /// A fixed address instead of the target's.
    #[schema(min_length = 1, max_length = 4096)]
    pub recipient: Option<String>,
    /// The name of a template for this channel; a webhook may do without.
    #[schema(min_length = 1, max_length = 100)]
    pub template: Option<String>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// How long after the event it goes out, such as `10m`, up to a year.
    pub delay: Option<String>,
    /// How long after that it is still sent, such as `1h`, up to a year.
    pub expires_after: Option<String>,
    /// It is made only if this expression holds, such as `payload.total > 100`.
    #[schema(min_length = 1, max_length = 500)]
    pub condition: Option<String>,
}
