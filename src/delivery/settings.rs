//! The settings of the engine and of its channels.

use std::sync::Arc;
use std::time::Duration;

use super::retry::Retries;
use crate::channels::Channel;
use crate::kinds::ChannelKind;
use crate::preferences::link::UnsubscribeLinks;

/// The engine's sizes and times.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The number of recipients planned in one transaction.
    pub page_size: usize,
    /// The number of messages held for one channel and priority.
    pub lane_capacity: usize,
    /// The number of outcomes in one group commit.
    pub record_batch: usize,
    /// The poll interval of the feeder and the recaller.
    pub poll: Duration,
    /// The poll interval of the claimer.
    pub claim_poll: Duration,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
    /// The length of the node lease: without a heartbeat for this long, a node loses its leases.
    pub lease: Duration,
    /// The time that attempts in flight get to end at a shutdown.
    pub shutdown: Duration,
    /// The time zone for the quiet hours of clients without a time zone.
    pub quiet_zone: chrono_tz::Tz,
    /// Builds the links to unsubscribe, if recipients can reach the service.
    pub links: Option<Arc<UnsubscribeLinks>>,
}

/// A channel with its limits.
pub struct ChannelSetup {
    /// The adapter.
    pub channel: Arc<dyn Channel>,
    /// The timeout of one attempt.
    pub timeout: Duration,
    /// The maximum number of attempts in flight.
    pub concurrency: usize,
    /// The rate limit in messages per second.
    pub rate: Option<f64>,
    /// The number of consecutive failures that opens its circuit breaker; 0 disables it.
    pub breaker_failures: u32,
    /// The retry schedules.
    pub retries: Retries,
}

/// The settings of a channel's lanes.
#[derive(Debug, Clone, Copy)]
pub struct LaneSetup {
    /// The channel.
    pub channel: ChannelKind,
    /// The rate limit in messages per second.
    pub rate: Option<f64>,
    /// The number of consecutive failures that opens its circuit breaker; 0 disables it.
    pub breaker_failures: u32,
}

impl ChannelSetup {
    /// Returns the settings of its lanes.
    pub fn lanes(&self) -> LaneSetup {
        let (rate, breaker_failures) = (self.rate, self.breaker_failures);
        LaneSetup { channel: self.channel.kind(), rate, breaker_failures }
    }
}
