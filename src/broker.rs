//! Events from a broker: from NATS JetStream, from Apache Kafka, or from both at once.
//!
//! A [`Reader`] polls a [`Broker`], hands what comes to an [`Intake`] and lets the broker go on only after its commit. Where
//! the broker counts deliveries (JetStream), an event that was committed and comes again is known by its key. Where it
//! counts offsets (Kafka), the intake stores the next offset in the transaction of the events, so that each is read once.

pub mod kafka;
pub mod nats;
mod reader;

use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;

pub use self::reader::Reader;
use crate::error::{Result, Source};
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;

/// The largest body of an event, in bytes. Brokers can be set to take more.
pub const LARGEST_EVENT: usize = 1024 * 1024;
/// The longest delay before an event that was refused is tried again.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// An event as it came from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The subject that it was published on, such as `fanfare.events.user.registered`; of a record of Kafka, its place
    /// `topic/partition/offset`.
    pub subject: String,
    /// The id that the publisher gave it in a header. Without one, the place in the stream or partition, which is the
    /// same at each delivery, and another one in a stream or topic that was made anew. Before one that is the subject, an id
    /// in the body goes.
    pub key: String,
    /// Its type, where a header names it.
    pub name: Option<String>,
    /// Its number in the stream or its offset in the partition: what a log may name.
    pub offset: i64,
    /// What was published.
    pub body: Bytes,
    /// Which delivery this is, counted from 1.
    pub tries: u64,
    /// Why it cannot be taken at any try.
    pub fault: Option<String>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is stored, or was before: its key is known.
    Stored,
    /// It could not be taken, for this reason, and may be at another try: its route may be there by then.
    Refused(String),
    /// It could not be taken; the intake keeps it and tries it again.
    Kept,
    /// It could not be taken, and is among the dead letters.
    Buried,
}

/// A step of a partition's position, made together with storing the records in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The partition.
    pub partition: Partition,
    /// Topics of this name that were read before.
    pub incarnation: i32,
    /// Where the position has to be.
    pub from: i64,
    /// Where it is afterwards: behind the last of the records.
    pub to: i64,
}

impl Step {
    /// Takes the part up to an offset off.
    fn split(&mut self, at: i64) -> Self {
        let first = Self { to: at, ..self.clone() };
        self.from = at;
        first
    }
}

/// A partition that a consumer group reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The consumer group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// Counted from 0.
    pub number: i32,
}

/// Where a partition is read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The topic's id: another one has another id, and its offsets begin anew.
    pub topic_id: [u8; 16],
    /// Topics of this name that were read before.
    pub incarnation: i32,
    /// The offset of the next record.
    pub next: i64,
}

/// Takes events for good.
pub trait Intake: Send + Sync {
    /// Answers after the commit, one for each event, in their order. An event whose key is known is *stored*, also when
    /// the key comes twice in one call.
    ///
    /// With a step, the position is moved in the same transaction, and what cannot be taken is kept by the intake. When the
    /// position is not where the step begins, another node has moved it: nothing is stored, and the answer is none.
    ///
    /// # Errors
    /// Nothing is known of any of them, and all are handed over again: [`Error::Unavailable`](crate::error::Error) when
    /// the database is away, anything else when one of them may be what could not be stored.
    fn take(&self, events: Vec<Incoming>, step: Option<Step>) -> BoxFuture<'_, Result<Option<Vec<Taken>>>>;

    /// Puts an event that was refused too often among the dead letters, by its key at most once; answers after the commit.
    /// Its body may be larger than [`LARGEST_EVENT`].
    ///
    /// # Errors
    /// It is not known whether it is there; it is handed over again.
    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>>;
}

/// Keeps the positions of partitions.
pub trait Positions: Send + Sync {
    /// The positions of a topic's partitions; those that have none yet get the given one.
    ///
    /// # Errors
    /// Those of the database.
    fn of_topic(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Vec<Position>>>;

    /// Stores the first positions of partitions, unless another node was first, and answers what is stored.
    ///
    /// # Errors
    /// Those of the database.
    fn begin(&self, positions: Vec<Position>) -> BoxFuture<'_, Result<()>>;

    /// Moves a position from what it was to what it is to be; answers whether it was still there.
    ///
    /// # Errors
    /// Those of the database.
    fn replace(&self, was: Position, is: Position) -> BoxFuture<'_, Result<bool>>;
}

/// Events that are stored in one transaction.
pub struct Batch<T> {
    /// The events, in their order.
    pub events: Vec<Incoming>,
    /// The step of their partition's position, where the broker counts offsets.
    pub step: Option<Step>,
    /// What the broker knows each event by.
    pub handles: Vec<T>,
}

/// What became of a batch.
pub enum Fate {
    /// This became of each event.
    Taken(Vec<Taken>),
    /// Another node has moved the position; nothing was stored.
    Moved,
    /// The service ends before it is known: another node may have a database.
    Unknown,
}

/// A broker: the seam of JetStream, Kafka and those to come. A [`Reader`] alone calls it, one call at a time.
pub trait Broker: Send {
    /// What an event is known by until it is released.
    type Handle: Send + Sync;

    /// Its name in logs and in the label `broker` of the metrics.
    const NAME: &'static str;

    /// The deliveries after which an event that is refused becomes a dead letter.
    fn tries(&self) -> u64;

    /// The longest pause between two calls of [`Broker::hold`].
    fn patience(&self) -> Duration;

    /// What there is, in batches; waits a while for the first. It connects where there is no connection.
    fn poll(
        &mut self,
        shutdown: &Shutdown,
    ) -> impl Future<Output = Result<Vec<Batch<Self::Handle>>, Source>> + Send;

    /// Tells the broker that what was polled is still being worked on.
    fn hold(&mut self, batches: &[Batch<Self::Handle>]) -> impl Future<Output = ()> + Send;

    /// Lets go of what was polled.
    fn release(&mut self, batch: Batch<Self::Handle>, fate: Fate) -> impl Future<Output = ()> + Send;

    /// Ends the connection.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Before an event that was refused at this try, counted from 1, is tried again.
pub fn delay(first: Duration, tries: u64) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    first.saturating_mul(2_u32.pow(doublings)).min(LONGEST_DELAY)
}

/// Counts events of a broker by what became of them.
fn count(metrics: &Metrics, broker: &str, outcome: &str, events: usize) {
    metrics.broker_events.with_label_values(&[broker, outcome]).inc_by(events as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_is_twice_the_one_before_and_none_is_endless() {
        let seconds = |tries| delay(Duration::from_secs(1), tries).as_secs();
        assert_eq!([1, 2, 3, 4, 5].map(seconds), [1, 2, 4, 8, 16]);
        assert_eq!([9, 10, 40, u64::MAX].map(seconds), [256, 300, 300, 300]);
    }
}
