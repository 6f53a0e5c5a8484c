//! The circuit breaker of a channel, which holds back attempts while its provider cannot be used.
//!
//! It holds attempts back for two reasons. After a 429 with `Retry-After` (RFC 6585, 4; RFC 9110, 10.2.3) the provider
//! gets no requests for that long. A series of failures opens the circuit (Nygard, *Release It!*): the channel sends
//! nothing for a while, then one message as a probe, and its result decides. Meanwhile messages wait as queued and use
//! no attempts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::egress::local::LOCAL_FAULT;
use crate::kinds::{ChannelKind, ProviderState};
use crate::metrics::Metrics;

/// The length of a series of failures after which a tenth of the threshold opens the circuit: a provider that hangs
/// fails slowly.
const LONG_RUN: Duration = Duration::from_secs(30);
/// The time for which the circuit is open before the first probe. It doubles after each failed probe.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest time between two probes.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// The shortest pause after a throttled attempt: a provider that asks for less would be flooded with requests.
const SHORTEST_THROTTLE: Duration = Duration::from_millis(100);
/// The longest pause after a throttled attempt: without an attempt the service could not notice that the provider has
/// recovered.
const LONGEST_THROTTLE: Duration = Duration::from_secs(600);
/// The pause of a channel after this machine could not make a connection.
const LOCAL_PAUSE: Duration = Duration::from_millis(500);
/// The time between two log lines about faults of this machine.
const LOCAL_LOG: Duration = Duration::from_secs(10);
/// The length of a pause from which the channel's leases are released and their messages count as queued.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circuit {
    /// Messages are sent. `failures` is the length of the present series of failures, and `since` its beginning.
    Closed { failures: u32, since: Option<Instant> },
    /// No messages are sent before `until`.
    Open { until: Instant, rest: Duration },
    /// One message at a time is sent as a probe.
    HalfOpen { probing: bool, rest: Duration },
}

const WELL: Circuit = Circuit::Closed { failures: 0, since: None };

#[derive(Debug)]
struct BreakerState {
    circuit: Circuit,
    throttled_until: Option<Instant>,
    /// The time of the last log line about a fault of this machine.
    local_logged: Option<Instant>,
}

/// The time of the next permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opens {
    Now,
    At(Instant),
    /// After the result of the probe.
    AfterProbe,
}

impl BreakerState {
    fn opens(&self, now: Instant) -> Opens {
        let circuit = match self.circuit {
            Circuit::Closed { .. } | Circuit::HalfOpen { probing: false, .. } => None,
            Circuit::Open { until, .. } => Some(until),
            Circuit::HalfOpen { probing: true, .. } => return Opens::AfterProbe,
        };
        match self.throttled_until.max(circuit) {
            Some(until) if until > now => Opens::At(until),
            _ => Opens::Now,
        }
    }
}

/// The result of an attempt, as far as it concerns the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderReport {
    /// The provider responded, even if it rejected the message.
    Alive,
    /// The provider did not respond, or reported that it cannot process requests.
    Sick,
    /// The provider asked for a pause.
    Throttled(Duration),
    /// This machine could not make a connection, so the provider got no request.
    LocalFault,
}

/// The circuit breaker of one channel.
pub struct CircuitBreaker {
    channel: ChannelKind,
    /// The number of consecutive failures that opens the circuit; 0 disables it.
    threshold: u32,
    inner: Mutex<BreakerState>,
    changed: Notify,
    /// Wakes the feeder, which returns waiting messages or fills the lanes again.
    feed: Arc<Notify>,
    metrics: Metrics,
}

/// A permit to send one message. Its holder reports the result of the attempt, or drops it if there was no attempt.
pub struct Permit {
    gate: Arc<CircuitBreaker>,
    is_probe: bool,
}

impl Permit {
    /// Reports the result of the attempt.
    pub fn report(mut self, report: ProviderReport) {
        self.gate.report(self.is_probe, report);
        self.is_probe = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe {
            self.gate.unprobed();
        }
    }
}

