//! The rows of requests, and their conversion from and to the model.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::channels::StoredResponse;
use crate::db::schema::request;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::Result;
use crate::idempotency::Claim;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::messages::repo::MessageRow;
use crate::requests::model::{
    BodyEncoding, ReceivedResponse, ReportState, Request, RequestDraft, RequestKind, stored, to_json,
};

/// A row of `request`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = request, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct RequestRow {
    pub message_id: MessageId,
    pub kind: i16,
    pub parent_id: Option<ResourceId>,
    pub scheduled_at: Timestamp,
    pub updated_at: Timestamp,
    pub spec: String,
    pub retry: Option<String>,
    pub notify: Option<String>,
    pub executed_at: Option<Timestamp>,
    pub response: Option<String>,
    pub response_body: Option<Vec<u8>>,
}

/// A row of `request` without the response, which may be large.
#[derive(Queryable, Selectable)]
#[diesel(table_name = request)]
pub(super) struct ListedRow {
    message_id: MessageId,
    kind: i16,
    parent_id: Option<ResourceId>,
    scheduled_at: Timestamp,
    updated_at: Timestamp,
    spec: String,
    retry: Option<String>,
    notify: Option<String>,
    executed_at: Option<Timestamp>,
}

impl From<ListedRow> for RequestRow {
    fn from(listed: ListedRow) -> Self {
        Self {
            message_id: listed.message_id,
            kind: listed.kind,
            parent_id: listed.parent_id,
            scheduled_at: listed.scheduled_at,
            updated_at: listed.updated_at,
            spec: listed.spec,
            retry: listed.retry,
            notify: listed.notify,
            executed_at: listed.executed_at,
            response: None,
            response_body: None,
        }
    }
}

/// The stored parts of a request: its message, its row, and its due time while it waits.
pub type RequestRows = (MessageRow, RequestRow, Option<Timestamp>);

/// The kind of a request and its parent: the recurring request of an occurrence, or the request of a report.
pub type RequestOrigin = (RequestKind, Option<ResourceId>);

/// A request counts once more for each of these bytes, since a body may be large.
const BYTES_OF_ONE: usize = 4096;

/// A request to store.
#[derive(Debug, Clone)]
pub struct RequestToStore {
    /// The rows of its message and of the request.
    pub rows: (MessageRow, RequestRow),
    /// The claim of its idempotency key, if it has one.
    pub claim: Option<Claim>,
}

impl RequestToStore {
    /// Returns the number of small requests that it counts as.
    pub fn size(&self) -> usize {
        1 + self.rows.1.spec.len() / BYTES_OF_ONE
    }
}

impl RequestDraft {
    /// Converts it to the rows of a request that is scheduled at this time.
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub fn into_rows(
        self,
        id: MessageId,
        (kind, parent): RequestOrigin,
        scheduled_at: Timestamp,
        now: Timestamp,
    ) -> Result<(MessageRow, RequestRow)> {
        let message = MessageRow {
            id,
            client_id: None,
            due_at: Some(scheduled_at.max(now)),
            expires_at: self.until,
            finished_at: None,
            mailing_number: None,
            duration_ms: None,
            status_code: None,
            channel: ChannelKind::Request.code(),
            priority: Priority::Normal.code(),
            status: MessageStatus::Queued.code(),
            attempts: 0,
            revision: 1,
            recipient: self.spec.url.clone(),
            provider_id: None,
            error: None,
        };
        let row = RequestRow {
            message_id: id,
            kind: kind.code(),
            parent_id: parent,
            scheduled_at,
            updated_at: now,
            spec: to_json(&self.spec)?,
            retry: self.delays.as_ref().map(to_json).transpose()?,
            notify: self.notify.as_ref().map(to_json).transpose()?,
            executed_at: None,
            response: None,
            response_body: None,
        };
        Ok((message, row))
    }
}

/// The stored form of a response, without its body.
#[derive(Serialize, Deserialize)]
struct ResponseHead {
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
    to_json(&ResponseHead { status: response.status, headers, truncated: response.is_cut })
}

impl ReceivedResponse {
    /// Reads the response from a request's row, and takes the body out of it.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn from_row(row: &mut RequestRow) -> Result<Option<Self>> {
        let Some(head) = &row.response else { return Ok(None) };
        let ResponseHead { status, headers, truncated } = stored(head)?;
        let (body, body_encoding) = match String::from_utf8(row.response_body.take().unwrap_or_default()) {
            Ok(text) => (text, BodyEncoding::Utf8),
            Err(bytes) => (STANDARD.encode(bytes.as_bytes()), BodyEncoding::Base64),
        };
        Ok(Some(Self { status, headers, body, body_encoding, is_truncated: truncated }))
    }
}

impl Request {
    /// Builds the request at `now` from its rows; `default` are the delays of a request without its own.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn from_rows(
        (message, row, due_at): (&MessageRow, &RequestRow, Option<Timestamp>),
        default: &[Duration],
        now: Timestamp,
    ) -> Result<Self> {
        let draft = RequestDraft {
            spec: stored(&row.spec)?,
            delays: row.retry.as_deref().map(stored).transpose()?,
            until: message.expires_at,
            notify: row.notify.as_deref().map(stored).transpose()?,
        };
        Ok(Self {
            id: message.id,
            recurring_id: row.parent_id.filter(|_| row.kind == RequestKind::Run.code()),
            status: message.status_at(due_at, now)?,
            execute_at: row.scheduled_at,
            draft: draft.with_default_delays(default),
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

impl ReportState {
    /// Builds the state of a report at `now` from its rows.
    ///
    /// # Errors
    /// If no version of the service stored these values.
    pub fn from_rows((message, _, due_at): &RequestRows, now: Timestamp) -> Result<Self> {
        Ok(Self {
            id: message.id,
            status: message.status_at(*due_at, now)?,
            attempt_count: message.attempts,
            finished_at: message.finished_at,
            error: message.error.clone(),
        })
    }
}
