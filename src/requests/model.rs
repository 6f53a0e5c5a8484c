//! Requests, and what they ask for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::repo::RequestRow;
use crate::channels::request::Spec;
use crate::db::types::{MessageId, ResourceId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, MessageStatus, Priority, coded_enum};
use crate::messages::repo::MessageRow;

coded_enum! {
    /// How a request came to be.
    RequestKind {
        /// Somebody asked for it.
        Single = 1 "single",
        /// It is a run of a recurring one.
        Run = 2 "run",
        /// It reports the result of another.
        Report = 3 "report",
    }
}

/// Where a result is reported to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// What is sent, but for its body.
    pub spec: Spec,
    /// The milliseconds before each further attempt; none: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays: Option<Vec<u64>>,
    /// No attempt begins at this time or after it.
    #[serde(default, with = "as_micros", skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Notify {
    /// The request that reports this.
    pub fn reporting(self, body: String) -> Asked {
        let Self { spec, delays, until } = self;
        let spec = Spec { body: Some(body), is_json: true, is_report: true, ..spec };
        Asked { spec, delays, until, notify: None }
    }
}

/// A time as it is stored within JSON.
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

/// What is asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is sent.
    pub spec: Spec,
    /// The milliseconds before each further attempt; none: the service's.
    pub delays: Option<Vec<u64>>,
    /// No attempt begins at this time or after it.
    pub until: Option<Timestamp>,
    /// Where its result goes.
    pub notify: Option<Notify>,
}

/// What a request is of: its kind and, of one that is not single, what it belongs to.
pub type Of = (RequestKind, Option<ResourceId>);

impl Asked {
    /// The rows of a request that is to run at this time.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn into_rows(
        self,
        id: MessageId,
        (kind, parent): Of,
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
            spec: json(&self.spec)?,
            retry: self.delays.as_ref().map(json).transpose()?,
            notify: self.notify.as_ref().map(json).transpose()?,
            executed_at: None,
            response: None,
            response_body: None,
        };
        Ok((message, row))
    }
}

/// As it is stored.
///
/// # Errors
/// When it cannot be written.
pub fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}

/// What was stored as JSON.
///
/// # Errors
/// For what no version of this program stored.
pub fn stored<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Internal(e.into()))
}

/// Delays in milliseconds.
pub fn millis(delays: &[Duration]) -> Vec<u64> {
    delays.iter().map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)).collect()
}
