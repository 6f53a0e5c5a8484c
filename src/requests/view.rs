//! The API's views of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::model::{Notify, RequestKind, stored};
use super::repo::RequestRow;
use super::report::Answered;
use crate::channels::{IDEMPOTENCY_KEY, RequestSpec, RetryOn};
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::kinds::NotificationStatus as Status;
use crate::messages::model::Attempt;
use crate::messages::repo::MessageRow;

/// Replaces the value of a secret header.
const MASKED: &str = "•••";

/// The HTTP request to send.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestCall)]
pub struct CallView {
    /// The URL.
    #[schema(example = "https://api.example.com/orders/7")]
    pub url: String,
    /// The method.
    #[schema(example = "POST")]
    pub verb: String,
    /// The timeout of an attempt, in seconds.
    #[schema(minimum = 0, maximum = 300, example = 30)]
    pub timeout: f64,
    /// The headers. The values of headers with secret names, such as `authorization`, are masked.
    pub header: BTreeMap<String, String>,
    /// The body: JSON, or a string that is sent unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
    /// The name of its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub credential: Option<String>,
}

/// The failures to retry, and the delays.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestRetry)]
pub struct RetryView {
    /// The failures to retry.
    #[schema(example = json!(["5xx", "429", "timeout"]))]
    pub on: Vec<String>,
    /// The delay before each further attempt, in seconds.
    #[schema(example = json!([1, 2, 4]))]
    pub delays: Vec<f64>,
    /// No attempt begins at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// The URL that a result is reported to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestNotify)]
pub struct NotifyView {
    /// The HTTP request to send; its body is the report.
    pub request: CallView,
    /// The failures to retry, and the delays.
    pub retry: RetryView,
}

/// A request and its state.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView {
    /// The id, which each attempt has as its `Idempotency-Key`.
    pub id: MessageId,
    /// The id of the recurring request, if this is one of its occurrences.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub recurring_id: Option<ResourceId>,
    /// The status; `sent` if the server returned a status below 400 that `retry.on` does not name.
    pub status: Status,
    /// The scheduled time.
    #[schema(value_type = String, format = DateTime)]
    pub execute_at: Timestamp,
    /// The HTTP request to send.
    pub request: CallView,
    /// The failures to retry, and the delays.
    pub retry: RetryView,
    /// The URL that its result is reported to.
    pub notify: Option<NotifyView>,
    /// The number of attempts.
    #[schema(minimum = 0)]
    pub attempt_count: i16,
    /// The due time of the next attempt, while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// The start of the last attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub executed_at: Option<Timestamp>,
    /// The duration of the last attempt, in milliseconds.
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// The time at which it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The reason why it has not succeeded (yet).
    pub error: Option<String>,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of its last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A request with its attempts, its response and its reports.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestWithAttempts)]
pub struct RequestDetails {
    /// The request.
    #[serde(flatten)]
    pub request: RequestView,
    /// The attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// The response to the last attempt that got one.
    pub response: Option<Answered>,
    /// The reports of its result, one for each time that it ended.
    pub reports: Vec<ReportView>,
}

/// The report of a result, which is a message of its own.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestReportState)]
pub struct ReportView {
    /// The message's id and its `webhook-id`. A failed report is a dead letter with this id.
    pub id: MessageId,
    /// The status.
    pub status: Status,
    /// The number of attempts.
    #[schema(minimum = 0)]
    pub attempt_count: i16,
    /// The time at which it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The reason why it was not accepted (yet).
    pub error: Option<String>,
}

impl CallView {
    /// Converts a stored HTTP request, and masks its secret headers.
    pub fn of(spec: RequestSpec) -> Self {
        let shown = |name: &str, value: String| if is_secret(name) { MASKED.to_owned() } else { value };
        let header = spec.headers.into_iter().map(|(name, value)| {
            let value = shown(&name, value);
            (name, value)
        });
        let body = |text: String| match serde_json::from_str(&text) {
            Ok(json) if spec.is_json => json,
            _ => Value::String(text),
        };
        Self {
            url: spec.url,
            verb: spec.verb,
            timeout: seconds(spec.timeout_ms),
            header: header.collect(),
            body: spec.body.map(body),
            credential: spec.credential,
        }
    }
}

/// Returns true if a header's name says that its value is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name != IDEMPOTENCY_KEY.as_str()
        && ["auth", "cookie", "key", "token", "secret", "password", "signature"]
            .iter()
            .any(|word| name.contains(word))
}

#[expect(clippy::cast_precision_loss, reason = "some minutes in milliseconds")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

impl RetryView {
    /// Converts stored retries; `default` applies to a request without delays of its own.
    pub fn of(
        again: &[RetryOn],
        delays: Option<&[u64]>,
        until: Option<Timestamp>,
        default: &[Duration],
    ) -> Self {
        let own = delays.map(<[u64]>::to_vec).unwrap_or_else(|| super::model::millis(default));
        Self {
            on: again.iter().map(ToString::to_string).collect(),
            delays: own.into_iter().map(seconds).collect(),
            until,
        }
    }
}

impl NotifyView {
    /// Converts the stored settings of a report; `default` applies to a report without delays of its own.
    pub fn of(notify: Notify, default: &[Duration]) -> Self {
        let again = notify.spec.again.as_deref().unwrap_or(RetryOn::DEFAULT_OF_REPORT);
        let retry = RetryView::of(again, notify.delays.as_deref(), notify.until, default);
        Self { request: CallView::of(notify.spec), retry }
    }
}

/// The stored parts of a request: its message, its row, and its due time while it waits.
pub type RequestRows = (MessageRow, RequestRow, Option<Timestamp>);

impl RequestView {
    /// Builds the view at `now` from its rows; `default` are the delays of a request without its own.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn of_rows(
        (message, row, due_at): (&MessageRow, &RequestRow, Option<Timestamp>),
        default: &[Duration],
        now: Timestamp,
    ) -> Result<Self> {
        let spec: RequestSpec = stored(&row.spec)?;
        let delays: Option<Vec<u64>> = row.retry.as_deref().map(stored).transpose()?;
        let notify: Option<Notify> = row.notify.as_deref().map(stored).transpose()?;
        let again = spec.again.as_deref().unwrap_or(RetryOn::DEFAULT);
        Ok(Self {
            id: message.id,
            recurring_id: row.parent_id.filter(|_| row.kind == RequestKind::Run.code()),
            status: message.status_at(due_at, now)?,
            execute_at: row.scheduled_at,
            retry: RetryView::of(again, delays.as_deref(), message.expires_at, default),
            request: CallView::of(spec),
            notify: notify.map(|notify| NotifyView::of(notify, default)),
            attempt_count: message.attempts,
            next_attempt_at: due_at,
            executed_at: row.executed_at,
            duration_ms: message.duration_ms,
            finished_at: message.finished_at,
            error: message.error.clone(),
            created_at: message.id.created_at(),
            updated_at: message.finished_at.map_or(row.updated_at, |at| at.max(row.updated_at)),
        })
    }
}

impl ReportView {
    /// Builds the view at `now` from its rows.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn of_rows((message, _, due_at): &RequestRows, now: Timestamp) -> Result<Self> {
        Ok(Self {
            id: message.id,
            status: message.status_at(*due_at, now)?,
            attempt_count: message.attempts,
            finished_at: message.finished_at,
            error: message.error.clone(),
        })
    }
}
