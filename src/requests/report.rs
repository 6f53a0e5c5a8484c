//! The report of a request's result, and the API's view of a response.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::stored;
use super::repo::RequestRow;
use crate::channels::StoredResponse;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::kinds::{MessageStatus, coded_enum};
use crate::messages::repo::MessageRow;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Answered {
    /// The HTTP status.
    #[schema(minimum = 100, maximum = 999, example = 200)]
    pub status: u16,
    /// The headers by lower-case name. The values of a repeated header are joined with commas.
    pub headers: BTreeMap<String, String>,
    /// The first 64 KiB of the body.
    pub body: String,
    /// The encoding of `body`.
    pub body_encoding: BodyEncoding,
    /// True if the body was longer, or broke off.
    pub truncated: bool,
    /// A warning that the response is a redirect (3xx), which was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub warning: Option<String>,
}

/// Returns the warning for a status that a caller may not expect in a request with the status *sent*.
fn warning(status: u16) -> Option<String> {
    (300..400).contains(&status).then(|| {
        format!(
            "the server returned a redirect ({status}), which is not followed; `3xx` in `retry.on` makes it a failure"
        )
    })
}

/// The stored form of a response, without its body.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: BTreeMap<String, String>,
    truncated: bool,
}

/// Serializes a response's status and headers.
///
/// # Errors
/// If they cannot be serialized.
pub fn head(response: &StoredResponse) -> Result<String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &response.headers {
        let known = headers.entry(name.clone()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(value);
    }
    super::model::to_json(&Head { status: response.status, headers, truncated: response.is_cut })
}

impl Answered {
    /// Reads the response from a request's row.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn of_row(row: &mut RequestRow) -> Result<Option<Self>> {
        let Some(head) = &row.response else { return Ok(None) };
        let Head { status, headers, truncated } = stored(head)?;
        let (body, body_encoding) = match String::from_utf8(row.response_body.take().unwrap_or_default()) {
            Ok(text) => (text, BodyEncoding::Utf8),
            Err(bytes) => (STANDARD.encode(bytes.as_bytes()), BodyEncoding::Base64),
        };
        Ok(Some(Self { status, headers, body, body_encoding, truncated, warning: warning(status) }))
    }
}

/// The report of a request's result, sent to the URL in `notify`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestReport)]
pub struct Report {
    /// The id of the request that has ended.
    pub id: MessageId,
    /// The id of the recurring request, if this is one of its occurrences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurring_id: Option<ResourceId>,
    /// `sent` if the server returned a status below 400 that `retry.on` does not name, else `failed` or `expired`.
    pub status: MessageStatus,
    /// The number of attempts.
    #[schema(minimum = 0)]
    pub attempts: i16,
    /// The response to the last attempt that got one.
    pub response: Option<Answered>,
    /// The reason why it failed or expired.
    pub error: Option<String>,
    /// The scheduled time.
    #[schema(value_type = String, format = DateTime)]
    pub scheduled_at: Timestamp,
    /// The start of its last attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub executed_at: Option<Timestamp>,
    /// The duration of that attempt, in milliseconds.
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
}

impl Report {
    /// Builds the report of a request that has ended.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn of_rows(message: &MessageRow, row: &mut RequestRow) -> Result<Self> {
        Ok(Self {
            id: message.id,
            recurring_id: row.parent_id,
            status: MessageStatus::from_code(message.status)?,
            attempts: message.attempts,
            response: Answered::of_row(row)?,
            error: message.error.clone(),
            scheduled_at: row.scheduled_at,
            executed_at: row.executed_at,
            duration_ms: message.duration_ms,
        })
    }
}
