//! Events from Apache Kafka and compatible brokers. The nodes of an installation share the topics as one consumer group.
//!
//! The position of a partition is a row in our own database, moved in the transaction that stores the partition's records
//! ([`Positions`](super::Positions)). So each record becomes an event once, whatever fails and whatever the group believes: a
//! node that lost a partition finds the row moved and stores none of its records. The group protocol only distributes the
//! partitions. Offsets are committed to the group afterwards, for the tools of operators.

mod access;
mod consumer;
mod membership;
mod records;
mod session;
mod topics;

use std::time::Duration;

pub use self::access::{Access, Login, Mechanism};
pub use self::consumer::Kafka;
pub use self::topics::Topics;

/// Settings of the Kafka reader.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The brokers and the account.
    pub access: Access,
    /// The topics to read.
    pub topics: Topics,
    /// The consumer group, the same at all nodes.
    pub group: String,
    /// The starting point of a topic that was not read before.
    pub start: Start,
    /// The most records in one poll.
    pub batch: usize,
    /// The number of tries after which a refused record becomes a dead letter.
    pub tries: u64,
    /// The time after which a silent node loses its partitions.
    pub session: Duration,
    /// The interval between looks for new and removed topics and partitions.
    pub look: Duration,
}

/// The starting point of a topic that was not read before. Partitions added later are read from their first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record in the partition.
    Earliest,
    /// The next record to be produced.
    Latest,
}

#[cfg(test)]
mod tests;
