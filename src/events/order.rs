//! The events of one request or of one read from a broker, and the results of storing them.

use std::sync::Arc;

use super::model::AcceptedEvent;
use super::refused::{RefusedRecord, SourceRecord};
use super::repo::row::NewEventRows;
use crate::broker::Step;
use crate::error::Result;
use crate::idempotency::{Claim, ClaimResult, IdempotentResponse};

/// Makes the response to a request from the results of its events.
pub type BuildEventResponse = Arc<dyn Fn(&[EventStoreResult]) -> Result<IdempotentResponse> + Send + Sync>;

/// The events of one request, or of one read from a broker.
pub struct EventOrder {
    /// The events.
    pub events: Vec<NewEventRows>,
    /// The claim of the request's idempotency key, with the response if all events are new.
    pub claim: Option<Claim>,
    /// Makes the response that is stored under the key if some events are not new. If it returns an error of the input,
    /// no response is stored.
    pub answer: BuildEventResponse,
    /// The records of the events, if they come from a partition of a broker.
    pub source: Option<SourceRecords>,
}

/// The records of one partition.
pub struct SourceRecords {
    /// The move of the partition's position. If it fails, nothing of the order is stored.
    pub step: Step,
    /// The record of each event, in the order of the events.
    pub records: Vec<SourceRecord>,
    /// Records that are not events.
    pub refused: Vec<RefusedRecord>,
}

/// The result of storing an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventStoreResult {
    /// It was stored with its messages.
    New,
    /// It was stored before, with the same sender's id.
    Known(AcceptedEvent),
    /// Another event has its sender's id.
    Foreign,
}

/// The result of storing the events of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeResult {
    /// The result of each event.
    Each(Vec<EventStoreResult>),
    /// Nothing was stored, because another request has the idempotency key.
    Refused(ClaimResult),
    /// Nothing was stored: another node has moved the position of their partition.
    Fenced,
}
