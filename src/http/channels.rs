//! `/api/v1/channels`: the destination and limits of each channel, and the state of its provider.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::operations::{Operations, operations};
use crate::error::Result;
use crate::kinds::{ChannelKind, ProviderState};

/// The way in which a channel's messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Via)]
pub enum ChannelRoute {
    /// Not at all: the channel's settings are missing.
    Nothing,
    /// To the sandbox, for tests.
    Sandbox,
    /// Through a gateway.
    Gateway,
    /// Directly, by the channel's own protocol.
    Direct,
}

/// The state of a channel and of its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// The channel cannot be used: its settings are missing.
    Unconfigured,
    /// The channel can be used. This node does not send, so it does not know the state of the provider.
    Configured,
    /// The channel can be used, and its provider works.
    Healthy,
    /// The provider is throttling: nothing is sent until it accepts messages again.
    Limited,
    /// The circuit breaker is open because the provider keeps failing: one message at a time probes it.
    Open,
}

/// The default delays before each retry, in milliseconds, for messages without retry settings of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RetryDelays {
    /// For mailings.
    #[schema(example = json!([1000, 2000, 4000]))]
    pub mailings_ms: Vec<u64>,
    /// For notifications.
    #[schema(example = json!([5000, 30000, 120000]))]
    pub notifications_ms: Vec<u64>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelView {
    /// The channel.
    pub channel: ChannelKind,
    /// The state of the channel and of its provider, as this node knows it.
    pub state: ChannelState,
    /// Seconds until the next attempt, while the channel is limited or open.
    #[schema(minimum = 0)]
    pub rests_for_seconds: Option<f64>,
    /// The way in which its messages are sent.
    pub via: ChannelRoute,
    /// The settings that an unconfigured channel needs.
    pub missing: Option<String>,
    /// The rate limit in messages per second, over all nodes; null without a limit.
    pub rate_per_second: Option<f64>,
    /// The limit of concurrent requests on a node.
    pub concurrency: usize,
    /// The timeout of one request.
    pub timeout_ms: u64,
    /// The number of consecutive failures that open the circuit breaker; 0: it never opens.
    pub breaker_failures: u32,
    /// The default delays before retries.
    pub retry_delays: RetryDelays,
}

/// All channels.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChannelList {
    /// The channels, always in the same order.
    pub items: Vec<ChannelView>,
}

/// Returns the state of a channel's provider and the time until the next attempt; none on a node that does not send.
pub type ProviderStates = Box<dyn Fn(ChannelKind) -> Option<(ProviderState, Duration)> + Send + Sync>;

/// The configured channels, and the source of their providers' states.
pub struct Channels {
    /// The channels, each with the state that follows from the configuration.
    pub configured: Vec<ChannelView>,
    /// Called for each request.
    pub states: ProviderStates,
}

impl Channels {
    fn now(&self) -> ChannelList {
        let items = self.configured.iter().cloned().map(|mut view| {
            if view.state == ChannelState::Configured
                && let Some((state, rest)) = (self.states)(view.channel)
            {
                view.state = match state {
                    ProviderState::Healthy => ChannelState::Healthy,
                    ProviderState::Limited => ChannelState::Limited,
                    ProviderState::Open => ChannelState::Open,
                };
                view.rests_for_seconds = (state != ProviderState::Healthy).then_some(rest.as_secs_f64());
            }
            view
        });
        ChannelList { items: items.collect() }
    }
}

/// List the channels
///
/// Returns each channel with its limits and the state of its provider, as the node that serves the request knows it.
#[utoipa::path(get, path = "/api/v1/channels", operation_id = "list_channels", tag = "channels",
    responses((status = 200, description = "All channels", body = ChannelList)))]
pub async fn list_channels(channels: web::Data<Channels>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(channels.now()))
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_channels: MetricsRead,
    ]
}
