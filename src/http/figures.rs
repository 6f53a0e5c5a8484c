//! `/api/v1/metrics`: what this node does right now, for people and dashboards without Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;

use super::routing::{get, others};
use crate::db::types::Timestamp;
use crate::error::Result;
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::rolling::Window;
use crate::metrics::{ChannelMetrics, Metrics};

/// Reads when the next message is due, of all nodes.
pub type NextDue = Box<dyn Fn() -> BoxFuture<'static, Result<Option<Timestamp>>> + Send + Sync>;

/// What this node does; only `next_scheduled` is of all nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Figures {
    /// Since the start of the process.
    #[schema(example = 3600)]
    pub uptime_seconds: u64,
    /// Mailings that are being sent.
    pub mailings_running: i64,
    /// Outcomes that are not on disk yet.
    pub unrecorded: i64,
    /// When the earliest message that waits is due; null when none waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_scheduled: Option<Timestamp>,
    /// Each channel by its name.
    pub channels: BTreeMap<&'static str, ChannelFigures>,
}

/// One channel on this node. Its counts begin at zero with the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelFigures {
    /// Messages that wait in memory, by priority.
    pub lane_depth: LaneDepth,
    /// Requests without an answer yet.
    pub in_flight: i64,
    /// Messages that the provider took.
    pub sent: u64,
    /// Messages given up for good.
    pub failed: u64,
    /// Messages whose window closed first.
    pub expired: u64,
    /// Messages cancelled before they were sent.
    pub cancelled: u64,
    /// Attempts that failed and are made again.
    pub retries: u64,
    /// What waited for the channel's rate.
    pub rate_limit: RateLimit,
    /// The last 60 seconds, the present one among them.
    pub last_minute: WindowFigures,
    /// The last 60 minutes, the present one among them.
    pub last_hour: WindowFigures,
}

/// Messages that wait in memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaneDepth {
    /// At high priority.
    pub high: i64,
    /// At normal priority.
    pub normal: i64,
    /// At low priority.
    pub low: i64,
}

/// How often and how long a message that was ready waited for the channel's rate.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateLimit {
    /// Waits of a millisecond or more.
    pub waits: u64,
    /// All of them together.
    pub seconds_waited: f64,
}

/// What attempts came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowFigures {
    /// Those that delivered.
    pub sent: u64,
    /// Those after which a message was given up.
    pub failed: u64,
    /// All of them, those that are made again too.
    pub attempts: u64,
    /// Those that delivered, of all; null when there were none.
    #[schema(example = 0.97)]
    pub success_rate: Option<f64>,
    /// From request to answer.
    pub latency_ms: LatencyFigures,
}

/// Milliseconds; null when there were no attempts. Percentiles are at most an eighth above the truth.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct LatencyFigures {
    /// Half of the attempts took no longer.
    pub p50: Option<f64>,
    /// 95 of 100 took no longer.
    pub p95: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
    /// The longest.
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

/// Adds the route under the API's root.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/metrics").route(get().to(get_figures)).default_service(others("GET, HEAD")));
}

/// Read what this node does right now
///
/// Counts since its start, and the last minute and hour. All of it is of the node that answers, but for
/// `next_scheduled`. Prometheus scrapes `/metrics`.
#[utoipa::path(get, path = "/api/v1/metrics", operation_id = "get_figures", tag = "operation",
    responses(
        (status = 200, description = "The figures", body = Figures),
    ))]
pub async fn get_figures(metrics: web::Data<Metrics>, next_due: web::Data<NextDue>) -> Result<HttpResponse> {
    let next_scheduled = next_due().await?;
    let channels = ChannelKind::ALL.iter().map(|kind| (kind.as_str(), of_channel(&metrics, *kind))).collect();
    Ok(HttpResponse::Ok().json(Figures {
        uptime_seconds: metrics.uptime().as_secs(),
        mailings_running: metrics.mailings_running.get(),
        unrecorded: metrics.unrecorded.get(),
        next_scheduled,
        channels,
    }))
}

fn of_channel(metrics: &Metrics, kind: ChannelKind) -> ChannelFigures {
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
