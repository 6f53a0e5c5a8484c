//! Response bodies of recurring requests.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{CatchUp, RecurringRequest, RecurringStatus};
use crate::db::types::{RecurringId, Timestamp};
use crate::paging::{PageItem, json_length};
use crate::requests::views::{CallView, NotifyView, RetryView};

/// A recurring request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecurringRequest)]
pub struct RecurringRequestView<'m> {
    /// The id, which is the `recurring_id` of each occurrence.
    id: RecurringId,
    /// The status.
    status: RecurringStatus,
    /// The cron expression: minute, hour, day of the month, month, day of the week.
    #[schema(example = "0 9 * * 1-5")]
    cron: &'m str,
    /// The time zone of `cron`.
    #[schema(example = "Europe/Berlin")]
    timezone: &'m str,
    /// The handling of missed occurrences.
    catch_up: CatchUp,
    /// The next five occurrences; fewer near its end, empty while it is paused and after its cancellation.
    #[schema(value_type = Vec<String>, format = DateTime, max_items = 5)]
    next_runs: &'m [Timestamp],
    /// The due time of its last occurrence.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_run_at: Option<Timestamp>,
    /// No occurrence is planned before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    execute_at: Option<Timestamp>,
    /// No occurrence is planned at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// The HTTP request of each occurrence.
    request: CallView<'m>,
    /// The failures to retry, and the delays.
    retry: RetryView,
    /// The URL that the result of each occurrence is reported to.
    notify: Option<NotifyView<'m>>,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time at which it was last paused, resumed or cancelled.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl<'m> From<&'m RecurringRequest> for RecurringRequestView<'m> {
    fn from(recurring: &'m RecurringRequest) -> Self {
        Self {
            id: recurring.id,
            status: recurring.status,
            cron: &recurring.cron,
            timezone: &recurring.timezone,
            catch_up: recurring.catch_up,
            next_runs: &recurring.next_runs,
            last_run_at: recurring.last_run_at,
            execute_at: recurring.execute_at,
            until: recurring.until,
            request: (&recurring.draft.spec).into(),
            retry: (&recurring.draft).into(),
            notify: recurring.draft.notify.as_ref().map(NotifyView::from),
            created_at: recurring.created_at,
            updated_at: recurring.updated_at,
        }
    }
}

impl PageItem for RecurringRequest {
    fn length(&self) -> usize {
        json_length(&RecurringRequestView::from(self))
    }
}
