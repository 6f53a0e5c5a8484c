//! Requests and their kinds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::repo::RequestRow;
use crate::channels::RequestSpec;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, MessageStatus, Priority, coded_enum};
use crate::messages::repo::MessageRow;

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

/// The kind of a request and its parent: the recurring request of an occurrence, or the request of a report.
pub type RequestOrigin = (RequestKind, Option<ResourceId>);

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
