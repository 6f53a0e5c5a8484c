//! Response bodies of routes.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Route, RouteDelivery};
use crate::db::types::{RouteId, Timestamp};
use crate::kinds::{ChannelKind, Priority};
use crate::paging::{PageItem, json_length};

/// A route: the messages that an event causes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Route)]
pub struct RouteView<'m> {
    /// The id.
    id: RouteId,
    /// The pattern of the events that it matches: a name in which `*` matches one word, or at the end all remaining
    /// words.
    #[schema(value_type = String, example = "order.*")]
    event: &'m str,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    description: Option<&'m str>,
    /// The group that clients may opt out of; the event's first word if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "orders")]
    group: Option<&'m str>,
    /// True if clients cannot opt out of it and quiet hours do not defer it.
    transactional: bool,
    /// False if it causes no messages.
    enabled: bool,
    /// The messages.
    deliveries: Vec<RouteDeliveryView<'m>>,
    /// The time of creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of the last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl<'m> From<&'m Route> for RouteView<'m> {
    fn from(route: &'m Route) -> Self {
        Self {
            id: route.id,
            event: route.event.as_str(),
            description: route.description.as_deref(),
            group: route.group.as_deref(),
            transactional: route.transactional,
            enabled: route.enabled,
            deliveries: route.deliveries.iter().map(RouteDeliveryView::from).collect(),
            created_at: route.created_at,
            updated_at: route.updated_at,
        }
    }
}

impl PageItem for Route {
    fn length(&self) -> usize {
        json_length(&RouteView::from(self))
    }
}

/// One message of a route.
#[derive(Debug, Serialize, ToSchema)]
// has an effect on the OpenAPI document only: the schema allows no other fields
#[serde(deny_unknown_fields)]
#[schema(as = RouteDelivery)]
pub struct RouteDeliveryView<'m> {
    /// The channel.
    channel: ChannelKind,
    /// The recipient: `user` (the event's `user_target`), another role of the event's `targets`, or `payload.` and the
    /// path of a field with a client or an address.
    #[schema(example = "seller")]
    target: &'m str,
    /// A fixed address instead of the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    recipient: Option<&'m str>,
    /// The name of a template for this channel; optional for a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    template: Option<&'m str>,
    /// The priority.
    priority: Priority,
    /// The time from the event to the message, such as `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "10m")]
    delay: Option<&'m str>,
    /// The time after which the message expires, counted from the end of the delay, such as `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "1h")]
    expires_after: Option<&'m str>,
    /// The condition under which the message is created, such as `payload.total > 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "payload.total > 100")]
    condition: Option<&'m str>,
}

impl<'m> From<&'m RouteDelivery> for RouteDeliveryView<'m> {
    fn from(delivery: &'m RouteDelivery) -> Self {
        Self {
            channel: delivery.channel,
            target: &delivery.target,
            recipient: delivery.recipient.as_deref(),
            template: delivery.template.as_deref(),
            priority: delivery.priority,
            delay: delivery.delay.as_deref(),
            expires_after: delivery.expires_after.as_deref(),
            condition: delivery.condition.as_deref(),
        }
    }
}
