//! All metrics, each defined once. Labels are bounded: channels, priorities, outcomes, and routes as patterns.

pub mod rolling;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::rolling::{Rolling, Window};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, ErrorClass, EventSource, OutcomeKind, Priority};

/// The metrics of the process; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// The metrics by name.
pub struct Inner {
    registry: Registry,
    since: Instant,
    rolling: BTreeMap<ChannelKind, Arc<Mutex<Rolling>>>,
    /// `fanfare_active_tasks`
    pub active_tasks: IntGauge,
    /// `fanfare_messages_total`
    pub messages: IntCounterVec,
    /// `fanfare_events_total`
    pub events: IntCounterVec,
    /// `fanfare_messages_sent_total`
    pub sent: IntCounterVec,
    /// `fanfare_messages_failed_total`
    pub failed: IntCounterVec,
    /// `fanfare_messages_expired_total`
    pub expired: IntCounterVec,
    /// `fanfare_messages_cancelled_total`
    pub cancelled: IntCounterVec,
    /// `fanfare_messages_opted_out_total`
    pub opted_out: IntCounterVec,
    /// `fanfare_messages_deferred_total`
    pub deferred: IntCounterVec,
    /// `fanfare_dead_letters_total`
    pub dead_letters: IntCounterVec,
    /// `fanfare_dead_letter_replays_total`
    pub dead_letter_replays: IntCounterVec,
    /// `fanfare_dead_letters_closed_total`
    pub dead_letters_closed: IntCounterVec,
    /// `fanfare_dead_letters_open`
    pub dead_letters_open: IntGauge,
    /// `fanfare_retries_total`
    pub retries: IntCounterVec,
    /// `fanfare_attempt_duration_seconds`
    pub attempt_duration: HistogramVec,
    /// `fanfare_schedule_lateness_seconds`
    pub lateness: HistogramVec,
    /// `fanfare_lane_depth`
    pub lane_depth: IntGaugeVec,
    /// `fanfare_backlog`
    pub backlog: IntGaugeVec,
    /// `fanfare_in_flight`
    pub in_flight: IntGaugeVec,
    /// `fanfare_circuit_state`
    pub circuit: IntGaugeVec,
    /// `fanfare_throttled_total`
    pub throttled: IntCounterVec,
    /// `fanfare_local_faults_total`
    pub local_faults: IntCounterVec,
    /// `fanfare_rate_limit_waits_total`
    pub rate_limit_waits: IntCounterVec,
    /// `fanfare_rate_limit_wait_seconds_total`
    pub rate_limit_seconds: CounterVec,
    /// `fanfare_unrecorded_outcomes`
    pub unrecorded: IntGauge,
    /// `fanfare_sending_paused`
    pub sending_paused: IntGauge,
    /// `fanfare_mailings_running`
    pub mailings_running: IntGauge,
    /// `fanfare_recorder_errors_total`
    pub recorder_errors: IntCounter,
    /// `fanfare_broker_connected`
    pub broker_connected: IntGaugeVec,
    /// `fanfare_broker_events_total`
    pub broker_events: IntCounterVec,
    /// `fanfare_broker_redelivered_total`
    pub broker_redelivered: IntCounterVec,
    /// `fanfare_broker_pending`
    pub broker_pending: IntGaugeVec,
    /// `fanfare_broker_lag`
    pub broker_lag: IntGaugeVec,
    /// `fanfare_broker_lost_total`
    pub broker_lost: IntCounterVec,
    /// `fanfare_broker_rebalances_total`
    pub broker_rebalances: IntCounterVec,
    /// `fanfare_watchdog_ticks_total`
    pub watchdog_ticks: IntCounter,
    /// `fanfare_db_pool_connections`
    pub db_pool: IntGaugeVec,
    /// `fanfare_clock_offset_seconds`
    pub clock_offset: Gauge,
    /// `fanfare_http_connections`
    pub http_connections: IntGauge,
    /// `fanfare_http_connections_closed_total`
    pub http_connections_closed: IntCounterVec,
    /// `fanfare_db_write_duration_seconds`
    pub db_write: Histogram,
    /// `fanfare_http_requests_total`
    pub http_requests: IntCounterVec,
    /// `fanfare_http_request_duration_seconds`
    pub http_duration: HistogramVec,
}

