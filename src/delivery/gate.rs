//! The gate of a channel: whether its provider can be asked right now.
//!
//! It closes for two reasons. A provider that answers 429 with `Retry-After` (RFC 6585, 4; RFC 9110, 10.2.3) gets
//! nothing for that long. A provider that fails many times in a row opens the circuit (Nygard, *Release It!*): nothing
//! is sent for a while, then one message is let through as a probe, and what becomes of it decides. Meanwhile messages
//! wait as queued and use up no attempts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::egress::local::LOCAL_FAULT;
use crate::kinds::{ChannelKind, ProviderState};
use crate::metrics::Metrics;

/// A provider that has failed for this long is sick after a tenth of the failures: one that hangs fails slowly.
const LONG_RUN: Duration = Duration::from_secs(30);
/// How long an open circuit rests before the first probe; twice as long after each probe that fails.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest between two probes.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A provider that asks for less is asked again after this all the same, or the answer would be hammered for.
const SHORTEST_THROTTLE: Duration = Duration::from_millis(100);
/// A provider that asks for more is asked again after this: nothing else would show that it has recovered.
const LONGEST_THROTTLE: Duration = Duration::from_secs(600);
/// How long a channel waits for what this machine lacks.
const LOCAL_PAUSE: Duration = Duration::from_millis(500);
/// A fault of this machine is logged once in this time.
const LOCAL_LOG: Duration = Duration::from_secs(10);
/// When the gate stays closed longer than this, what waits in memory is given back and counts as queued.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circuit {
    /// All is well; so many failures came in a row, the first of them then.
    Closed { failures: u32, since: Option<Instant> },
    /// Nothing is sent until then.
    Open { until: Instant, rest: Duration },
    /// One message at a time is let through.
    HalfOpen { probing: bool, rest: Duration },
}

const WELL: Circuit = Circuit::Closed { failures: 0, since: None };

#[derive(Debug)]
struct Inner {
    circuit: Circuit,
    throttled_until: Option<Instant>,
    /// When a fault of this machine was logged last.
    local_logged: Option<Instant>,
}

/// When something may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opens {
    Now,
    At(Instant),
    /// When it is known what became of the probe.
    AfterProbe,
}

impl Inner {
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

/// What an attempt says of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It answered, whatever it said of the message.
    Alive,
    /// It did not answer, or said that it cannot.
    Sick,
    /// It asked for patience.
    Throttled(Duration),
    /// It was not asked: this machine could make no connection.
    LocalFault,
}

/// The gate of one channel.
pub struct Gate {
    channel: ChannelKind,
    /// Failures in a row that open the circuit; 0 never does.
    threshold: u32,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Wakes the feeder: what waits is to be given back, or wanted again.
    feed: Arc<Notify>,
    metrics: Metrics,
}

/// Leave to send one message. Whoever has it reports what came of it, or drops it when nothing was sent.
pub struct Pass {
    gate: Arc<Gate>,
    is_probe: bool,
}

impl Pass {
    /// Says what the attempt told of the provider.
    pub fn report(mut self, report: Report) {
        self.gate.report(self.is_probe, report);
        self.is_probe = false;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_probe {
            self.gate.unprobed();
        }
    }
}

