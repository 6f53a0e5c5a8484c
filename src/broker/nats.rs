//! Events from NATS JetStream: a subject, read by a durable pull consumer that all nodes share.
//!
//! What comes is acknowledged only after its commit. Between the two anything may die: then the broker delivers again, and
//! the intake knows the event by its key. What the intake refuses is delivered again later and later.

mod access;
mod consumer;
mod link;
mod pull;

use std::time::Duration;

pub use self::access::Access;
pub use self::consumer::JetStream;

/// What is read, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the broker is.
    pub access: Access,
    /// The stream, which is made when it is not there.
    pub stream: String,
    /// The subjects that are read, such as `fanfare.events.>`.
    pub subject: String,
    /// The durable consumer, the same at all nodes.
    pub consumer: String,
    /// Events taken in one commit at most.
    pub batch: usize,
    /// Deliveries of an event that is refused, until it is buried.
    pub tries: u64,
    /// From the first refusal to the second delivery; each further delay is twice as long, up to five minutes.
    pub first_delay: Duration,
    /// What is not acknowledged for so long is delivered again, to any node; of a consumer that is made here.
    pub ack_wait: Duration,
}

#[cfg(test)]
mod tests;
