//! Events for subscribers, and their filter.

use serde::Serialize;
use utoipa::ToSchema;

use crate::clients::jobs::model::ImportProgress;
use crate::db::types::{BatchId, EndpointId, MailingId, MessageId, Timestamp};
use crate::kinds::{ChannelKind, Disabled, NotificationStatus};
use crate::mailings::model::MailingProgress;

/// A status change of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NotificationChange)]
pub struct Change {
    /// The notification's id.
    pub id: MessageId,
    /// The batch of the notification.
    #[serde(rename = "batch_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batch: Option<BatchId>,
    /// The channel.
    pub channel: ChannelKind,
    /// The new status.
    pub status: NotificationStatus,
    /// The number of attempts so far.
    pub attempts: i16,
    /// The time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A webhook endpoint was disabled or enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct EndpointChange {
    /// The endpoint's id.
    pub id: EndpointId,
    /// True if the endpoint receives messages from now on.
    pub is_enabled: bool,
    /// The reason why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<Disabled>,
    /// The time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// An event for subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEvent {
    /// The status of a notification changed.
    Notification(Change),
    /// The status or the counts of a mailing changed.
    Mailing(MailingProgress),
    /// This node disabled or enabled a webhook endpoint.
    Endpoint(EndpointChange),
    /// An import of this node progressed.
    Import(ImportProgress),
    /// Status changes of another node were lost.
    Missed,
}

/// The filter of a subscriber. All given conditions must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only this mailing; excludes notifications.
    pub mailing: Option<MailingId>,
    /// Only notifications of this batch; excludes mailings.
    pub batch: Option<BatchId>,
    /// Only this channel.
    pub channel: Option<ChannelKind>,
}

impl EventFilter {
    /// Returns true if the event matches.
    pub fn lets_through(&self, event: &LiveEvent) -> bool {
        let (mailing, batch, channel) = match event {
            LiveEvent::Notification(change) => (None, change.batch, change.channel),
            LiveEvent::Mailing(progress) => (Some(progress.mailing_id), None, progress.channel),
            LiveEvent::Endpoint(_) => (None, None, ChannelKind::Webhook),
            // an import has no mailing, batch or channel
            LiveEvent::Import(_) => return *self == Self::default(),
            LiveEvent::Missed => return self.lets_notifications_through(),
        };
        (self.mailing.is_none() || self.mailing == mailing)
            && (self.batch.is_none() || self.batch == batch)
            && self.channel.is_none_or(|wanted| wanted == channel)
    }

    /// Returns true if events of mailings may match.
    pub fn lets_mailings_through(&self) -> bool {
        self.batch.is_none()
    }

    /// Returns true if events of notifications may match.
    pub fn lets_notifications_through(&self) -> bool {
        self.mailing.is_none()
    }
}

/// A subscriber's interest in mailings and in notifications.
pub type Interests = (bool, bool);