impl Gate {
    /// An open gate, whose circuit opens after `threshold` failures in a row (0: never).
    pub fn new(channel: ChannelKind, threshold: u32, feed: Arc<Notify>, metrics: Metrics) -> Self {
        let inner = Inner { circuit: WELL, throttled_until: None, local_logged: None };
        Self { channel, threshold, inner: Mutex::new(inner), changed: Notify::new(), feed, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a message may go.
    pub async fn wait(&self) {
        // mostly it is open: registering costs more than looking
        if self.lock().opens(Instant::now()) == Opens::Now {
            return;
        }
        loop {
            // registered before looking: a change in between is not missed
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

    /// Leave to send one message, if one may go now.
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
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
        Some(Pass { gate: Arc::clone(self), is_probe })
    }

    /// For how long nothing of this channel is to be held in memory; zero when it is to be fed.
    pub fn rest(&self) -> Duration {
        let now = Instant::now();
        match self.lock().opens(now) {
            Opens::At(at) => at.saturating_duration_since(now).saturating_sub(SHORT),
            Opens::Now | Opens::AfterProbe => Duration::ZERO,
        }
    }

    /// How the provider is, and how long nothing is sent to it.
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

    /// The probe was not sent after all: another may be.
    fn unprobed(&self) {
        let mut inner = self.lock();
        if let Circuit::HalfOpen { rest, .. } = inner.circuit {
            inner.circuit = Circuit::HalfOpen { probing: false, rest };
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    fn report(&self, is_probe: bool, report: Report) {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Report::Throttled(wish) = report {
            let until = now + wish.clamp(SHORTEST_THROTTLE, LONGEST_THROTTLE);
            inner.throttled_until = inner.throttled_until.max(Some(until));
            self.metrics.throttled.with_label_values(&[self.channel.as_str()]).inc();
        }
        if report == Report::LocalFault {
            inner.throttled_until = inner.throttled_until.max(Some(now + LOCAL_PAUSE));
            self.metrics.local_faults.with_label_values(&[self.channel.as_str()]).inc();
            if inner.local_logged.is_none_or(|at| now - at >= LOCAL_LOG) {
                inner.local_logged = Some(now);
                tracing::warn!(channel = %self.channel, "{LOCAL_FAULT}; the channel pauses and no attempt is counted");
            }
        }
        let before = inner.circuit;
        inner.circuit = match (before, is_probe, report) {
            (Circuit::Closed { .. }, _, Report::Alive | Report::Throttled(_)) => WELL,
            (Circuit::Closed { failures, since }, _, Report::Sick) => {
                let (failures, since) = (failures.saturating_add(1), since.unwrap_or(now));
                if self.is_too_many(failures, now - since) {
                    tracing::warn!(channel = %self.channel, failures, "the provider is sick; sending rests");
                    Circuit::Open { until: now + FIRST_REST, rest: FIRST_REST }
                } else {
                    Circuit::Closed { failures, since: Some(since) }
                }
            }
            (Circuit::HalfOpen { .. }, true, Report::Alive | Report::Throttled(_)) => {
                tracing::info!(channel = %self.channel, "the provider is well again");
                WELL
            }
            (Circuit::HalfOpen { rest, .. }, true, Report::Sick) => {
                let rest = (rest * 2).min(LONGEST_REST);
                Circuit::Open { until: now + rest, rest }
            }
            // the probe was not sent after all: another may be
            (Circuit::HalfOpen { rest, .. }, true, Report::LocalFault) => {
                Circuit::HalfOpen { probing: false, rest }
            }
            // what was in flight when the circuit opened says nothing new
            (circuit, _, _) => circuit,
        };
        let circuit_moved = std::mem::discriminant(&inner.circuit) != std::mem::discriminant(&before);
        drop(inner);
        if circuit_moved || matches!(report, Report::Throttled(_) | Report::LocalFault) {
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

    fn gate(threshold: u32) -> Arc<Gate> {
        Arc::new(Gate::new(ChannelKind::Sms, threshold, Arc::new(Notify::new()), Metrics::new().unwrap()))
    }

    fn send(gate: &Arc<Gate>, report: Report) {
        gate.enter().expect("an open gate").report(report);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_of_failures_opens_the_circuit_and_probes_decide() {
        let gate = gate(3);
        for report in [Report::Sick, Report::Sick, Report::Alive, Report::Sick, Report::Sick] {
            send(&gate, report);
        }
        assert_eq!(gate.metrics.circuit.with_label_values(&["sms"]).get(), 0, "there was no run of three");
        send(&gate, Report::Sick);
        assert!(gate.enter().is_none());
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            let began = Instant::now();
            gate.wait().await;
            assert_eq!(began.elapsed(), Duration::from_secs(rest));
            let probe = gate.enter().expect("a probe");
            assert!(gate.enter().is_none(), "one at a time");
            probe.report(Report::Sick);
        }
        gate.wait().await;
        send(&gate, Report::Alive);
        assert!(gate.enter().is_some() && gate.enter().is_some(), "all is well");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_slowly_is_sick_after_a_tenth_of_the_failures() {
        let gate = gate(100);
        for _ in 0..9 {
            tokio::time::advance(Duration::from_secs(5)).await;
            send(&gate, Report::Sick);
        }
        assert!(gate.enter().is_some());
        send(&gate, Report::Sick);
        assert!(gate.enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_not_sent_leaves_room_for_another() {
        let gate = gate(1);
        send(&gate, Report::Sick);
        gate.wait().await;
        drop(gate.enter().expect("a probe"));
        gate.wait().await;
        send(&gate, Report::Alive);
        assert!(gate.enter().is_some() && gate.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_in_flight_when_the_circuit_opened_decides_nothing() {
        let gate = gate(2);
        let passes: Vec<_> = (0..5).map(|_| gate.enter().expect("an open gate")).collect();
        for (pass, report) in
            passes.into_iter().zip([Report::Sick, Report::Sick, Report::Alive, Report::Sick, Report::Alive])
        {
            pass.report(report);
        }
        assert!(gate.enter().is_none());
        let began = Instant::now();
        gate.wait().await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_channel_waits_as_long_as_it_was_told_within_reason() {
        for (wish, waited) in [(0, 100), (1500, 1500), (10_000_000, 600_000)] {
            let gate = gate(1);
            let (first, second) = (gate.enter().expect("a pass"), gate.enter().expect("a pass"));
            first.report(Report::Throttled(Duration::from_millis(wish)));
            second.report(Report::Throttled(Duration::ZERO));
            let began = Instant::now();
            gate.wait().await;
            assert_eq!(began.elapsed(), Duration::from_millis(waited), "the longest wish holds");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_says_how_the_provider_is() {
        let gate = gate(1);
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
        send(&gate, Report::Throttled(Duration::from_secs(3)));
        assert_eq!(gate.state(), (ProviderState::Limited, Duration::from_secs(3)));
        gate.wait().await;
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
        send(&gate, Report::Sick);
        assert_eq!(gate.state(), (ProviderState::Open, Duration::from_secs(1)));
        gate.wait().await;
        let probe = gate.enter().expect("a probe");
        assert_eq!(gate.state(), (ProviderState::Open, Duration::ZERO));
        probe.report(Report::Alive);
        assert_eq!(gate.state(), (ProviderState::Healthy, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_for_a_long_rest_only() {
        let gate = gate(0);
        assert_eq!(gate.rest(), Duration::ZERO);
        send(&gate, Report::Throttled(Duration::from_secs(2)));
        assert_eq!(gate.rest(), Duration::ZERO);
        gate.wait().await;
        send(&gate, Report::Throttled(Duration::from_secs(60)));
        assert_eq!(gate.rest(), Duration::from_secs(58));
    }

    proptest! {
        /// Whatever is reported in whatever order, the gate opens again, and never lets two probes through at once.
        #[test]
        fn the_gate_always_opens_again(reports in prop::collection::vec(0..4_u8, 1..60), threshold in 0..4_u32) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let gate = gate(threshold);
                for report in reports {
                    let patience = Duration::from_secs(601);
                    tokio::time::timeout(patience, gate.wait()).await.expect("it opens again");
                    let pass = gate.enter().expect("an open gate");
                    assert!(!pass.is_probe || gate.enter().is_none());
                    match report {
                        0 => pass.report(Report::Alive),
                        1 => pass.report(Report::Sick),
                        2 => pass.report(Report::Throttled(Duration::from_secs(3))),
                        _ => drop(pass),
                    }
                }
            });
        }
    }
}
