//! Response bodies of requests.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::model::{Notify, ReportState, Request, RequestDetails, RequestDraft};
use super::report::ResponseView;
use crate::channels::{IDEMPOTENCY_KEY, RequestSpec, RetryOn};
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::kinds::NotificationStatus as Status;
use crate::messages::model::Attempt;
use crate::paging::{PageItem, json_length};

/// Replaces the value of a secret header.
const MASKED: &str = "•••";

/// The HTTP request to send.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestCall)]
pub struct CallView<'m> {
    /// The URL.
    #[schema(example = "https://api.example.com/orders/7")]
    url: &'m str,
    /// The method.
    #[schema(example = "POST")]
    verb: &'m str,
    /// The timeout of an attempt, in seconds.
    #[schema(minimum = 0, maximum = 300, example = 30)]
    timeout: f64,
    /// The headers. The values of headers with secret names, such as `authorization`, are masked.
    #[schema(value_type = BTreeMap<String, String>)]
    header: BTreeMap<&'m str, &'m str>,
    /// The body: JSON, or a string that is sent unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    body: Option<Value>,
    /// The name of its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credential: Option<&'m str>,
}

/// The failures to retry, and the delays.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestRetry)]
pub struct RetryView {
    /// The failures to retry.
    #[schema(example = json!(["5xx", "429", "timeout"]))]
    on: Vec<String>,
    /// The delay before each further attempt, in seconds.
    #[schema(example = json!([1, 2, 4]))]
    delays: Vec<f64>,
    /// No attempt begins at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// The URL that a result is reported to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestNotify)]
pub struct NotifyView<'m> {
    /// The HTTP request to send; its body is the report.
    request: CallView<'m>,
    /// The failures to retry, and the delays.
    retry: RetryView,
}

/// A request and its state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView<'m> {
    /// The id, which each attempt has as its `Idempotency-Key`.
    id: MessageId,
    /// The id of the recurring request, if this is one of its occurrences.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    recurring_id: Option<ResourceId>,
    /// The status; `sent` if the server returned a status below 400 that `retry.on` does not name.
    status: Status,
    /// The scheduled time.
    #[schema(value_type = String, format = DateTime)]
    execute_at: Timestamp,
    /// The HTTP request to send.
    request: CallView<'m>,
    /// The failures to retry, and the delays.
    retry: RetryView,
    /// The URL that its result is reported to.
    notify: Option<NotifyView<'m>>,
    /// The number of attempts.
    #[schema(minimum = 0)]
    attempt_count: i16,
    /// The due time of the next attempt, while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The start of the last attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    executed_at: Option<Timestamp>,
    /// The duration of the last attempt, in milliseconds.
    #[schema(minimum = 0)]
    duration_ms: Option<i32>,
    /// The time at which it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// The reason why it has not succeeded (yet).
    error: Option<&'m str>,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of its last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A request with its attempts, its response and its reports.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestWithAttempts)]
pub struct RequestDetailsView<'m> {
    /// The request.
    #[serde(flatten)]
    request: RequestView<'m>,
    /// The attempts, the oldest first.
    attempts: &'m [Attempt],
    /// The response to the last attempt that got one.
    response: Option<ResponseView<'m>>,
    /// The reports of its result, one for each time that it ended.
    reports: Vec<ReportView<'m>>,
}

/// The report of a result, which is a message of its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestReportState)]
pub struct ReportView<'m> {
    /// The message's id and its `webhook-id`. A failed report is a dead letter with this id.
    id: MessageId,
    /// The status.
    status: Status,
    /// The number of attempts.
    #[schema(minimum = 0)]
    attempt_count: i16,
    /// The time at which it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// The reason why it was not accepted (yet).
    error: Option<&'m str>,
}

impl<'m> From<&'m RequestSpec> for CallView<'m> {
    /// Masks the secret headers.
    fn from(spec: &'m RequestSpec) -> Self {
        let shown = |(name, value): &'m (String, String)| {
            (name.as_str(), if is_secret(name) { MASKED } else { value.as_str() })
        };
        let body = |text: &String| match serde_json::from_str(text) {
            Ok(json) if spec.is_json => json,
            _ => Value::String(text.clone()),
        };
        Self {
            url: &spec.url,
            verb: &spec.verb,
            timeout: seconds(spec.timeout_ms),
            header: spec.headers.iter().map(shown).collect(),
            body: spec.body.as_ref().map(body),
            credential: spec.credential.as_deref(),
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
    fn new(on: &[RetryOn], delays: Option<&[u64]>, until: Option<Timestamp>) -> Self {
        Self {
            on: on.iter().map(ToString::to_string).collect(),
            delays: delays.unwrap_or_default().iter().copied().map(seconds).collect(),
            until,
        }
    }
}

impl From<&RequestDraft> for RetryView {
    fn from(draft: &RequestDraft) -> Self {
        let on = draft.spec.again.as_deref().unwrap_or(RetryOn::DEFAULT);
        Self::new(on, draft.delays.as_deref(), draft.until)
    }
}

impl<'m> From<&'m Notify> for NotifyView<'m> {
    fn from(notify: &'m Notify) -> Self {
        let on = notify.spec.again.as_deref().unwrap_or(RetryOn::DEFAULT_OF_REPORT);
        let retry = RetryView::new(on, notify.delays.as_deref(), notify.until);
        Self { request: (&notify.spec).into(), retry }
    }
}

impl<'m> From<&'m Request> for RequestView<'m> {
    fn from(request: &'m Request) -> Self {
        Self {
            id: request.id,
            recurring_id: request.recurring_id,
            status: request.status,
            execute_at: request.execute_at,
            request: (&request.draft.spec).into(),
            retry: (&request.draft).into(),
            notify: request.draft.notify.as_ref().map(NotifyView::from),
            attempt_count: request.attempt_count,
            next_attempt_at: request.next_attempt_at,
            executed_at: request.executed_at,
            duration_ms: request.duration_ms,
            finished_at: request.finished_at,
            error: request.error.as_deref(),
            created_at: request.created_at,
            updated_at: request.updated_at,
        }
    }
}

impl PageItem for Request {
    fn length(&self) -> usize {
        json_length(&RequestView::from(self))
    }
}

impl<'m> From<&'m RequestDetails> for RequestDetailsView<'m> {
    fn from(details: &'m RequestDetails) -> Self {
        Self {
            request: (&details.request).into(),
            attempts: &details.attempts,
            response: details.response.as_ref().map(ResponseView::from),
            reports: details.reports.iter().map(ReportView::from).collect(),
        }
    }
}

impl<'m> From<&'m ReportState> for ReportView<'m> {
    fn from(report: &'m ReportState) -> Self {
        Self {
            id: report.id,
            status: report.status,
            attempt_count: report.attempt_count,
            finished_at: report.finished_at,
            error: report.error.as_deref(),
        }
    }
}
