//! Response bodies of dry runs of events.

use serde::Serialize;
use utoipa::ToSchema;

use super::schema::{ActionAccepted, EventAccepted};
use crate::error::{Error, FieldError, Result};
use crate::events::model::{Draft, Plan, Skipped};
use crate::events::usecase::Rehearsed;

/// The messages that an event would cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventRehearsed {
    /// True: nothing was stored or sent.
    dry_run: bool,
    /// The messages.
    notifications: Vec<Draft>,
    /// The messages of its routes that would not be created.
    skipped: Vec<Skipped>,
}

impl EventRehearsed {
    /// Converts a plan.
    pub fn new(plan: Plan) -> Self {
        Self { dry_run: true, notifications: plan.notifications, skipped: plan.skipped }
    }
}

/// The 200 response to an event, as an OpenAPI schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventDone {
    /// The response with `Prefer: wait`.
    Accepted(EventAccepted),
    /// The response to a dry run.
    Rehearsed(EventRehearsed),
}

/// The 200 response to an action, as an OpenAPI schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ActionDone {
    /// The response to an accepted action.
    Accepted(ActionAccepted),
    /// The response to a dry run.
    Rehearsed(EventRehearsed),
}

/// The results that the events of a batch would have.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchRehearsed {
    /// True: nothing was stored or sent.
    dry_run: bool,
    /// The number of events in the request.
    total: usize,
    /// The number of events that would be accepted.
    accepted: usize,
    /// The number of events that would be rejected.
    rejected: usize,
    /// The result for each event, in the order of the request.
    items: Vec<EventBatchItemRehearsed>,
}

/// The result that one event of a batch would have.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchItemRehearsed {
    /// Its index in the request, from 0.
    index: usize,
    /// The number of messages that it would cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notifications: Option<usize>,
    /// The messages of its routes that would not be created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
    /// The reasons for which it would be rejected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl EventBatchRehearsed {
    /// Converts the results of a dry run.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field, if no event would be accepted.
    pub fn new(rehearsed: Vec<Rehearsed>) -> Result<Self> {
        let item = |(index, rehearsed): (usize, Rehearsed)| match rehearsed {
            Ok((notifications, skipped)) => EventBatchItemRehearsed {
                index,
                notifications: Some(notifications),
                skipped,
                errors: Vec::new(),
            },
            Err(errors) => {
                EventBatchItemRehearsed { index, notifications: None, skipped: Vec::new(), errors }
            }
        };
        let items: Vec<_> = rehearsed.into_iter().enumerate().map(item).collect();
        let accepted = items.iter().filter(|item| item.notifications.is_some()).count();
        if accepted == 0 {
            let wrong = items.iter().map(|item| (item.index, item.errors.as_slice()));
            return Err(Error::Invalid(FieldError::of_each("events", wrong)));
        }
        let (total, dry_run) = (items.len(), true);
        Ok(Self { dry_run, total, accepted, rejected: total - accepted, items })
    }
}
