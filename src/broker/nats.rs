//! Events from NATS JetStream: a subject, read by a durable pull consumer that all nodes share.
//!
//! A message is acknowledged only after its commit. If anything dies in between, the server delivers it again and the intake
//! recognises its key. A refused message is delivered again with growing delays.

mod access;
mod consumer;
mod link;
mod pull;

use std::time::Duration;

pub use self::access::Access;
pub use self::consumer::JetStream;

/// Settings of the JetStream reader.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers and the account.
    pub access: Access,
    /// The stream; it is created if it does not exist.
    pub stream: String,
    /// The subjects to read, such as `fanfare.events.>`.
    pub subject: String,
    /// The durable consumer, the same at all nodes.
    pub consumer: String,
    /// The most events in one commit.
    pub batch: usize,
    /// The number of deliveries after which a refused event becomes a dead letter.
    pub tries: u64,
    /// The delay between the first refusal and the second delivery; it doubles each time, up to five minutes.
    pub first_delay: Duration,
    /// The time after which an unacknowledged message is delivered again, for a consumer that the service creates.
    pub ack_wait: Duration,
}

#[cfg(test)]
mod tests;
