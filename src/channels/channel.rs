//! The port that each adapter implements.

use std::future::Future;
use std::pin::Pin;

use super::delivery::Delivery;
use super::report::AttemptReport;
use crate::kinds::ChannelKind;

/// The future of an answer. It is boxed, so that channels of different types fit in one list.
pub type AttemptFuture<'a> = Pin<Box<dyn Future<Output = AttemptReport> + Send + 'a>>;

/// An adapter to a provider. `send` makes one attempt and never retries: the engine owns the schedule and the timeout.
/// Dropping the future abandons the attempt.
pub trait Channel: Send + Sync {
    /// The kind of messages that this channel delivers.
    fn kind(&self) -> ChannelKind;
    /// Makes one attempt.
    fn send(&self, delivery: Delivery) -> AttemptFuture<'_>;
    /// Returns true if each recipient has its own server. A timeout of one attempt then does not affect the others.
    fn has_many_servers(&self) -> bool {
        false
    }
    /// Returns true if the peer is known to drop a second copy of a message by its id. Otherwise people see the repeats
    /// that a crash causes, so fewer attempts may precede their record: see [`MAX_UNRECORDED`].
    fn drops_repeats(&self) -> bool {
        true
    }
}

/// Attempts per channel, besides those of its workers, that may wait for their record, where the peer drops no repeats.
/// A commit takes a few milliseconds and includes all that wait; such a peer accepts about this many messages in that
/// time.
pub const MAX_UNRECORDED: usize = 64;
