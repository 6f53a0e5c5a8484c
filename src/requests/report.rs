//! The report of a request's result: what is sent to where its result is asked for, and the answer as it is shown.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::stored;
use super::repo::RequestRow;
use crate::channels::request::Response;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::kinds::{MessageStatus, coded_enum};
use crate::messages::repo::MessageRow;

coded_enum! {
    /// How a body is written.
    BodyEncoding {
        /// As it is: it is UTF-8.
        Utf8 = 1 "utf-8",
        /// In base64 (RFC 4648, 4): it is no text.
        Base64 = 2 "base64",
    }
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Answered {
    /// The HTTP status.
    #[schema(minimum = 100, maximum = 999, example = 200)]
    pub status: u16,
    /// By their names in small letters; what came several times stands there once, separated by commas.
    pub headers: BTreeMap<String, String>,
    /// Up to 64 KiB of it.
    pub body: String,
    /// How `body` is written.
    pub body_encoding: BodyEncoding,
    /// Whether the body went on, or broke off.
    pub truncated: bool,
    /// Says that the answer is a redirect (3xx), which was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub warning: Option<String>,
}

/// Says of a status that it is one that a caller may not expect of what was *sent*.
fn warning(status: u16) -> Option<String> {
    (300..400).contains(&status).then(|| {
        format!(
            "the server answered with a redirect ({status}), which is not followed; `3xx` in `retry.on` makes it a failure"
        )
    })
}

/// The same as it is stored, but for the body.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: BTreeMap<String, String>,
    truncated: bool,
}

/// An answer's status and headers as they are stored.
///
/// # Errors
/// When they cannot be written.
pub fn head(response: &Response) -> Result<String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &response.headers {
        let known = headers.entry(name.clone()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(value);
    }
    super::model::json(&Head { status: response.status, headers, truncated: response.is_cut })
}

impl Answered {
    /// From a request's row.
    ///
    /// # Errors
    /// For what no version of this program stored.
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

/// What is sent to where a result is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = RequestReport)]
pub struct Report {
    /// The request that has ended.
    pub id: MessageId,
    /// The recurring request that it is a run of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurring_id: Option<ResourceId>,
    /// `sent`: the server answered below 400, with a status that `retry.on` does not name. `failed` or `expired`: it did
    /// not.
    pub status: MessageStatus,
    /// How many attempts were made.
    #[schema(minimum = 0)]
    pub attempts: i16,
    /// The answer to the last attempt that was answered.
    pub response: Option<Answered>,
    /// Why it failed or expired.
    pub error: Option<String>,
    /// When it was to run.
    #[schema(value_type = String, format = DateTime)]
    pub scheduled_at: Timestamp,
    /// When its last attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub executed_at: Option<Timestamp>,
    /// How long that took.
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
}

impl Report {
    /// Of a request that has ended.
    ///
    /// # Errors
    /// For what no version of this program stored.
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
