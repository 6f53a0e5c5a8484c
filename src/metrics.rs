//! Every metric, defined once. Labels are bounded: channels, priorities, outcomes, routes as patterns.

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

/// The process's metrics; cloning shares them.
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

/// What an attempt may come to.
const ATTEMPT_OUTCOMES: [OutcomeKind; 4] =
    [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Failed, OutcomeKind::Expired];

/// What is counted for each attempt on one channel, found once: to look a label up costs more than to count.
pub struct ChannelMetrics {
    /// `fanfare_schedule_lateness_seconds`
    pub lateness: Histogram,
    /// `fanfare_in_flight`
    pub in_flight: IntGauge,
    attempt_durations: [Histogram; ATTEMPT_OUTCOMES.len()],
    rate_limit_waits: IntCounter,
    rate_limit_seconds: Counter,
    /// What the times in `rolling` are counted from.
    since: Instant,
    rolling: Arc<Mutex<Rolling>>,
}

/// Less is no wait: the pacer asked for the time, or a timer fired.
const A_WAIT: Duration = Duration::from_millis(1);

impl ChannelMetrics {
    /// Counts an attempt: `fanfare_attempt_duration_seconds` and the windows. Not one with an outcome that no attempt
    /// comes to.
    pub fn attempted(&self, outcome: OutcomeKind, ended: Instant, took: Duration) {
        let place = ATTEMPT_OUTCOMES.iter().position(|kind| *kind == outcome);
        if let Some(duration) = place.and_then(|place| self.attempt_durations.get(place)) {
            duration.observe(took.as_secs_f64());
            let at = ended.saturating_duration_since(self.since);
            self.rolling.lock().unwrap_or_else(PoisonError::into_inner).add(at, outcome, took);
        }
    }

    /// Counts that a message was ready and waited so long for the channel's rate.
    pub fn paced(&self, waited: Duration) {
        if waited >= A_WAIT {
            self.rate_limit_waits.inc();
            self.rate_limit_seconds.inc_by(waited.as_secs_f64());
        }
    }

    /// What attempts came to in the last minute and the last hour.
    pub fn windows(&self) -> (Window, Window) {
        let now = self.since.elapsed();
        let rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        (rolling.last_minute(now), rolling.last_hour(now))
    }
}

