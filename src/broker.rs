//! Events from a broker: a NATS JetStream subject, read by a durable pull consumer that all nodes share.
//!
//! What comes is handed to an [`Intake`] and acknowledged only after its commit. Between the two anything may die: then
//! the broker delivers again, and the intake knows the event by its key. What the intake refuses comes back later and
//! later, and is buried among the dead letters at its last try.

mod access;
mod consumer;
mod link;
mod pull;

use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;

pub use self::access::Access;
pub use self::consumer::Consumer;
use crate::error::Result;

/// The largest body of an event, in bytes. JetStream takes up to 64 MiB.
pub const LARGEST_EVENT: usize = 1024 * 1024;

/// An event as it came from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What it was published on, such as `fanfare.events.user.registered`.
    pub subject: String,
    /// The publisher's `Nats-Msg-Id`. Without one, the place in the stream with the time of its publication: the same at
    /// each delivery, and another one in a stream that was made anew.
    pub key: String,
    /// What was published.
    pub body: Bytes,
    /// Which delivery this is, counted from 1.
    pub tries: u64,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is stored, or was before: its key is known.
    Stored,
    /// It could not be taken, for this reason, and may be at another try: its route may be there by then.
    Refused(String),
}

/// Takes events for good.
pub trait Intake: Send + Sync {
    /// Answers after the commit, one for each event, in their order. An event whose key is known is *stored*, also when
    /// the key comes twice in one call.
    ///
    /// # Errors
    /// Nothing is known of any of them, and all are handed over again: [`Error::Unavailable`](crate::error::Error) when
    /// the database is away, anything else when one of them may be what could not be stored.
    fn take(&self, events: Vec<Incoming>) -> BoxFuture<'_, Result<Vec<Taken>>>;

    /// Puts an event that was refused too often among the dead letters, by its key at most once; answers after the commit.
    /// Its body may be larger than [`LARGEST_EVENT`].
    ///
    /// # Errors
    /// It is not known whether it is there; it is handed over again.
    fn bury(&self, event: Incoming, reason: String) -> BoxFuture<'_, Result<()>>;
}

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