impl std::ops::Deref for Metrics {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The possible outcomes of an attempt.
const ATTEMPT_OUTCOMES: [OutcomeKind; 4] =
    [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Failed, OutcomeKind::Expired];

/// The metrics of attempts on one channel. They are looked up once, since looking up a label is slower than counting.
pub struct ChannelMetrics {
    /// `fanfare_schedule_lateness_seconds`
    pub lateness: Histogram,
    /// `fanfare_in_flight`
    pub in_flight: IntGauge,
    attempt_durations: [Histogram; ATTEMPT_OUTCOMES.len()],
    rate_limit_waits: IntCounter,
    rate_limit_seconds: Counter,
    /// The origin of the times in `rolling`.
    since: Instant,
    rolling: Arc<Mutex<Rolling>>,
}

/// The shortest wait that counts; shorter ones are only the granularity of timers.
const A_WAIT: Duration = Duration::from_millis(1);

impl ChannelMetrics {
    /// Counts an attempt in `fanfare_attempt_duration_seconds` and the windows. Outcomes that are not in
    /// `ATTEMPT_OUTCOMES` are ignored.
    pub fn attempted(&self, outcome: OutcomeKind, ended: Instant, took: Duration) {
        let place = ATTEMPT_OUTCOMES.iter().position(|kind| *kind == outcome);
        if let Some(duration) = place.and_then(|place| self.attempt_durations.get(place)) {
            duration.observe(took.as_secs_f64());
            let at = ended.saturating_duration_since(self.since);
            self.rolling.lock().unwrap_or_else(PoisonError::into_inner).add(at, outcome, took);
        }
    }

    /// Counts the wait of a ready message for the channel's rate limit.
    pub fn paced(&self, waited: Duration) {
        if waited >= A_WAIT {
            self.rate_limit_waits.inc();
            self.rate_limit_seconds.inc_by(waited.as_secs_f64());
        }
    }

    /// Returns the results of attempts in the last minute and the last hour.
    pub fn windows(&self) -> (Window, Window) {
        let now = self.since.elapsed();
        let rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        (rolling.last_minute(now), rolling.last_hour(now))
    }
}

/// The buckets of a provider's response times, from half a millisecond to the longest request.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The buckets of lateness, from a millisecond to an hour: a mailing's last message may be late by the mailing's
/// length.
const LATENESS_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
];
const SHORT_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

struct Registrar(Registry);