/// From half a millisecond to the longest request: a provider's answers.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a millisecond to an hour: a mailing's last message may be late by the mailing's whole length.
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
    /// Defines every metric in a registry of its own: two services in one test process do not mix.
    ///
    /// # Errors
    /// Only if two metrics had one name.
    pub fn new() -> Result<Self> {
        let r = Registrar(Registry::new());
        let (channel, broker) = (&["channel"], &["broker"]);
        let build =
            r.gauges("fanfare_build_info", "Always 1; the label says which version runs", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        r.0.register(Box::new(process)).map_err(|e| Error::Internal(e.into()))?;
        let inner = Inner {
            active_tasks: r.gauge("fanfare_active_tasks", "Tasks alive in the runtime; a steady rise is a leak")?,
            messages: r.counters("fanfare_messages_total", "Messages that entered the engine", channel)?,
            events: r.counters(
                "fanfare_events_total",
                "Events by the way they came and what became of them: accepted, known before, refused, or busy",
                &["source", "result"],
            )?,
            sent: r.counters("fanfare_messages_sent_total", "Messages that the provider took", channel)?,
            failed: r.counters(
                "fanfare_messages_failed_total",
                "Messages given up for good; a rise means bad recipients or a provider that refuses",
                channel,
            )?,
            expired: r.counters(
                "fanfare_messages_expired_total",
                "Messages whose window closed first; a rise means that the channel is too slow for its mailings",
                channel,
            )?,
            cancelled: r.counters("fanfare_messages_cancelled_total", "Messages cancelled before they were sent", channel)?,
            opted_out: r.counters(
                "fanfare_messages_opted_out_total",
                "Messages cancelled because their recipients opted out; a rise means a kind of message that is not wanted",
                channel,
            )?,
            deferred: r.counters(
                "fanfare_messages_deferred_total",
                "How often messages were put off to the end of quiet hours; a rise means mailings at night",
                channel,
            )?,
            dead_letters: r.counters(
                "fanfare_dead_letters_total",
                "Messages that became dead letters, by why; a rise of one class says what to mend before they are replayed",
                &["channel", "class"],
            )?,
            dead_letter_replays: r.counters(
                "fanfare_dead_letter_replays_total",
                "Messages that wait again because somebody replayed them",
                channel,
            )?,
            dead_letters_closed: r.counters(
                "fanfare_dead_letters_closed_total",
                "Dead letters that nobody can replay any more: dropped, or expired because they were too old",
                &["why"],
            )?,
            dead_letters_open: r.gauge(
                "fanfare_dead_letters_open",
                "Dead letters that can be replayed, of all nodes together; a steady rise means that nobody looks after them",
            )?,
            retries: r.counters(
                "fanfare_retries_total",
                "Attempts that failed and are tried again; a rise means that the provider is unwell",
                channel,
            )?,
            attempt_duration: r.histograms(
                "fanfare_attempt_duration_seconds",
                "From request to answer; a rise means that the provider is slow",
                &["channel", "outcome"],
                ATTEMPT_BUCKETS,
            )?,
            lateness: r.histograms(
                "fanfare_schedule_lateness_seconds",
                "From the time a message was due to its attempt; a rise means a backlog",
                channel,
                LATENESS_BUCKETS,
            )?,
            lane_depth: r.gauges("fanfare_lane_depth", "Messages waiting in memory", &["channel", "priority"])?,
            backlog: r.gauges(
                "fanfare_backlog",
                "Messages that are due and could be sent, of all nodes together; a rise means that they come faster than they go",
                channel,
            )?,
            in_flight: r.gauges(
                "fanfare_in_flight",
                "Requests without an answer yet; at the channel's concurrency the provider is the limit",
                channel,
            )?,
            circuit: r.gauges(
                "fanfare_circuit_state",
                "Whether the channel's provider is asked: 0 yes, 1 one message probes it, 2 it rests after a run of failures",
                channel,
            )?,
            throttled: r.counters(
                "fanfare_throttled_total",
                "Answers 429 with Retry-After; a rise means that the channel's rate is above what the provider bears",
                channel,
            )?,
            local_faults: r.counters(
                "fanfare_local_faults_total",
                "Attempts that could not be made for want of a descriptor, a port or memory; a rise means that this machine is the limit",
                channel,
            )?,
            rate_limit_waits: r.counters(
                "fanfare_rate_limit_waits_total",
                "How often a message was ready and waited for the channel's rate; a rise means that the rate is the limit",
                channel,
            )?,
            rate_limit_seconds: r.add(CounterVec::new(
                Opts::new(
                    "fanfare_rate_limit_wait_seconds_total",
                    "How long messages that were ready waited for the channel's rate; near 1 a second the rate is the limit",
                ),
                channel,
            ))?,
            unrecorded: r.gauge(
                "fanfare_unrecorded_outcomes",
                "Outcomes not yet on disk: what a crash would send again; a rise means that the database is slow",
            )?,
            sending_paused: r.gauge("fanfare_sending_paused", "1 while all sending is paused, for the whole installation")?,
            mailings_running: r.gauge("fanfare_mailings_running", "Mailings that are being sent; paused ones are not among them")?,
            recorder_errors: r.counter(
                "fanfare_recorder_errors_total",
                "Group commits of outcomes that failed and were repeated; a rise means that the database is away",
            )?,
            broker_connected: r.gauges(
                "fanfare_broker_connected",
                "Whether there is a connection to the broker: 1 yes; 0 no, or none is configured",
                broker,
            )?,
            broker_events: r.counters(
                "fanfare_broker_events_total",
                "Events of the broker; a rise of those buried means a publisher that sends what cannot be taken",
                &["broker", "outcome"],
            )?,
            broker_redelivered: r.counters(
                "fanfare_broker_redelivered_total",
                "Events that JetStream delivered again; a rise means refused events, restarts or a slow database",
                broker,
            )?,
            broker_pending: r.gauges(
                "fanfare_broker_pending",
                "Events in the stream that were not delivered yet; a rise means that they come faster than they are taken",
                broker,
            )?,
            broker_lag: r.gauges(
                "fanfare_broker_lag",
                "Records of a partition of this node that are still to be read; a rise means that they come faster than they are taken",
                &["broker", "topic", "partition"],
            )?,
            broker_lost: r.counters(
                "fanfare_broker_lost_total",
                "Records that the topic's retention removed before they were read; any means that reading is too slow, or was stopped too long",
                broker,
            )?,
            broker_rebalances: r.counters(
                "fanfare_broker_rebalances_total",
                "Changes of the partitions that this node reads; a steady rise means nodes that come and go, or are too slow to be heard of",
                broker,
            )?,
            watchdog_ticks: r.counter("fanfare_watchdog_ticks_total", "Looks of the watchdog; it stops when it is stuck")?,
            db_pool: r.gauges("fanfare_db_pool_connections", "Database connections", &["pool", "state"])?,
            clock_offset: r.add(Gauge::new(
                "fanfare_clock_offset_seconds",
                "Seconds by which this machine's clock is ahead of PostgreSQL's, whose time is used; far from zero, its NTP does not work",
            ))?,
            http_connections: r.add(IntGauge::new(
                "fanfare_http_connections",
                "Open connections of callers; at HTTP_CONNECTIONS the idle ones are closed for new ones",
            ))?,
            http_connections_closed: r.counters(
                "fanfare_http_connections_closed_total",
                "Connections that the service closed by itself: idle ones to make room, slow ones whose peers do not read, refused ones because none was idle",
                &["reason"],
            )?,
            db_write: r.add(Histogram::with_opts(
                HistogramOpts::new("fanfare_db_write_duration_seconds", "Transactions up to their commit on disk")
                    .buckets(SHORT_BUCKETS.to_vec()),
            ))?,
            http_requests: r.counters("fanfare_http_requests_total", "Requests answered", &["method", "route", "status"])?,
            http_duration: r.histograms(
                "fanfare_http_request_duration_seconds",
                "From request to response",
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

    /// A series that is born with its first event has no rate at that event: begin all of them at zero.
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

    /// Those of one channel.
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

    /// Counts letters that were closed.
    pub fn closed_letters(&self, why: &str, count: u64) {
        self.dead_letters_closed.with_label_values(&[why]).inc_by(count);
    }

    /// How long they have been counted.
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// What Prometheus scrapes.
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

    /// Mean seconds of a delivered attempt on this channel, once there was one.
    pub fn mean_delivery(&self, channel: ChannelKind) -> Option<f64> {
        let labels = [channel.as_str(), OutcomeKind::Delivered.as_str()];
        let histogram = self.attempt_duration.with_label_values(&labels);
        let count = histogram.get_sample_count();
        (count > 0).then(|| histogram.get_sample_sum() / count as f64)
    }
}
