//! Requests and their kinds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::RequestSpec;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{NotificationStatus, coded_enum};
use crate::messages::model::Attempt;

coded_enum! {
    /// The origin of a request.
    RequestKind {
        /// A caller posted it.
        Single = 1 "single",
        /// It is an occurrence of a recurring request.
        Run = 2 "run",
        /// It reports the result of another request.
        Report = 3 "report",
    }
}

/// The settings of the report of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// The HTTP request to send, without its body.
    pub spec: RequestSpec,
    /// The delay before each further attempt, in milliseconds; `None` for the service's delays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays: Option<Vec<u64>>,
    /// No attempt begins at this time or later.
    #[serde(default, with = "as_micros", skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Notify {
    /// Returns the request that sends this report.
    pub fn reporting(self, body: String) -> RequestDraft {
        let Self { spec, delays, until } = self;
        let spec = RequestSpec { body: Some(body), is_json: true, is_report: true, ..spec };
        RequestDraft { spec, delays, until, notify: None }
    }
}

/// Serializes a time within JSON as microseconds.
mod as_micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::db::types::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::micros).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(reader)?.map(Timestamp::from_micros))
    }
}

/// A validated request that has no id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDraft {
    /// The HTTP request to send.
    pub spec: RequestSpec,
    /// The delay before each further attempt, in milliseconds; `None` for the service's delays.
    pub delays: Option<Vec<u64>>,
    /// No attempt begins at this time or later.
    pub until: Option<Timestamp>,
    /// The settings of the report of its result.
    pub notify: Option<Notify>,
}

impl RequestDraft {
    /// Fills in the delays of the retries that have none of their own.
    #[must_use]
    pub fn with_default_delays(mut self, default: &[Duration]) -> Self {
        self.delays.get_or_insert_with(|| millis(default));
        if let Some(notify) = &mut self.notify {
            notify.delays.get_or_insert_with(|| millis(default));
        }
        self
    }
}

/// The recurrence of a request, not yet validated.
#[derive(Debug, Clone)]
pub struct Recurrence {
    /// A cron expression.
    pub cron: String,
    /// The name of a time zone.
    pub timezone: Option<String>,
    /// `once` or `skip`.
    pub catch_up: Option<String>,
}

/// A new request with its time.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// The request.
    pub asked: RequestDraft,
    /// The time to run at; `None` for now.
    pub execute_at: Option<Timestamp>,
    /// The recurrence, if it has one.
    pub recurrence: Option<Recurrence>,
}

/// An accepted request and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The id, which each attempt has as its `Idempotency-Key`.
    pub id: MessageId,
    /// The id of the recurring request, if this is one of its occurrences.
    pub recurring_id: Option<ResourceId>,
    /// The status.
    pub status: NotificationStatus,
    /// The scheduled time.
    pub execute_at: Timestamp,
    /// The HTTP request to send and its report, with the delays of their retries.
    pub draft: RequestDraft,
    /// The number of attempts.
    pub attempt_count: i16,
    /// The due time of the next attempt, while it waits.
    pub next_attempt_at: Option<Timestamp>,
    /// The start of the last attempt.
    pub executed_at: Option<Timestamp>,
    /// The duration of the last attempt, in milliseconds.
    pub duration_ms: Option<i32>,
    /// The time at which it ended.
    pub finished_at: Option<Timestamp>,
    /// The reason why it has not succeeded (yet).
    pub error: Option<String>,
    /// The time at which it was accepted.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
}

/// A request with its attempts, its response and its reports.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestDetails {
    /// The request.
    pub request: Request,
    /// The attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// The response to the last attempt that got one.
    pub response: Option<ReceivedResponse>,
    /// The reports of its result, one for each time that it ended.
    pub reports: Vec<ReportState>,
}

/// The report of a result, which is a message of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportState {
    /// The message's id.
    pub id: MessageId,
    /// The status.
    pub status: NotificationStatus,
    /// The number of attempts.
    pub attempt_count: i16,
    /// The time at which it ended.
    pub finished_at: Option<Timestamp>,
    /// The reason why it was not accepted (yet).
    pub error: Option<String>,
}

coded_enum! {
    /// The encoding of a body.
    BodyEncoding {
        /// Unchanged: the body is UTF-8.
        Utf8 = 1 "utf-8",
        /// Base64 (RFC 4648, 4): the body is not UTF-8.
        Base64 = 2 "base64",
    }
}

/// The response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers by lower-case name. The values of a repeated header are joined with commas.
    pub headers: BTreeMap<String, String>,
    /// The first part of the body.
    pub body: String,
    /// The encoding of `body`.
    pub body_encoding: BodyEncoding,
    /// True if the body was longer, or broke off.
    pub is_truncated: bool,
}

/// Serializes a value for a column.
///
/// # Errors
/// If it cannot be serialized.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}

/// Deserializes a value that was stored by [`to_json`].
///
/// # Errors
/// If no version of the service stored this text.
pub fn stored<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Internal(e.into()))
}

/// Converts delays to milliseconds.
pub fn millis(delays: &[Duration]) -> Vec<u64> {
    delays.iter().map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)).collect()
}
