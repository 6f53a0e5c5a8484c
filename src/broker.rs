//! Events from message brokers: NATS JetStream, Apache Kafka, or both at once.
//!
//! A [`Reader`] polls a [`Broker`], hands the events to an [`Intake`], and reports back to the broker only after the commit.
//! JetStream counts deliveries: a committed event that is delivered again is recognised by its key. Kafka counts offsets: the
//! intake stores the next offset in the same transaction as the events, so that each record is read once.

pub mod kafka;
pub mod nats;
mod reader;

use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use ring::digest::{SHA256, digest};

pub use self::reader::Reader;
use crate::error::{Result, Source};
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// The largest body of an event, in bytes. Brokers may be configured to accept more.
pub const LARGEST_EVENT: usize = 1024 * 1024;
/// The longest delay before a refused event is retried.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// An event as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The JetStream subject, such as `fanfare.events.user.registered`, or the place of a Kafka record,
    /// `topic/partition/offset`.
    pub subject: String,
    /// The event id from the publisher's header. Without a header, the place in the stream or partition: it is the same at
    /// each delivery and differs after a stream or topic is recreated. A key that equals the subject yields to an id in the
    /// body.
    pub key: String,
    /// The event type from a header, if there is one.
    pub name: Option<String>,
    /// The sequence in the stream, or the offset in the partition. Safe to log.
    pub offset: i64,
    /// The published bytes.
    pub body: Bytes,
    /// The number of this delivery, from 1.
    pub tries: u64,
    /// The reason why no retry can succeed.
    pub fault: Option<String>,
}

/// The result of handing one event to the intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventResult {
    /// The event is stored, or its key was known already.
    Stored,
    /// The event was refused for this reason. A later delivery may succeed, for example once its route exists.
    Refused(String),
    /// The event was refused; the intake keeps it and retries it.
    RetryScheduled,
    /// The event was refused for the last time and is a dead letter.
    DeadLettered,
}

/// A move of a partition's position, in the transaction that stores the records in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The partition.
    pub partition: Partition,
    /// The number of topics with this name that were read before this one.
    pub incarnation: i32,
    /// The position that must be stored for the move to succeed.
    pub from: i64,
    /// The position after the move: one past the last record.
    pub to: i64,
}

impl Step {
    /// Splits off the part before an offset.
    fn split(&mut self, at: i64) -> Self {
        let first = Self { to: at, ..self.clone() };
        self.from = at;
        first
    }
}

/// A partition read by a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The consumer group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition number, from 0.
    pub number: i32,
}

/// The stored position of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The topic's id. A recreated topic has another id, and its offsets restart.
    pub topic_id: [u8; 16],
    /// The number of topics with this name that were read before this one.
    pub incarnation: i32,
    /// The offset of the next record.
    pub next: i64,
}

/// Stores events durably.
pub trait Intake: Send + Sync {
    /// Returns one result for each event, in order, after the commit. An event with a known key counts as stored, also when
    /// the key appears twice in one call.
    ///
    /// With a step, the same transaction moves the position, and the intake keeps refused events. If the stored position
    /// is not where the step begins, nothing is stored and the result is `None`: another node has moved it.
    ///
    /// # Errors
    /// The outcome of every event is unknown, and the caller hands all of them over again:
    /// [`Error::Unavailable`](crate::error::Error) when the database is away, any other error when one of the events may
    /// be the cause.
    fn take(
        &self,
        events: Vec<Incoming>,
        step: Option<Step>,
    ) -> BoxFuture<'_, Result<Option<Vec<EventResult>>>>;

    /// Stores a refused event as a dead letter, at most once for each key; returns after the commit. The body may be larger
    /// than [`LARGEST_EVENT`].
    ///
    /// # Errors
    /// The outcome is unknown, and the caller hands the event over again.
    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>>;
}

/// Stores the positions of partitions.
pub trait Positions: Send + Sync {
    /// Returns the stored positions of a topic's partitions.
    ///
    /// # Errors
    /// Those of the database.
    fn of_topic(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Vec<Position>>>;

    /// Stores the first positions of partitions. A position that another node stored before stays.
    ///
    /// # Errors
    /// Those of the database.
    fn begin(&self, positions: Vec<Position>) -> BoxFuture<'_, Result<()>>;

    /// Replaces a position; returns `false` if the stored one is no longer `was`.
    ///
    /// # Errors
    /// Those of the database.
    fn replace(&self, was: Position, is: Position) -> BoxFuture<'_, Result<bool>>;
}

/// Events that are stored in one transaction.
pub struct Batch<T> {
    /// The events, in their order.
    pub events: Vec<Incoming>,
    /// The move of the partition's position, for brokers that count offsets.
    pub step: Option<Step>,
    /// The broker's own handle of each event.
    pub handles: Vec<T>,
}

/// The result of storing a batch.
pub enum BatchResult {
    /// The batch was processed; one result for each event.
    Completed(Vec<EventResult>),
    /// Nothing was stored: another node has moved the position.
    Fenced,
    /// The service stops before the outcome is known. Another node may reach the database.
    Unknown,
}

/// The seam that JetStream, Kafka and any further broker implement. Only a [`Reader`] calls it, one call at a time.
pub trait Broker: Send {
    /// Identifies an event until it is released.
    type Handle: Send + Sync;

    /// The name in logs and in the label `broker` of the metrics.
    const NAME: &'static str;

    /// Returns the number of deliveries after which a refused event becomes a dead letter.
    fn tries(&self) -> u64;

    /// Returns the longest pause between two calls of [`Broker::hold`].
    fn patience(&self) -> Duration;

    /// Returns the next batches, after waiting a while for the first event. Connects if there is no connection.
    fn poll(
        &mut self,
        shutdown: &Shutdown,
    ) -> impl Future<Output = Result<Vec<Batch<Self::Handle>>, Source>> + Send;

    /// Tells the broker that these batches are still being processed.
    fn hold(&mut self, batches: &[Batch<Self::Handle>]) -> impl Future<Output = ()> + Send;

    /// Reports the result of a batch to the broker.
    fn release(&mut self, batch: Batch<Self::Handle>, result: BatchResult)
    -> impl Future<Output = ()> + Send;

    /// Closes the connection.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Returns the delay after the given try, counted from 1: it doubles each time, up to five minutes.
pub fn delay(first: Duration, tries: u64) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    first.saturating_mul(2_u32.pow(doublings)).min(LONGEST_DELAY)
}

/// Returns the SHA-256 of a name that is too long or cannot be stored, as 64 hexadecimal digits.
pub fn digest_of(name: &str) -> String {
    digest(&SHA256, name.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts events of a broker by their outcome.
fn count(metrics: &Metrics, broker: &str, outcome: &str, events: usize) {
    metrics.broker_events.with_label_values(&[broker, outcome]).inc_by(events as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let seconds = |tries| delay(Duration::from_secs(1), tries).as_secs();
        assert_eq!([1, 2, 3, 4, 5].map(seconds), [1, 2, 4, 8, 16]);
        assert_eq!([9, 10, 40, u64::MAX].map(seconds), [256, 300, 300, 300]);
    }
}
