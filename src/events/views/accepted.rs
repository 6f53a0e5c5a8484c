//! Response bodies of accepted events.

use serde::Serialize;
use utoipa::ToSchema;

use super::event::SkippedView;
use crate::db::types::{EventId, Timestamp};
use crate::error::{Error, FieldError, Result};
use crate::events::model::{AcceptedEvent, EventWithNotifications};
use crate::events::usecase::AcceptResult;
use crate::notifications::views::NotificationView;

/// The response to an accepted action.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionAccepted {
    /// The HTTP status of the response.
    #[schema(example = 200)]
    code: u16,
    /// A text for people.
    #[schema(example = "Success Received")]
    status: &'static str,
    /// A text for people.
    #[schema(example = "OK")]
    message: &'static str,
    /// The id of the action's event, for `/api/v1/events/{id}`.
    data: EventId,
}

impl ActionAccepted {
    /// Creates the response to an accepted action.
    pub fn new(accepted: &AcceptedEvent) -> Self {
        Self { code: 200, status: "Success Received", message: "OK", data: accepted.id }
    }
}

/// The status of an accepted event.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Success {
    /// It is on disk.
    Success,
}

/// The response to an accepted event, with its messages if the request waited.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAccepted<'m> {
    /// `success`.
    status: Success,
    /// A text for people.
    #[schema(example = "event accepted")]
    message: &'static str,
    /// The event's id, for `/api/v1/events/{id}`.
    event_id: EventId,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The event's messages, if the request waited for their final statuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notifications: Option<Vec<NotificationView<'m>>>,
    /// The messages of its routes that were not created, with the reason, such as a webhook without a signing secret.
    /// An empty list is returned only if the request waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    skipped: Option<Vec<SkippedView<'m>>>,
}

impl<'m> EventAccepted<'m> {
    /// Creates the response to a request that did not wait.
    pub fn new(accepted: &'m AcceptedEvent) -> Self {
        let AcceptedEvent { id, received_at, skipped, .. } = accepted;
        let skipped = (!skipped.is_empty()).then(|| skipped.iter().map(SkippedView::from).collect());
        Self { skipped, ..Self::of(*id, *received_at) }
    }

    fn of(event_id: EventId, received_at: Timestamp) -> Self {
        Self {
            status: Success::Success,
            message: "event accepted",
            event_id,
            received_at,
            notifications: None,
            skipped: None,
        }
    }

    /// Creates the response to a request that waited.
    pub fn waited(found: &'m EventWithNotifications) -> Self {
        let EventWithNotifications { event, notifications } = found;
        Self {
            notifications: Some(notifications.iter().map(NotificationView::from).collect()),
            skipped: Some(event.skipped.iter().map(SkippedView::from).collect()),
            ..Self::of(event.event_id, event.received_at)
        }
    }
}

/// The result of posting a batch of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchAccepted<'m> {
    /// The number of events in the request.
    total: usize,
    /// The number of accepted events, now or before.
    accepted: usize,
    /// The number of rejected events.
    rejected: usize,
    /// The result for each event, in the order of the request.
    items: Vec<EventBatchItem<'m>>,
}

/// The result for one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchItem<'m> {
    /// Its index in the request, from 0.
    index: usize,
    /// Its id, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    event_id: Option<EventId>,
    /// The time at which it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    received_at: Option<Timestamp>,
    /// The messages of its routes that were not created, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedView<'m>>,
    /// The reasons for which it was rejected.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'m [FieldError],
}

impl<'m> EventBatchAccepted<'m> {
    /// Converts the results of a batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field, if no event could be accepted.
    pub fn new(taken: &'m [AcceptResult]) -> Result<Self> {
        let item = |(index, taken): (usize, &'m AcceptResult)| match taken {
            Ok(AcceptedEvent { id, received_at, skipped, .. }) => EventBatchItem {
                index,
                event_id: Some(*id),
                received_at: Some(*received_at),
                skipped: skipped.iter().map(SkippedView::from).collect(),
                errors: &[],
            },
            Err(errors) => {
                EventBatchItem { index, event_id: None, received_at: None, skipped: Vec::new(), errors }
            }
        };
        let items: Vec<EventBatchItem<'m>> = taken.iter().enumerate().map(item).collect();
        let accepted = items.iter().filter(|item| item.event_id.is_some()).count();
        if accepted == 0 {
            let wrong = items.iter().map(|item| (item.index, item.errors));
            return Err(Error::Invalid(FieldError::of_each("events", wrong)));
        }
        Ok(Self { total: items.len(), accepted, rejected: items.len() - accepted, items })
    }
}
