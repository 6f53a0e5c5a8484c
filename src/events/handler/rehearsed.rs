//! The answers to dry runs of events.

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
    /// Its messages.
    notifications: Vec<Draft>,
    /// Messages that its routes ask for and that would not be made.
    skipped: Vec<Skipped>,
}

impl EventRehearsed {
    /// Shows this plan.
    pub fn new(plan: Plan) -> Self {
        Self { dry_run: true, notifications: plan.notifications, skipped: plan.skipped }
    }
}

/// The answer 200 to an event, for the API's document.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventDone {
    /// It was waited for.
    Accepted(EventAccepted),
    /// It was a dry run.
    Rehearsed(EventRehearsed),
}

/// The answer 200 to an action, for the API's document.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ActionDone {
    /// It is kept.
    Accepted(ActionAccepted),
    /// It was a dry run.
    Rehearsed(EventRehearsed),
}

/// The outcome that events would have that were posted together.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchRehearsed {
    /// True: nothing was stored or sent.
    dry_run: bool,
    /// How many were posted.
    total: usize,
    /// How many of them would be taken.
    accepted: usize,
    /// How many are wrong.
    rejected: usize,
    /// The outcome of each, in their order.
    items: Vec<EventBatchItemRehearsed>,
}

/// The outcome that one event of a batch would have.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchItemRehearsed {
    /// Its place in the request, from 0.
    index: usize,
    /// The number of messages that it would cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notifications: Option<usize>,
    /// Messages that its routes ask for and that would not be made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
    /// Complaints about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl EventBatchRehearsed {
    /// Shows these.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names each field when none would be taken.
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
