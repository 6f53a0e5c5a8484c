//! The queues of all channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::circuit_breaker::CircuitBreaker;
use super::lanes::Lanes;
use super::model::QueuedMessage;
use super::pause_switch::PauseSwitch;
use crate::kinds::{ChannelKind, Priority};

/// The lanes of one channel, and the circuit breaker that holds their messages back.
#[derive(Clone)]
pub struct ChannelQueue {
    /// The lanes.
    pub lanes: Arc<Lanes>,
    /// The circuit breaker.
    pub breaker: Arc<CircuitBreaker>,
}

/// The queues of all channels, and the pause switch that holds back all of them.
pub struct Queues {
    by_channel: BTreeMap<ChannelKind, ChannelQueue>,
    pause_switch: Arc<PauseSwitch>,
    /// The longest time for which the lanes are not looked at.
    poll: Duration,
}

impl Queues {
    /// Creates the queues of these channels.
    pub fn new(
        by_channel: BTreeMap<ChannelKind, ChannelQueue>,
        pause_switch: Arc<PauseSwitch>,
        poll: Duration,
    ) -> Self {
        Self { by_channel, pause_switch, poll }
    }

    /// Returns the queue of a channel, if the channel runs here.
    pub fn of(&self, channel: ChannelKind) -> Option<&ChannelQueue> {
        self.by_channel.get(&channel)
    }

    /// Returns the lanes of a channel, if the channel runs here.
    pub fn lanes(&self, channel: ChannelKind) -> Option<&Arc<Lanes>> {
        self.of(channel).map(|queue| &queue.lanes)
    }

    /// Returns the lanes of each channel.
    pub fn all(&self) -> impl Iterator<Item = (ChannelKind, &Arc<Lanes>)> {
        self.by_channel.iter().map(|(channel, queue)| (*channel, &queue.lanes))
    }

    /// Returns the names of all lanes.
    pub fn all_lanes(&self) -> impl Iterator<Item = (ChannelKind, Priority)> {
        let channels = self.by_channel.keys();
        channels.flat_map(|channel| Priority::ALL.iter().map(|priority| (*channel, *priority)))
    }

    /// Returns the time for which this channel's messages must not be held in memory; zero if its lanes are to be
    /// filled.
    pub fn rest(&self, channel: ChannelKind) -> Duration {
        if self.pause_switch.is_shut() {
            return self.poll;
        }
        self.of(channel).map_or(Duration::ZERO, |queue| queue.breaker.rest())
    }

    /// Returns the time until the next poll, which is earlier if a circuit breaker closes before.
    pub fn until_poll(&self) -> Duration {
        let rests = self.by_channel.values().map(|queue| queue.breaker.rest());
        rests.filter(|rest| !rest.is_zero()).fold(self.poll, Duration::min)
    }

    /// Removes a message that was taken from its lane, after its outcome is on disk, or if it will have no outcome
    /// here.
    pub fn done(&self, item: &QueuedMessage) {
        if let Some(lanes) = self.lanes(item.origin.channel()) {
            lanes.done(item);
        }
    }
}