impl CircuitBreaker {
    /// Creates a circuit breaker, closed, that opens after `threshold` consecutive failures (0: never).
    pub fn new(channel: ChannelKind, threshold: u32, feed: Arc<Notify>, metrics: Metrics) -> Self {
        let inner = BreakerState { circuit: WELL, throttled_until: None, local_logged: None };
        Self { channel, threshold, inner: Mutex::new(inner), changed: Notify::new(), feed, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a message may be sent.
    pub async fn wait(&self) {
        // usually a message may be sent: registering costs more than this check
        if self.lock().opens(Instant::now()) == Opens::Now {
            return;
        }
        loop {
            // registered before the check, so that a change in between is not missed
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let opens = self.lock().opens(Instant::now());
            match opens {
                Opens::Now => return,
                Opens::AfterProbe => changed.await,
                Opens::At(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Returns a permit to send one message, or `None` if no message may be sent now.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let mut inner = self.lock();
        if inner.opens(Instant::now()) != Opens::Now {
            return None;
        }
        let is_probe = match inner.circuit {
            Circuit::Closed { .. } => false,
            Circuit::Open { rest, .. } | Circuit::HalfOpen { rest, .. } => {
                inner.circuit = Circuit::HalfOpen { probing: true, rest };
                true
            }
        };
        drop(inner);
        if is_probe {
            self.show();
        }
        Some(Permit { gate: Arc::clone(self), is_probe })
    }

    /// Returns the time for which this channel's messages must not be held in memory; zero if its lanes are to be
    /// filled.
    pub fn rest(&self) -> Duration {
        let now = Instant::now();
        match self.lock().opens(now) {
            Opens::At(at) => at.saturating_duration_since(now).saturating_sub(SHORT),
            Opens::Now | Opens::AfterProbe => Duration::ZERO,
        }
    }

    /// Returns the state of the provider, and the time for which nothing is sent to it.
    pub fn state(&self) -> (ProviderState, Duration) {
        let now = Instant::now();
        let inner = self.lock();
        let rest = match inner.opens(now) {
            Opens::At(at) => at.saturating_duration_since(now),
            Opens::Now | Opens::AfterProbe => Duration::ZERO,
        };
        let state = match inner.circuit {
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => ProviderState::Open,
            Circuit::Closed { .. } if rest.is_zero() => ProviderState::Healthy,
            Circuit::Closed { .. } => ProviderState::Limited,
        };
        (state, rest)
    }

    /// Allows another probe, because this one was not sent.
    fn unprobed(&self) {
        let mut inner = self.lock();
        if let Circuit::HalfOpen { rest, .. } = inner.circuit {
            inner.circuit = Circuit::HalfOpen { probing: false, rest };
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    fn report(&self, is_probe: bool, report: ProviderReport) {
        let now = Instant::now();
        let mut inner = self.lock();
        if let ProviderReport::Throttled(wish) = report {
            let until = now + wish.clamp(SHORTEST_THROTTLE, LONGEST_THROTTLE);
            inner.throttled_until = inner.throttled_until.max(Some(until));
            self.metrics.throttled.with_label_values(&[self.channel.as_str()]).inc();
        }
        if report == ProviderReport::LocalFault {
            inner.throttled_until = inner.throttled_until.max(Some(now + LOCAL_PAUSE));
            self.metrics.local_faults.with_label_values(&[self.channel.as_str()]).inc();
            if inner.local_logged.is_none_or(|at| now - at >= LOCAL_LOG) {
                inner.local_logged = Some(now);
                tracing::warn!(channel = %self.channel, "{LOCAL_FAULT}; the channel paused and no attempt was counted");
            }
        }
        let before = inner.circuit;
        inner.circuit = match (before, is_probe, report) {
            (Circuit::Closed { .. }, _, ProviderReport::Alive | ProviderReport::Throttled(_)) => WELL,
            (Circuit::Closed { failures, since }, _, ProviderReport::Sick) => {
                let (failures, since) = (failures.saturating_add(1), since.unwrap_or(now));
                if self.is_too_many(failures, now - since) {
                    tracing::warn!(channel = %self.channel, failures, "circuit breaker opened; sending is suspended");
                    Circuit::Open { until: now + FIRST_REST, rest: FIRST_REST }
                } else {
                    Circuit::Closed { failures, since: Some(since) }
                }
            }
            (Circuit::HalfOpen { .. }, true, ProviderReport::Alive | ProviderReport::Throttled(_)) => {
                tracing::info!(channel = %self.channel, "circuit breaker closed; sending resumed");
                WELL
            }
            (Circuit::HalfOpen { rest, .. }, true, ProviderReport::Sick) => {
                let rest = (rest * 2).min(LONGEST_REST);
                Circuit::Open { until: now + rest, rest }
            }
            // the probe was not sent: another one may be
            (Circuit::HalfOpen { rest, .. }, true, ProviderReport::LocalFault) => {
                Circuit::HalfOpen { probing: false, rest }
            }
            // the provider got no request
            (circuit @ Circuit::Closed { .. }, _, ProviderReport::LocalFault) => circuit,
            // attempts that were in flight when the circuit opened do not count
            (circuit @ Circuit::Open { .. }, _, _) | (circuit @ Circuit::HalfOpen { .. }, false, _) => {
                circuit
            }
        };
        let circuit_moved = std::mem::discriminant(&inner.circuit) != std::mem::discriminant(&before);
        drop(inner);
        if circuit_moved || matches!(report, ProviderReport::Throttled(_) | ProviderReport::LocalFault) {
            self.show();
            self.changed.notify_waiters();
            self.feed.notify_one();
        }
    }

    fn is_too_many(&self, failures: u32, run: Duration) -> bool {
        self.threshold > 0
            && (failures >= self.threshold || (run >= LONG_RUN && failures >= self.threshold.div_ceil(10)))
    }

    fn show(&self) {
        let state = match self.lock().circuit {
            Circuit::Closed { .. } => 0,
            Circuit::HalfOpen { .. } => 1,
            Circuit::Open { .. } => 2,
        };
        self.metrics.circuit.with_label_values(&[self.channel.as_str()]).set(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate(threshold: u32) -> Arc<CircuitBreaker> {
        Arc::new(CircuitBreaker::new(
            ChannelKind::Sms,
            threshold,
            Arc::new(Notify::new()),
            Metrics::new().unwrap(),
        ))
    }

    fn send(gate: &Arc<CircuitBreaker>, report: ProviderReport) {
        gate.enter().expect("a permit").report(report);
    }

    #[tokio::test(start_paused = true)]
    async fn a_series_of_failures_opens_the_circuit_and_probes_decide() {
        let gate = gate(3);
        for report in [
            ProviderReport::Sick,
            ProviderReport::Sick,
            ProviderReport::Alive,
            ProviderReport::Sick,
            ProviderReport::Sick,
        ] {
            send(&gate, report);
        }
        assert_eq!(gate.metrics.circuit.with_label_values(&["sms"]).get(), 0, "there was no series of three");
        send(&gate, ProviderReport::Sick);
        assert!(gate.enter().is_none());
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            let began = Instant::now();
            gate.wait().await;
            assert_eq!(began.elapsed(), Duration::from_secs(rest));
            let probe = gate.enter().expect("a probe");
            assert!(gate.enter().is_none(), "one at a time");
            probe.report(ProviderReport::Sick);
        }
        gate.wait().await;
        send(&gate, ProviderReport::Alive);
        assert!(gate.enter().is_some() && gate.enter().is_some(), "the circuit is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_failures_open_the_circuit_after_a_tenth_of_the_threshold() {
        let gate = gate(100);
        for _ in 0..9 {
            tokio::time::advance(Duration::from_secs(5)).await;
            send(&gate, ProviderReport::Sick);
        }
        assert!(gate.enter().is_some());
        send(&gate, ProviderReport::Sick);
        assert!(gate.enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_not_sent_allows_another() {
        let gate = gate(1);
        send(&gate, ProviderReport::Sick);
        gate.wait().await;
        drop(gate.enter().expect("a probe"));
        gate.wait().await;
        send(&gate, ProviderReport::Alive);
        assert!(gate.enter().is_some() && gate.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_in_flight_when_the_circuit_opened_do_not_count() {
        let gate = gate(2);
        let passes: Vec<_> = (0..5).map(|_| gate.enter().expect("a permit")).collect();
        for (pass, report) in passes.into_iter().zip([
            ProviderReport::Sick,
            ProviderReport::Sick,
            ProviderReport::Alive,
            ProviderReport::Sick,
            ProviderReport::Alive,
        ]) {
            pass.report(report);
        }
        assert!(gate.enter().is_none());
        let began = Instant::now();
        gate.wait().await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_channel_waits_for_retry_after_within_its_bounds() {
        for (wish, waited) in [(0, 100), (1500, 1500), (10_000_000, 600_000)] {
            let gate = gate(1);
            let (first, second) = (gate.enter().expect("a permit"), gate.enter().expect("a permit"));
            first.report(ProviderReport::Throttled(Duration::from_millis(wish)));
            second.report(ProviderReport::Throttled(Duration::ZERO));
            let began = Instant::now();
            gate.wait().await;
            assert_eq!(began.elapsed(), Duration::from_millis(waited), "the longest pause wins");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_breaker_returns_the_state_of_the_provider() {
        let gate = gate(1);
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
        send(&gate, ProviderReport::Throttled(Duration::from_secs(3)));
        assert_eq!(gate.state(), (ProviderState::Limited, Duration::from_secs(3)));
        gate.wait().await;
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
        send(&gate, ProviderReport::Sick);
        assert_eq!(gate.state(), (ProviderState::Open, Duration::from_secs(1)));
        gate.wait().await;
        let probe = gate.enter().expect("a probe");
        assert_eq!(gate.state(), (ProviderState::Open, Duration::ZERO));
        probe.report(ProviderReport::Alive);
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_leave_memory_only_for_a_long_pause() {
        let gate = gate(0);
        assert_eq!(gate.rest(), Duration::ZERO);
        send(&gate, ProviderReport::Throttled(Duration::from_secs(2)));
        assert_eq!(gate.rest(), Duration::ZERO);
        gate.wait().await;
        send(&gate, ProviderReport::Throttled(Duration::from_secs(60)));
        assert_eq!(gate.rest(), Duration::from_secs(58));
    }

    proptest! {
        /// For any reports in any order: the circuit breaker gives a permit again, and never two probes at once.
        #[test]
        fn the_circuit_breaker_always_closes_again(reports in prop::collection::vec(0..4_u8, 1..60), threshold in 0..4_u32) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let gate = gate(threshold);
                for report in reports {
                    let patience = Duration::from_secs(601);
                    tokio::time::timeout(patience, gate.wait()).await.expect("it allows an attempt again");
                    let pass = gate.enter().expect("a permit");
                    assert!(!pass.is_probe || gate.enter().is_none());
                    match report {
                        0 => pass.report(ProviderReport::Alive),
                        1 => pass.report(ProviderReport::Sick),
                        2 => pass.report(ProviderReport::Throttled(Duration::from_secs(3))),
                        _ => drop(pass),
                    }
                }
            });
        }
    }
}
