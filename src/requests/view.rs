//! Requests as the API shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::model::{Notify, RequestKind, stored};
use super::repo::RequestRow;
use super::report::Answered;
use crate::channels::IDEMPOTENCY_KEY;
use crate::channels::request::{Again, Spec};
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::kinds::NotificationStatus as Status;
use crate::messages::model::Attempt;
use crate::messages::repo::MessageRow;

/// Stands for a header's value that is nobody's business.
const MASKED: &str = "•••";

/// What is sent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestCall)]
pub struct CallView {
    /// Where to.
    #[schema(example = "https://api.example.com/orders/7")]
    pub url: String,
    /// The method.
    #[schema(example = "POST")]
    pub verb: String,
    /// Seconds that an attempt may take.
    #[schema(minimum = 0, maximum = 300, example = 30)]
    pub timeout: f64,
    /// The headers. The values of those that are secret by their names, such as `authorization`, are not shown.
    pub header: BTreeMap<String, String>,
    /// The body: JSON, or a text that goes out as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
    /// The credential that it bears.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub credential: Option<String>,
}

/// What is tried again, and when.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestRetry)]
pub struct RetryView {
    /// What is tried again.
    #[schema(example = json!(["5xx", "429", "timeout"]))]
    pub on: Vec<String>,
    /// The seconds before each further attempt.
    #[schema(example = json!([1, 2, 4]))]
    pub delays: Vec<f64>,
    /// No attempt begins at this time or after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Where a result is reported to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestNotify)]
pub struct NotifyView {
    /// What is sent; its body is the report.
    pub request: CallView,
    /// What is tried again, and when.
    pub retry: RetryView,
}

/// A request and what has become of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView {
    /// Also the `Idempotency-Key` of each of its attempts.
    pub id: MessageId,
    /// The recurring request that it is a run of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub recurring_id: Option<ResourceId>,
    /// Its state. `sent`: the server answered with a status below 400 that `retry.on` does not name.
    pub status: Status,
    /// When it was to run.
    #[schema(value_type = String, format = DateTime)]
    pub execute_at: Timestamp,
    /// What is sent.
    pub request: CallView,
    /// What is tried again, and when.
    pub retry: RetryView,
    /// Where its result is reported to.
    pub notify: Option<NotifyView>,
    /// How many attempts were made.
    #[schema(minimum = 0)]
    pub attempt_count: i16,
    /// When the next one is due, while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// When the last one began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub executed_at: Option<Timestamp>,
    /// How long that took.
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it has not succeeded (yet).
    pub error: Option<String>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A request with everything that was tried and answered.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestWithAttempts)]
pub struct RequestDetails {
    /// The request.
    #[serde(flatten)]
    pub request: RequestView,
    /// Its attempts, the first one first.
    pub attempts: Vec<Attempt>,
    /// The answer to the last attempt that was answered.
    pub response: Option<Answered>,
    /// The reports of its result: one each time that it ended.
    pub reports: Vec<ReportView>,
}

/// A report of a result, which is a message of its own.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestReportState)]
pub struct ReportView {
    /// The message's id; also its `webhook-id`. One that failed is a dead letter under this id.
    pub id: MessageId,
    /// What has become of it.
    pub status: Status,
    /// How many attempts were made.
    #[schema(minimum = 0)]
    pub attempt_count: i16,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it was not taken (yet).
    pub error: Option<String>,
}

impl CallView {
    /// Of what is stored.
    pub fn of(spec: Spec) -> Self {
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

/// Whether a header is a secret by its name.
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
    /// Of what is stored; `default` holds where nothing is said.
    pub fn of(
        again: &[Again],
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
    /// Of what is stored.
    pub fn of(notify: Notify, default: &[Duration]) -> Self {
        let again = notify.spec.again.as_deref().unwrap_or(Again::DEFAULT_OF_REPORT);
        let retry = RetryView::of(again, notify.delays.as_deref(), notify.until, default);
        Self { request: CallView::of(notify.spec), retry }
    }
}

/// What is stored of a request: its message, its row, and when it is due if it waits.
pub type Rows = (MessageRow, RequestRow, Option<Timestamp>);

impl RequestView {
    /// From its rows, as it is at `now`; `default` are the delays of one that says nothing of them.
    ///
    /// # Errors
    /// For what no version of this program stored.
    pub fn of_rows(
        (message, row, due_at): (&MessageRow, &RequestRow, Option<Timestamp>),
        default: &[Duration],
        now: Timestamp,
    ) -> Result<Self> {
        let spec: Spec = stored(&row.spec)?;
        let delays: Option<Vec<u64>> = row.retry.as_deref().map(stored).transpose()?;
        let notify: Option<Notify> = row.notify.as_deref().map(stored).transpose()?;
        let again = spec.again.as_deref().unwrap_or(Again::DEFAULT);
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
    /// From its rows, as it is at `now`.
    ///
    /// # Errors
    /// For what no version of this program stored.
    pub fn of_rows((message, _, due_at): &Rows, now: Timestamp) -> Result<Self> {
        Ok(Self {
            id: message.id,
            status: message.status_at(*due_at, now)?,
            attempt_count: message.attempts,
            finished_at: message.finished_at,
            error: message.error.clone(),
        })
    }
}
