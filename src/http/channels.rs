//! `/api/v1/channels`: where each channel goes, how much it may send, and how its provider is.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::routing::{get, others};
use crate::error::Result;
use crate::kinds::{ChannelKind, ProviderState};

/// How a channel's messages go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Nowhere: its settings are missing.
    Nothing,
    /// To the sandbox, to be tried out.
    Sandbox,
    /// Through a gateway.
    Gateway,
    /// By its own protocol.
    Direct,
}

/// Whether a channel can be used, and how its provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Nothing can be sent over it.
    Unconfigured,
    /// It can be used; how its provider is knows only a node that sends.
    Configured,
    /// It can be used, and nothing is wrong with its provider.
    Healthy,
    /// Its provider asked for patience: nothing is sent for a while.
    Limited,
    /// Its provider fails all the time: it is probed by one message at a time.
    Open,
}

/// When messages are tried again that say nothing of it: the milliseconds before each further attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RetryDelays {
    /// Of mailings.
    #[schema(example = json!([1000, 2000, 4000]))]
    pub mailings_ms: Vec<u64>,
    /// Of notifications.
    #[schema(example = json!([5000, 30000, 120000]))]
    pub notifications_ms: Vec<u64>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelView {
    /// Which channel.
    pub channel: ChannelKind,
    /// Whether it can be used, and how its provider is, as this node knows it.
    pub state: ChannelState,
    /// In how many seconds something is sent again, while it is limited or open.
    #[schema(minimum = 0)]
    pub rests_for_seconds: Option<f64>,
    /// How its messages go out.
    pub via: Via,
    /// What to set, when it is unconfigured.
    pub missing: Option<String>,
    /// Messages a second, of all nodes together; null for no limit.
    pub rate_per_second: Option<f64>,
    /// Requests in flight at once on a node.
    pub concurrency: usize,
    /// How long one request may take.
    pub timeout_ms: u64,
    /// Failures in a row after which its provider is left alone for a while; 0 for never.
    pub breaker_failures: u32,
    /// When messages are tried again.
    pub retry_delays: RetryDelays,
}

/// All channels.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChannelList {
    /// In the order in which they are always named.
    pub items: Vec<ChannelView>,
}

/// How the provider of a channel is, and how long it rests; none on a node that does not send.
pub type ProviderStates = Box<dyn Fn(ChannelKind) -> Option<(ProviderState, Duration)> + Send + Sync>;

/// The channels as they are configured, and what tells how they are.
pub struct Channels {
    /// With the state that the configuration tells.
    pub configured: Vec<ChannelView>,
    /// Asked for each request.
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

/// Where messages go
///
/// Each channel with its limits, and how its provider is, as the node that answers knows it.
#[utoipa::path(get, path = "/api/v1/channels", operation_id = "list_channels", tag = "channels",
    responses((status = 200, description = "All channels", body = ChannelList)))]
pub async fn list_channels(channels: web::Data<Channels>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(channels.now()))
}

/// The routes of this module, under `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/channels").route(get().to(list_channels)).default_service(others("GET, HEAD")),
    );
}
