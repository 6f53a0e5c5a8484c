//! Request bodies of routes.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::json::{given, present};
use crate::kinds::{ChannelToPeople, Priority};
use crate::routes::model::{NewDelivery, RouteChanges};

/// A new route.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"event": "order.purchased", "deliveries": [
    {"channel": "email", "target": "seller", "template": "order.purchased"},
    {"channel": "push", "target": "seller", "template": "order.purchased"}
]}))]
pub struct RouteBody {
    /// The pattern of the events that it matches: a name in which `*` matches one word, or at the end all remaining
    /// words. It is unique among the routes. An event causes the messages of every matching route.
    #[schema(min_length = 1, max_length = 100, pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$")]
    pub event: String,
    /// A description for people.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<String>,
    /// The group that clients may opt out of; the event's first word if absent.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<String>,
    /// True if clients cannot opt out of it and quiet hours do not defer it. False by default.
    #[serde(default)]
    pub transactional: bool,
    /// False if it causes no messages. True by default.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
    /// The messages, 1 to 20.
    #[schema(min_items = 1, max_items = 20)]
    pub deliveries: Vec<DeliveryDraft>,
}

fn yes() -> bool {
    true
}

/// Changes to a route: an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"enabled": false}))]
pub struct RoutePatch {
    /// The same as in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$"
    )]
    pub event: Option<String>,
    /// The same as in a new route; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<Option<String>>,
    /// The same as in a new route; null for the event's first word.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<Option<String>>,
    /// The same as in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub transactional: Option<bool>,
    /// False if it causes no messages.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// The messages, 1 to 20, which replace the present ones.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1, max_items = 20)]
    pub deliveries: Option<Vec<DeliveryDraft>>,
}

impl From<RouteBody> for RouteChanges {
    fn from(body: RouteBody) -> Self {
        Self {
            event: Some(body.event),
            description: Some(body.description),
            group: Some(body.group),
            transactional: Some(body.transactional),
            enabled: Some(body.enabled),
            deliveries: Some(body.deliveries.into_iter().map(NewDelivery::from).collect()),
        }
    }
}

impl From<RoutePatch> for RouteChanges {
    fn from(patch: RoutePatch) -> Self {
        let RoutePatch { event, description, group, transactional, enabled, deliveries } = patch;
        let deliveries = deliveries.map(|drafts| drafts.into_iter().map(NewDelivery::from).collect());
        Self { event, description, group, transactional, enabled, deliveries }
    }
}

/// A new delivery of a route, not yet validated.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRouteDelivery, example = json!({"channel": "email", "target": "seller", "template": "order.purchased"}))]
pub struct DeliveryDraft {
    /// `sms`, `email`, `push`, `webhook`, `discord` or `in_app`.
    #[schema(value_type = ChannelToPeople)]
    pub channel: String,
    /// The recipient: `user` (the default: the event's `user_target`), another role of its `targets`, or `payload.` and
    /// the path of a field with a client or an address.
    #[schema(max_length = 100, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
    pub target: Option<String>,
    /// A fixed address instead of the target's.
    #[schema(min_length = 1, max_length = 4096)]
    pub recipient: Option<String>,
    /// The name of a template for this channel; optional for a webhook.
    #[schema(min_length = 1, max_length = 100)]
    pub template: Option<String>,
    /// `high`, `normal` (the default) or `low`.
    #[schema(value_type = Option<Priority>)]
    pub priority: Option<String>,
    /// The time from the event to the message, such as `10m`, up to a year.
    pub delay: Option<String>,
    /// The time after which the message expires, counted from the end of the delay, such as `1h`, up to a year.
    pub expires_after: Option<String>,
    /// The condition under which the message is created, such as `payload.total > 100`.
    #[schema(min_length = 1, max_length = 500)]
    pub condition: Option<String>,
}

impl From<DeliveryDraft> for NewDelivery {
    fn from(draft: DeliveryDraft) -> Self {
        let DeliveryDraft { channel, target, recipient, template, priority, delay, expires_after, condition } =
            draft;
        Self { channel, target, recipient, template, priority, delay, expires_after, condition }
    }
}
