//! Events and the messages that they cause, as the API returns them.

use serde::Serialize;
use utoipa::ToSchema;

use super::target::EventTarget;
use crate::db::types::{ClientId, EventId, Timestamp};
use crate::events::model::{
    Event, EventPlan, EventWithNotifications, PlannedMessage, SkippedMessage, Source,
};
use crate::kinds::{ChannelKind, Priority};
use crate::notifications::model::Raw;
use crate::notifications::views::{NotificationView, TemplateUsedView};
use crate::paging::{PageItem, json_length};

/// An accepted event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView<'m> {
    /// The event's id, assigned by the service.
    event_id: EventId,
    /// The sender's id of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<&'m str>,
    /// The event's type.
    #[schema(example = "order.shipped")]
    event: &'m str,
    /// The main target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EventTarget>, nullable = false)]
    user_target: Option<&'m Raw>,
    /// The other targets, by role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, EventTarget>>, nullable = false)]
    targets: Option<&'m Raw>,
    /// The payload.
    #[schema(value_type = Object)]
    payload: &'m Raw,
    /// The time at which it happened, if the sender gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    occurred_at: Option<Timestamp>,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The source from which it came.
    source: Source,
    /// The messages of its routes that were not created.
    skipped: Vec<SkippedView<'m>>,
}

impl<'m> From<&'m Event> for EventView<'m> {
    fn from(event: &'m Event) -> Self {
        Self {
            event_id: event.event_id,
            id: event.id.as_deref(),
            event: &event.event,
            user_target: event.user_target.as_ref(),
            targets: event.targets.as_ref(),
            payload: &event.payload,
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            source: event.source,
            skipped: event.skipped.iter().map(SkippedView::from).collect(),
        }
    }
}

/// An event with the messages that it caused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventWithNotifications)]
pub struct EventWithNotificationsView<'m> {
    /// The event.
    #[serde(flatten)]
    event: EventView<'m>,
    /// Its messages, in the order of the deliveries of its routes.
    notifications: Vec<NotificationView<'m>>,
}

impl<'m> From<&'m EventWithNotifications> for EventWithNotificationsView<'m> {
    fn from(found: &'m EventWithNotifications) -> Self {
        Self {
            event: (&found.event).into(),
            notifications: found.notifications.iter().map(NotificationView::from).collect(),
        }
    }
}

/// A message of a route that was not created.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Skipped)]
pub struct SkippedView<'m> {
    /// The event pattern of the route.
    #[schema(example = "order.*")]
    route: &'m str,
    /// The channel.
    channel: ChannelKind,
    /// The target.
    #[schema(example = "seller")]
    target: &'m str,
    /// The reason why it was not created.
    #[schema(example = "the client has no push token, which `push` needs")]
    reason: &'m str,
}

impl<'m> From<&'m SkippedMessage> for SkippedView<'m> {
    fn from(skipped: &'m SkippedMessage) -> Self {
        Self {
            route: &skipped.route,
            channel: skipped.channel,
            target: &skipped.target,
            reason: &skipped.reason,
        }
    }
}

/// A message that an event causes, rendered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Draft)]
pub struct DraftView<'m> {
    /// The event pattern of the route.
    #[schema(example = "order.*")]
    route: &'m str,
    /// The channel.
    channel: ChannelKind,
    /// The target.
    #[schema(example = "seller")]
    target: &'m str,
    /// The address on the channel.
    recipient: &'m str,
    /// The client with this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_id: Option<ClientId>,
    /// The template from which it was rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    template: Option<TemplateUsedView<'m>>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    subject: Option<&'m str>,
    /// The text.
    content: &'m str,
    /// The text of an e-mail as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    html: Option<&'m str>,
    /// An object for the recipient's application.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    data: Option<&'m Raw>,
    /// The priority.
    priority: Priority,
    /// The group that clients may opt out of.
    group: &'m str,
    /// True if recipients cannot opt out of it.
    transactional: bool,
    /// The time before which it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    expires_at: Option<Timestamp>,
}

impl<'m> From<&'m PlannedMessage> for DraftView<'m> {
    fn from(message: &'m PlannedMessage) -> Self {
        Self {
            route: &message.route,
            channel: message.channel,
            target: &message.target,
            recipient: &message.recipient,
            client_id: message.client_id,
            template: message.template.as_ref().map(TemplateUsedView::from),
            subject: message.subject.as_deref(),
            content: &message.content,
            html: message.html.as_deref(),
            data: message.data.as_ref(),
            priority: message.priority,
            group: &message.group,
            transactional: message.transactional,
            scheduled_at: message.scheduled_at,
            expires_at: message.expires_at,
        }
    }
}

/// The messages that an event causes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub struct PlanView<'m> {
    /// The messages.
    pub(super) notifications: Vec<DraftView<'m>>,
    /// The messages of its routes that are not created.
    pub(super) skipped: Vec<SkippedView<'m>>,
}

impl<'m> From<&'m EventPlan> for PlanView<'m> {
    fn from(plan: &'m EventPlan) -> Self {
        Self {
            notifications: plan.notifications.iter().map(DraftView::from).collect(),
            skipped: plan.skipped.iter().map(SkippedView::from).collect(),
        }
    }
}

impl PageItem for Event {
    fn length(&self) -> usize {
        json_length(&EventView::from(self))
    }
}
