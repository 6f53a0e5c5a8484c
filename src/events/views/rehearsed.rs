//! Response bodies of dry runs of events.

use serde::Serialize;
use utoipa::ToSchema;

use super::accepted::{ActionAccepted, EventAccepted};
use super::event::{DraftView, PlanView, SkippedView};
use crate::error::{Error, FieldError, Result};
use crate::events::model::EventPlan;
use crate::events::usecase::Rehearsed;

/// The messages that an event would cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventRehearsed<'m> {
    /// True: nothing was stored or sent.
    dry_run: bool,
    /// The messages.
    notifications: Vec<DraftView<'m>>,
    /// The messages of its routes that would not be created.
    skipped: Vec<SkippedView<'m>>,
}

impl<'m> From<&'m EventPlan> for EventRehearsed<'m> {
    fn from(plan: &'m EventPlan) -> Self {
        let PlanView { notifications, skipped } = plan.into();
        Self { dry_run: true, notifications, skipped }
    }
}

/// The 200 response to an event, as an OpenAPI schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventDone<'m> {
    /// The response with `Prefer: wait`.
    Accepted(EventAccepted<'m>),
    /// The response to a dry run.
    Rehearsed(EventRehearsed<'m>),
}

/// The 200 response to an action, as an OpenAPI schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ActionDone<'m> {
    /// The response to an accepted action.
    Accepted(ActionAccepted),
    /// The response to a dry run.
    Rehearsed(EventRehearsed<'m>),
}

/// The results that the events of a batch would have.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchRehearsed<'m> {
    /// True: nothing was stored or sent.
    dry_run: bool,
    /// The number of events in the request.
    total: usize,
    /// The number of events that would be accepted.
    accepted: usize,
    /// The number of events that would be rejected.
    rejected: usize,
    /// The result for each event, in the order of the request.
    items: Vec<EventBatchItemRehearsed<'m>>,
}

/// The result that one event of a batch would have.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBatchItemRehearsed<'m> {
    /// Its index in the request, from 0.
    index: usize,
    /// The number of messages that it would cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notifications: Option<usize>,
    /// The messages of its routes that would not be created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedView<'m>>,
    /// The reasons for which it would be rejected.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'m [FieldError],
}

impl<'m> EventBatchRehearsed<'m> {
    /// Converts the results of a dry run.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field, if no event would be accepted.
    pub fn new(rehearsed: &'m [Rehearsed]) -> Result<Self> {
        let item = |(index, rehearsed): (usize, &'m Rehearsed)| match rehearsed {
            Ok((notifications, skipped)) => EventBatchItemRehearsed {
                index,
                notifications: Some(*notifications),
                skipped: skipped.iter().map(SkippedView::from).collect(),
                errors: &[],
            },
            Err(errors) => {
                EventBatchItemRehearsed { index, notifications: None, skipped: Vec::new(), errors }
            }
        };
        let items: Vec<_> = rehearsed.iter().enumerate().map(item).collect();
        let accepted = items.iter().filter(|item| item.notifications.is_some()).count();
        if accepted == 0 {
            let wrong = items.iter().map(|item| (item.index, item.errors));
            return Err(Error::Invalid(FieldError::of_each("events", wrong)));
        }
        let (total, dry_run) = (items.len(), true);
        Ok(Self { dry_run, total, accepted, rejected: total - accepted, items })
    }
}
