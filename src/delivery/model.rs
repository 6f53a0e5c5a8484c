//! A message in memory, and its outcome.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::leases::HeldLease;
use super::origin::Origin;
use super::reasons::CLIENT_DELETED;
use crate::channels::StoredResponse;
use crate::db::types::{ClientId, MessageId, Timestamp};
use crate::kinds::{ErrorClass, OutcomeKind};
use crate::mailings::recipient::Recipient;
use crate::preferences::model::RecipientPreferences;

/// A message in a lane.
#[derive(Debug)]
pub struct QueuedMessage {
    /// The message's id.
    pub id: MessageId,
    /// The lease of the message.
    pub lease: Arc<HeldLease>,
    /// The mailing, or the standalone content.
    pub origin: Origin,
    /// The client's id.
    pub client: Option<ClientId>,
    /// The client as it was read; `None` if it was deleted meanwhile.
    pub recipient: Option<Recipient>,
    /// The recipient's preferences, if there are any.
    pub preferences: Option<Arc<RecipientPreferences>>,
    /// The stored address of a message that has a row.
    pub address: Option<String>,
    /// The number of previous attempts.
    pub attempts: i16,
    /// The number of attempts before the last replay, after which the retry schedule started again.
    pub attempts_before: i16,
    /// The number of recorded outcomes: 0 for a message that has no row yet.
    pub revision: i16,
    /// The time at which it was due.
    pub due_at: Timestamp,
}

/// The outcome of a message, to be recorded.
#[derive(Debug)]
pub struct Outcome {
    /// The message.
    pub item: QueuedMessage,
    /// The kind of outcome.
    pub kind: OutcomeKind,
    /// The number of attempts, including this one.
    pub attempts: i16,
    /// The time of the outcome.
    pub at: Timestamp,
    /// The time of the next attempt, for [`OutcomeKind::Retry`].
    pub due_at: Option<Timestamp>,
    /// The attempt, if there was one.
    pub tried: Option<AttemptDetails>,
    /// The reason why it was not delivered.
    pub error: Option<String>,
    /// The class of the error, for [`OutcomeKind::Failed`].
    pub class: Option<ErrorClass>,
    /// A permit for an attempt that is in flight or not recorded yet, where their number is bounded; released when the
    /// outcome is recorded.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Outcome {
    /// Returns true if the message waits again without an attempt.
    pub fn is_deferral(&self) -> bool {
        self.kind == OutcomeKind::Retry && self.tried.is_none()
    }
}

/// The stored details of an attempt.
#[derive(Debug, Clone, Default)]
pub struct AttemptDetails {
    /// The provider's HTTP status.
    pub status_code: Option<i32>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// The time from request to response, in milliseconds.
    pub duration_ms: i32,
    /// The time at which the attempt began.
    pub began: Option<Timestamp>,
    /// The whole response, where it is stored.
    pub response: Option<Arc<StoredResponse>>,
}

impl QueuedMessage {
    /// Returns its address: the stored address, else the client's present one.
    ///
    /// # Errors
    /// The reason why there is no address.
    pub fn address(&self) -> Result<String, String> {
        match (&self.address, &self.recipient) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(recipient)) => recipient.address(self.origin.channel()),
            (None, None) => Err(CLIENT_DELETED.to_owned()),
        }
    }

    /// Returns true if its address was erased with its client while it waited.
    pub fn is_erased(&self) -> bool {
        self.address.as_deref() == Some("")
    }

    /// Defers it until `due_at` without an attempt.
    pub fn defer(self, at: Timestamp, due_at: Timestamp, why: impl Into<String>) -> Outcome {
        Outcome { due_at: Some(due_at), ..self.close(OutcomeKind::Retry, at, why) }
    }

    /// Ends it without an attempt.
    pub fn close(self, kind: OutcomeKind, at: Timestamp, error: impl Into<String>) -> Outcome {
        Outcome {
            attempts: self.attempts,
            item: self,
            kind,
            at,
            due_at: None,
            tried: None,
            error: Some(error.into()),
            class: None,
            place: None,
        }
    }

    /// Cancels it. The error of an earlier attempt stays with that attempt.
    pub fn cancel(self, at: Timestamp) -> Outcome {
        Outcome { error: None, ..self.close(OutcomeKind::Cancelled, at, String::new()) }
    }

    /// Fails it without an attempt.
    pub fn fail(self, class: ErrorClass, at: Timestamp, error: String) -> Outcome {
        Outcome { class: Some(class), ..self.close(OutcomeKind::Failed, at, error) }
    }
}
