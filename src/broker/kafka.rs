//! Events from Apache Kafka and what speaks its protocol: topics that the nodes of an installation share as a consumer group.
//!
//! Where a partition is read on is a row of our own database, moved in the transaction that stores the partition's records
//! ([`Positions`](super::Positions)). So a record becomes an event once, whatever dies and whatever the group believes: a
//! node that lost a partition finds the row moved and stores nothing more of it. The group's protocol shares the partitions;
//! its offsets are committed afterwards, for the tools of operators.

mod access;
mod consumer;
mod membership;
mod records;
mod topics;

use std::time::Duration;

pub use self::access::{Access, Login, Mechanism};
pub use self::consumer::Kafka;
pub use self::topics::Topics;

/// What is read, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the brokers are.
    pub access: Access,
    /// The topics.
    pub topics: Topics,
    /// The consumer group, the same at all nodes.
    pub group: String,
    /// Where a topic begins that was not read before.
    pub start: Start,
    /// Records of one poll at most.
    pub batch: usize,
    /// Tries of a record that is refused, until it is a dead letter.
    pub tries: u64,
    /// A node that is not heard of for so long loses its partitions.
    pub session: Duration,
    /// Between looks for topics and partitions that came or went.
    pub look: Duration,
}

/// Where a topic begins that was not read before. Partitions that are added to it later begin at their first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the broker has.
    Earliest,
    /// At the next record that is produced.
    Latest,
}

#[cfg(test)]
mod tests;
