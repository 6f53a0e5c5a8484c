//! `/api/v1/metrics`: the current activity of this node, for people and dashboards without Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;

use super::operations::{Operations, operations};
use crate::db::types::Timestamp;
use crate::error::Result;
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::rolling::Window;
use crate::metrics::{ChannelMetrics, Metrics};

/// Reads the time at which the next message is due, across all nodes.
pub type NextDue = Box<dyn Fn() -> BoxFuture<'static, Result<Option<Timestamp>>> + Send + Sync>;

/// Statistics of this node; only `next_scheduled` covers all nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Figures {
    /// Seconds since the start of the process.
    #[schema(example = 3600)]
    pub uptime_seconds: u64,
    /// Running mailings.
    pub mailings_running: i64,
    /// Outcomes that are not recorded in the database yet.
    pub unrecorded: i64,
    /// The due time of the earliest waiting message; null when no message waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_scheduled: Option<Timestamp>,
    /// The statistics of each channel, by its name.
    pub channels: BTreeMap<&'static str, ChannelFigures>,
}

/// One channel on this node. Its counts start at zero with the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelFigures {
    /// Messages waiting in memory, by priority.
    pub lane_depth: LaneDepth,
    /// Attempts in flight.
    pub in_flight: i64,
    /// Messages that the provider accepted.
    pub sent: u64,
    /// Messages that failed permanently.
    pub failed: u64,
    /// Messages whose window closed first.
    pub expired: u64,
    /// Messages cancelled before they were sent.
    pub cancelled: u64,
    /// Failed attempts that are retried.
    pub retries: u64,
    /// Waits for the channel's rate limit.
    pub rate_limit: RateLimit,
    /// The last 60 seconds, including the current second.
    pub last_minute: WindowFigures,
    /// The last 60 minutes, including the current minute.
    pub last_hour: WindowFigures,
}

/// Messages waiting in memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaneDepth {
    /// At high priority.
    pub high: i64,
    /// At normal priority.
    pub normal: i64,
    /// At low priority.
    pub low: i64,
}

/// The number and length of the waits of ready messages for the channel's rate limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateLimit {
    /// Waits of a millisecond or more.
    pub waits: u64,
    /// The total length of these waits.
    pub seconds_waited: f64,
}

/// Results of attempts in a time window.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowFigures {
    /// Attempts that delivered.
    pub sent: u64,
    /// Attempts after which the message failed permanently.
    pub failed: u64,
    /// All attempts, including retried ones.
    pub attempts: u64,
    /// The share of attempts that delivered; null without attempts.
    #[schema(example = 0.97)]
    pub success_rate: Option<f64>,
    /// The time from request to response.
    pub latency_ms: LatencyFigures,
}

/// Milliseconds; null without attempts. Percentiles are at most an eighth above the true value.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct LatencyFigures {
    /// The median.
    pub p50: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The maximum.
    pub max: Option<f64>,
}

impl From<Window> for WindowFigures {
    fn from(window: Window) -> Self {
        let Window { attempts, delivered, failed, latency } = window;
        let millis = |time: Duration| Some(time.as_micros() as f64 / 1000.0);
        Self {
            sent: delivered,
            failed,
            attempts,
            success_rate: (attempts > 0).then(|| delivered as f64 / attempts as f64),
            latency_ms: latency.map_or_else(LatencyFigures::default, |latency| LatencyFigures {
                p50: millis(latency.p50),
                p95: millis(latency.p95),
                p99: millis(latency.p99),
                max: millis(latency.max),
            }),
        }
    }
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_figures: MetricsRead,
    ]
}

/// Get the node's statistics
///
/// Returns counts since the start, and the last minute and hour. Everything except `next_scheduled` covers only the
/// node that serves the request. Prometheus scrapes `/metrics` instead.
#[utoipa::path(get, path = "/api/v1/metrics", operation_id = "get_figures", tag = "operation",
    responses(
        (status = 200, description = "The statistics", body = Figures),
    ))]
pub async fn get_figures(metrics: web::Data<Metrics>, next_due: web::Data<NextDue>) -> Result<HttpResponse> {
    let next_scheduled = next_due().await?;
    let channels =
        ChannelKind::ALL.iter().map(|kind| (kind.as_str(), channel_stats(&metrics, *kind))).collect();
    Ok(HttpResponse::Ok().json(Figures {
        uptime_seconds: metrics.uptime().as_secs(),
        mailings_running: metrics.mailings_running.get(),
        unrecorded: metrics.unrecorded.get(),
        next_scheduled,
        channels,
    }))
}

fn channel_stats(metrics: &Metrics, kind: ChannelKind) -> ChannelFigures {
    let name = kind.as_str();
    let depth = |priority: Priority| metrics.lane_depth.with_label_values(&[name, priority.as_str()]).get();
    let of: ChannelMetrics = metrics.of_channel(kind);
    let (last_minute, last_hour) = of.windows();
    ChannelFigures {
        lane_depth: LaneDepth {
            high: depth(Priority::High),
            normal: depth(Priority::Normal),
            low: depth(Priority::Low),
        },
        in_flight: of.in_flight.get(),
        sent: metrics.sent.with_label_values(&[name]).get(),
        failed: metrics.failed.with_label_values(&[name]).get(),
        expired: metrics.expired.with_label_values(&[name]).get(),
        cancelled: metrics.cancelled.with_label_values(&[name]).get(),
        retries: metrics.retries.with_label_values(&[name]).get(),
        rate_limit: RateLimit {
            waits: metrics.rate_limit_waits.with_label_values(&[name]).get(),
            seconds_waited: metrics.rate_limit_seconds.with_label_values(&[name]).get(),
        },
        last_minute: last_minute.into(),
        last_hour: last_hour.into(),
    }
}
