//! The body of a report: a request's result as it is sent to the URL in `notify`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{BodyEncoding, ReceivedResponse};
use super::repo::row::RequestRow;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::kinds::MessageStatus;
use crate::messages::repo::MessageRow;

/// The response to a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answered)]
pub struct ResponseView<'m> {
    /// The HTTP status.
    #[schema(minimum = 100, maximum = 999, example = 200)]
    status: u16,
    /// The headers by lower-case name. The values of a repeated header are joined with commas.
    headers: &'m BTreeMap<String, String>,
    /// The first 64 KiB of the body.
    body: &'m str,
    /// The encoding of `body`.
    body_encoding: BodyEncoding,
    /// True if the body was longer, or broke off.
    truncated: bool,
    /// A warning that the response is a redirect (3xx), which was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warning: Option<String>,
}

impl<'m> From<&'m ReceivedResponse> for ResponseView<'m> {
    fn from(response: &'m ReceivedResponse) -> Self {
        Self {
            status: response.status,
            headers: &response.headers,
            body: &response.body,
            body_encoding: response.body_encoding,
            truncated: response.is_truncated,
            warning: warning(response.status),
        }
    }
}

/// Returns the warning for a status that a caller may not expect in a request with the status *sent*.
fn warning(status: u16) -> Option<String> {
    (300..400).contains(&status).then(|| {
        format!(
            "the server returned a redirect ({status}), which is not followed; `3xx` in `retry.on` makes it a failure"
        )
    })
}

/// The report of a request's result, sent to the URL in `notify`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestReport)]
pub struct Report<'m> {
    /// The id of the request that has ended.
    id: MessageId,
    /// The id of the recurring request, if this is one of its occurrences.
    #[serde(skip_serializing_if = "Option::is_none")]
    recurring_id: Option<ResourceId>,
    /// `sent` if the server returned a status below 400 that `retry.on` does not name, else `failed` or `expired`.
    status: MessageStatus,
    /// The number of attempts.
    #[schema(minimum = 0)]
    attempts: i16,
    /// The response to the last attempt that got one.
    response: Option<ResponseView<'m>>,
    /// The reason why it failed or expired.
    error: Option<&'m str>,
    /// The scheduled time.
    #[schema(value_type = String, format = DateTime)]
    scheduled_at: Timestamp,
    /// The start of its last attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    executed_at: Option<Timestamp>,
    /// The duration of that attempt, in milliseconds.
    #[schema(minimum = 0)]
    duration_ms: Option<i32>,
}

impl<'m> Report<'m> {
    /// Builds the report of a request that has ended.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn new(
        message: &'m MessageRow,
        row: &RequestRow,
        response: Option<&'m ReceivedResponse>,
    ) -> Result<Self> {
        Ok(Self {
            id: message.id,
            recurring_id: row.parent_id,
            status: MessageStatus::from_code(message.status)?,
            attempts: message.attempts,
            response: response.map(ResponseView::from),
            error: message.error.as_deref(),
            scheduled_at: row.scheduled_at,
            executed_at: row.executed_at,
            duration_ms: message.duration_ms,
        })
    }
}