impl Registrar {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> Result<C> {
        let metric = metric.map_err(|e| Error::Internal(e.into()))?;
        self.0.register(Box::new(metric.clone())).map_err(|e| Error::Internal(e.into()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }
}

impl Metrics {
    /// Defines all metrics in a new registry, so that two services in one test process are separate.
    ///
    /// # Errors
    /// Two metrics have the same name.
    pub fn new() -> Result<Self> {
        let r = Registrar(Registry::new());
        let (channel, broker) = (&["channel"], &["broker"]);
        let build =
            r.gauges("fanfare_build_info", "Always 1; the label is the running version", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        r.0.register(Box::new(process)).map_err(|e| Error::Internal(e.into()))?;
        let inner = Inner {
            active_tasks: r.gauge("fanfare_active_tasks", "Live tasks of the runtime; a steady rise means a leak")?,
            messages: r.counters("fanfare_messages_total", "Messages that entered the engine", channel)?,
            events: r.counters(
                "fanfare_events_total",
                "Events by source and result: accepted, known (a repetition), refused or busy",
                &["source", "result"],
            )?,
            sent: r.counters("fanfare_messages_sent_total", "Messages that the provider accepted", channel)?,
            failed: r.counters(
                "fanfare_messages_failed_total",
                "Messages that failed permanently; a rise means invalid recipients or a provider that refuses messages",
                channel,
            )?,
            expired: r.counters(
                "fanfare_messages_expired_total",
                "Messages whose window closed first; a rise means that the channel is too slow for its mailings",
                channel,
            )?,
            cancelled: r.counters("fanfare_messages_cancelled_total", "Messages cancelled before sending", channel)?,
            opted_out: r.counters(
                "fanfare_messages_opted_out_total",
                "Messages suppressed because their recipients opted out; a rise means unwanted messages",
                channel,
            )?,
            deferred: r.counters(
                "fanfare_messages_deferred_total",
                "Deferrals of messages to the end of quiet hours; a rise means mailings at night",
                channel,
            )?,
            dead_letters: r.counters(
                "fanfare_dead_letters_total",
                "Messages that became dead letters, by error class; fix the rising class before a replay",
                &["channel", "class"],
            )?,
            dead_letter_replays: r.counters(
                "fanfare_dead_letter_replays_total",
                "Replays of dead letters",
                channel,
            )?,
            dead_letters_closed: r.counters(
                "fanfare_dead_letters_closed_total",
                "Dead letters that can no longer be replayed: dropped, or expired after the retention",
                &["why"],
            )?,
            dead_letters_open: r.gauge(
                "fanfare_dead_letters_open",
                "Dead letters that can be replayed, of all nodes; a steady rise means that they are not handled",
            )?,
            retries: r.counters(
                "fanfare_retries_total",
                "Failed attempts that are retried; a rise means a problem of the provider",
                channel,
            )?,
            attempt_duration: r.histograms(
                "fanfare_attempt_duration_seconds",
                "Time from request to response; a rise means that the provider is slow",
                &["channel", "outcome"],
                ATTEMPT_BUCKETS,
            )?,
            lateness: r.histograms(
                "fanfare_schedule_lateness_seconds",
                "Time between the due time of a message and its attempt; a rise means a backlog",
                channel,
                LATENESS_BUCKETS,
            )?,
            lane_depth: r.gauges("fanfare_lane_depth", "Messages waiting in memory", &["channel", "priority"])?,
            backlog: r.gauges(
                "fanfare_backlog",
                "Due messages that could be sent, of all nodes; a rise means that sending is too slow",
                channel,
            )?,
            in_flight: r.gauges(
                "fanfare_in_flight",
                "Attempts in flight; at the channel's concurrency, the provider is the bottleneck",
                channel,
            )?,
            circuit: r.gauges(
                "fanfare_circuit_state",
                "State of the channel's circuit breaker: 0 closed, 1 half-open (probing the provider), 2 open",
                channel,
            )?,
            throttled: r.counters(
                "fanfare_throttled_total",
                "Responses 429 with Retry-After; a rise means that the channel's rate is above the provider's limit",
                channel,
            )?,
            local_faults: r.counters(
                "fanfare_local_faults_total",
                "Attempts not made for lack of descriptors, ports or memory; this machine is the bottleneck",
                channel,
            )?,
            rate_limit_waits: r.counters(
                "fanfare_rate_limit_waits_total",
                "Waits of ready messages for the channel's rate limit; a rise means that the limit is the bottleneck",
                channel,
            )?,
            rate_limit_seconds: r.add(CounterVec::new(
                Opts::new(
                    "fanfare_rate_limit_wait_seconds_total",
                    "Time that ready messages waited for the rate limit; near 1 s per second, it is the bottleneck",
                ),
                channel,
            ))?,
            unrecorded: r.gauge(
                "fanfare_unrecorded_outcomes",
                "Outcomes not yet in the database, which a crash would repeat; a rise means that the database is slow",
            )?,
            sending_paused: r.gauge("fanfare_sending_paused", "1 while sending is paused for the whole installation")?,
            mailings_running: r.gauge("fanfare_mailings_running", "Running mailings, without paused ones")?,
            recorder_errors: r.counter(
                "fanfare_recorder_errors_total",
                "Failed and repeated group commits of outcomes; a rise means that the database is unavailable",
            )?,
            broker_connected: r.gauges(
                "fanfare_broker_connected",
                "1 while connected to the broker; 0 if disconnected or not configured",
                broker,
            )?,
            broker_events: r.counters(
                "fanfare_broker_events_total",
                "Events from the broker, by outcome; a rise of `buried` means that a publisher sends invalid events",
                &["broker", "outcome"],
            )?,
            broker_redelivered: r.counters(
                "fanfare_broker_redelivered_total",
                "Events that JetStream delivered again; a rise means refused events, restarts or a slow database",
                broker,
            )?,
            broker_pending: r.gauges(
                "fanfare_broker_pending",
                "Undelivered events in the stream; a rise means that they arrive faster than they are read",
                broker,
            )?,
            broker_lag: r.gauges(
                "fanfare_broker_lag",
                "Unread records in a partition of this node; a rise means that they arrive faster than they are read",
                &["broker", "topic", "partition"],
            )?,
            broker_lost: r.counters(
                "fanfare_broker_lost_total",
                "Records that the topic's retention removed unread; reading is too slow or was stopped too long",
                broker,
            )?,
            broker_rebalances: r.counters(
                "fanfare_broker_rebalances_total",
                "Changes of this node's partitions; a steady rise means that nodes restart or are too slow",
                broker,
            )?,
            watchdog_ticks: r.counter("fanfare_watchdog_ticks_total", "Runs of the watchdog; without a rise it is stuck")?,
            db_pool: r.gauges("fanfare_db_pool_connections", "Database connections", &["pool", "state"])?,
            clock_offset: r.add(Gauge::new(
                "fanfare_clock_offset_seconds",
                "Seconds by which this machine's clock is ahead of PostgreSQL's, which is used; if large, check NTP",
            ))?,
            http_connections: r.add(IntGauge::new(
                "fanfare_http_connections",
                "Open connections of callers; at HTTP_CONNECTIONS, idle ones are closed for new ones",
            ))?,
            http_connections_closed: r.counters(
                "fanfare_http_connections_closed_total",
                "Connections closed by the service: idle (for new ones), slow (peer does not read), refused (none idle)",
                &["reason"],
            )?,
            db_write: r.add(Histogram::with_opts(
                HistogramOpts::new("fanfare_db_write_duration_seconds", "Time of transactions up to their commit")
                    .buckets(SHORT_BUCKETS.to_vec()),
            ))?,
            http_requests: r.counters("fanfare_http_requests_total", "Completed requests", &["method", "route", "status"])?,
            http_duration: r.histograms(
                "fanfare_http_request_duration_seconds",
                "Time from request to response",
                &["method", "route"],
                SHORT_BUCKETS,
            )?,
            registry: r.0,
            since: Instant::now(),
            rolling: ChannelKind::ALL.iter().map(|kind| (*kind, Arc::default())).collect(),
        };
        let metrics = Self(Arc::new(inner));
        metrics.show_zeroes();
        Ok(metrics)
    }

    /// Starts all series at zero: a series that appears with its first event has no rate for that event.
    fn show_zeroes(&self) {
        for source in EventSource::ALL.iter().map(|source| source.as_str()) {
            for result in ["accepted", "known", "refused", "busy"] {
                self.events.with_label_values(&[source, result]);
            }
        }
        for broker in ["nats", "kafka"] {
            for outcome in ["taken", "refused", "buried", "skipped", "fenced"] {
                self.broker_events.with_label_values(&[broker, outcome]);
            }
            self.broker_connected.with_label_values(&[broker]);
        }
        self.broker_redelivered.with_label_values(&["nats"]);
        self.broker_pending.with_label_values(&["nats"]);
        self.broker_lost.with_label_values(&["kafka"]);
        self.broker_rebalances.with_label_values(&["kafka"]);
        for reason in ["idle", "slow", "refused"] {
            self.http_connections_closed.with_label_values(&[reason]);
        }
        for why in ["dropped", "expired"] {
            self.dead_letters_closed.with_label_values(&[why]);
        }
        for channel in ChannelKind::ALL.iter().map(|c| c.as_str()) {
            let of_messages = [&self.messages, &self.sent, &self.failed, &self.expired, &self.cancelled];
            for counter in of_messages.into_iter().chain([
                &self.retries,
                &self.throttled,
                &self.local_faults,
                &self.rate_limit_waits,
                &self.opted_out,
                &self.deferred,
            ]) {
                counter.with_label_values(&[channel]);
            }
            self.rate_limit_seconds.with_label_values(&[channel]);
            self.dead_letter_replays.with_label_values(&[channel]);
            for class in ErrorClass::ALL.iter().filter(|class| **class != ErrorClass::Poison) {
                self.dead_letters.with_label_values(&[channel, class.as_str()]);
            }
            self.circuit.with_label_values(&[channel]).set(0);
            self.lateness.with_label_values(&[channel]);
            self.in_flight.with_label_values(&[channel]).set(0);
            self.backlog.with_label_values(&[channel]).set(0);
            for priority in Priority::ALL {
                self.lane_depth.with_label_values(&[channel, priority.as_str()]).set(0);
            }
            for outcome in ATTEMPT_OUTCOMES {
                self.attempt_duration.with_label_values(&[channel, outcome.as_str()]);
            }
        }
    }

    /// Returns the metrics of one channel.
    pub fn of_channel(&self, channel: ChannelKind) -> ChannelMetrics {
        let name = channel.as_str();
        let duration =
            |outcome: OutcomeKind| self.attempt_duration.with_label_values(&[name, outcome.as_str()]);
        ChannelMetrics {
            lateness: self.lateness.with_label_values(&[name]),
            in_flight: self.in_flight.with_label_values(&[name]),
            attempt_durations: ATTEMPT_OUTCOMES.map(duration),
            rate_limit_waits: self.rate_limit_waits.with_label_values(&[name]),
            rate_limit_seconds: self.rate_limit_seconds.with_label_values(&[name]),
            since: self.since,
            rolling: self.rolling.get(&channel).cloned().unwrap_or_default(),
        }
    }

    /// Counts messages that entered the engine.
    pub fn entered(&self, channel: ChannelKind, messages: usize) {
        let entered = self.messages.with_label_values(&[channel.as_str()]);
        entered.inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
    }

    /// Counts outcomes of messages.
    pub fn ended(&self, channel: ChannelKind, outcome: OutcomeKind, messages: usize) {
        let counter = match outcome {
            OutcomeKind::Delivered => &self.sent,
            OutcomeKind::Retry => &self.retries,
            OutcomeKind::Failed => &self.failed,
            OutcomeKind::Expired => &self.expired,
            OutcomeKind::Cancelled => &self.cancelled,
        };
        counter.with_label_values(&[channel.as_str()]).inc_by(u64::try_from(messages).unwrap_or_default());
    }

    /// Counts a message that became a dead letter.
    pub fn dead_letter(&self, channel: ChannelKind, class: ErrorClass) {
        self.dead_letters.with_label_values(&[channel.as_str(), class.as_str()]).inc();
    }

    /// Counts closed dead letters.
    pub fn closed_letters(&self, why: &str, count: u64) {
        self.dead_letters_closed.with_label_values(&[why]).inc_by(count);
    }

    /// Returns the time since the start.
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns the metrics in Prometheus text format.
    ///
    /// # Errors
    /// None in practice: the encoder writes into memory.
    pub fn text(&self) -> Result<String> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(|e| Error::Internal(e.into()))?;
        String::from_utf8(text).map_err(|e| Error::Internal(e.into()))
    }
}
