//! Results of attempts in the last minute and the last hour. Memory is allocated only at creation, and counting an
//! attempt is a few additions in two slots.

use std::time::Duration;

use crate::kinds::OutcomeKind;

/// The slots of a window. The newest is still being filled, so a window is up to one slot shorter than its name.
const SLOTS: usize = 60;
/// The buckets of each doubling: a percentile is at most an eighth above the true value.
const PARTS: u64 = 8;
/// The binary logarithm of the shortest latency, 32 microseconds; shorter ones count as this.
const SHORTEST: u32 = 5;
/// The binary logarithm of the longest latency, 4.5 minutes; longer ones count as this. The maximum is exact.
const LONGEST: u32 = 28;
const BUCKETS: usize = (LONGEST - SHORTEST) as usize * PARTS as usize;

/// The attempts of one channel.
pub struct Rolling {
    seconds: Ring,
    minutes: Ring,
}

/// The results of the attempts of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The number of attempts.
    pub attempts: u64,
    /// The number of attempts that delivered.
    pub delivered: u64,
    /// The number of attempts after which a message failed permanently.
    pub failed: u64,
    /// The latencies; none without attempts.
    pub latency: Option<Latency>,
}

/// The latencies of attempts. Percentiles are at most an eighth above the true value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The median.
    pub p50: Duration,
    /// The 95th percentile.
    pub p95: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The maximum, exact to the microsecond.
    pub max: Duration,
}

impl Rolling {
    /// Creates empty windows.
    pub fn new() -> Self {
        Self { seconds: Ring::new(1), minutes: Ring::new(60) }
    }

    /// Counts an attempt that ended `at` after a fixed origin.
    pub fn add(&mut self, at: Duration, outcome: OutcomeKind, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = bucket(micros);
        self.seconds.add(at, outcome, micros, place);
        self.minutes.add(at, outcome, micros, place);
    }

    /// Returns the last minute at `now`, counted from the same origin.
    pub fn last_minute(&self, now: Duration) -> Window {
        self.seconds.window(now)
    }

    /// Returns the last hour at `now`.
    pub fn last_hour(&self, now: Duration) -> Window {
        self.minutes.window(now)
    }
}

impl Default for Rolling {
    fn default() -> Self {
        Self::new()
    }
}

struct Ring {
    /// The length of a slot in seconds.
    span: u64,
    slots: Vec<Slot>,
}

#[derive(Clone)]
struct Slot {
    /// The number of the span that it counts, from the origin.
    tick: u64,
    delivered: u64,
    failed: u64,
    longest: u64,
    buckets: [u32; BUCKETS],
}

impl Ring {
    fn new(span: u64) -> Self {
        let empty = Slot { tick: 0, delivered: 0, failed: 0, longest: 0, buckets: [0; BUCKETS] };
        Self { span, slots: vec![empty; SLOTS] }
    }

    fn tick(&self, at: Duration) -> u64 {
        at.as_secs() / self.span
    }

    fn add(&mut self, at: Duration, outcome: OutcomeKind, micros: u64, place: usize) {
        let tick = self.tick(at);
        let Some(slot) = self.slots.get_mut((tick % SLOTS as u64) as usize) else { return };
        if slot.tick > tick {
            // the attempt arrived so late that its slot is already reused, and it belongs to no window
            return;
        }
        if slot.tick < tick {
            *slot = Slot { tick, delivered: 0, failed: 0, longest: 0, buckets: [0; BUCKETS] };
        }
        match outcome {
            OutcomeKind::Delivered => slot.delivered += 1,
            OutcomeKind::Failed => slot.failed += 1,
            OutcomeKind::Retry | OutcomeKind::Expired | OutcomeKind::Cancelled => {}
        }
        slot.longest = slot.longest.max(micros);
        if let Some(count) = slot.buckets.get_mut(place) {
            *count += 1;
        }
    }

    fn window(&self, now: Duration) -> Window {
        let newest = self.tick(now);
        let (mut delivered, mut failed, mut longest) = (0, 0, 0);
        let mut buckets = [0_u64; BUCKETS];
        let is_in = |slot: &&Slot| slot.tick <= newest && slot.tick + SLOTS as u64 > newest;
        for slot in self.slots.iter().filter(is_in) {
            delivered += slot.delivered;
            failed += slot.failed;
            longest = longest.max(slot.longest);
            buckets.iter_mut().zip(slot.buckets).for_each(|(sum, count)| *sum += u64::from(count));
        }
        let attempts = buckets.iter().sum();
        let latency = (attempts > 0).then(|| latency(&buckets, attempts, longest));
        Window { attempts, delivered, failed, latency }
    }
}

fn latency(buckets: &[u64; BUCKETS], attempts: u64, longest: u64) -> Latency {
    let of = |percent: u64| {
        // nearest-rank method, with ranks from 1
        let rank = (attempts * percent).div_ceil(100);
        let mut seen = 0;
        let place = buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        Duration::from_micros(place.map_or(longest, |place| upper_edge(place).min(longest)))
    };
    Latency { p50: of(50), p95: of(95), p99: of(99), max: Duration::from_micros(longest) }
}

/// Returns the bucket of a latency. Each doubling has [`PARTS`] buckets of equal width.
fn bucket(micros: u64) -> usize {
    let micros = micros.clamp(1 << SHORTEST, (1 << LONGEST) - 1);
    let doubling = micros.ilog2();
    let part = (micros >> (doubling - PARTS.ilog2())) - PARTS;
    (u64::from(doubling - SHORTEST) * PARTS + part) as usize
}

/// Returns the longest latency of a bucket.
fn upper_edge(place: usize) -> u64 {
    let (doubling, part) = (place as u64 / PARTS, place as u64 % PARTS);
    if place + 1 == BUCKETS {
        // this bucket also counts all longer latencies
        return u64::MAX;
    }
    ((PARTS + part + 1) << (doubling + u64::from(SHORTEST - PARTS.ilog2()))) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = OutcomeKind> {
        use OutcomeKind::{Delivered, Expired, Failed, Retry};
        prop_oneof![Just(Delivered), Just(Retry), Just(Failed), Just(Expired)]
    }

    /// Generates latencies of all magnitudes.
    fn took() -> impl Strategy<Value = u64> {
        (0u32..34, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    /// Computes the expected window from a list of all attempts.
    fn naive(all: &[(u64, OutcomeKind, u64)], now: u64, span: u64) -> (Vec<u64>, u64, u64) {
        let ticks = |at: u64| at / span;
        let is_in = |at: u64| ticks(at) <= ticks(now) && ticks(now) - ticks(at) < SLOTS as u64;
        let within: Vec<_> = all.iter().filter(|(at, ..)| is_in(*at)).collect();
        let count = |kind| within.iter().filter(|(_, outcome, _)| *outcome == kind).count() as u64;
        let mut took: Vec<u64> = within.iter().map(|(.., took)| *took).collect();
        took.sort_unstable();
        (took, count(OutcomeKind::Delivered), count(OutcomeKind::Failed))
    }

    fn check(window: &Window, (took, delivered, failed): (Vec<u64>, u64, u64)) -> Result<(), TestCaseError> {
        prop_assert_eq!(window.attempts, took.len() as u64);
        prop_assert_eq!((window.delivered, window.failed), (delivered, failed));
        prop_assert_eq!(window.latency.is_some(), !took.is_empty());
        let Some(latency) = window.latency else { return Ok(()) };
        let longest = took[took.len() - 1];
        prop_assert_eq!(latency.max, Duration::from_micros(longest));
        for (percent, shown) in [(50, latency.p50), (95, latency.p95), (99, latency.p99)] {
            let exact = took[(took.len() * percent).div_ceil(100) - 1];
            let shown = u64::try_from(shown.as_micros()).unwrap();
            prop_assert!(shown >= exact, "p{percent}: {shown} for {exact}");
            let most = exact + (exact / PARTS).max(upper_edge(0));
            prop_assert!(shown <= most || exact >= (7 << (LONGEST - 3)), "p{percent}: {shown} for {exact}");
        }
        Ok(())
    }

    proptest! {
        /// Compares with a list of all attempts. Time advances in steps of any size, and attempts may arrive a little
        /// late.
        #[test]
        fn a_window_holds_what_a_list_of_all_attempts_says(
            steps in proptest::collection::vec((0u64..9, 0u64..5, outcome(), took()), 1..200),
            strides in (0u64..4, 0u64..900),
            idle in 0u64..4000,
        ) {
            let (mut rolling, mut all, mut now) = (Rolling::new(), Vec::new(), 100);
            for (step, late, outcome, took) in steps {
                now += if step == 0 { strides.1 } else { step.saturating_sub(9 - strides.0) };
                let at = now - late;
                rolling.add(Duration::from_secs(at), outcome, Duration::from_micros(took));
                all.push((at, outcome, took));
                check(&rolling.last_minute(Duration::from_secs(now)), naive(&all, now, 1))?;
                check(&rolling.last_hour(Duration::from_secs(now)), naive(&all, now, 60))?;
            }
            let later = now + idle;
            check(&rolling.last_minute(Duration::from_secs(later)), naive(&all, later, 1))?;
            check(&rolling.last_hour(Duration::from_secs(later)), naive(&all, later, 60))?;
        }

        #[test]
        fn a_latency_lies_in_its_bucket(took in took()) {
            let place = bucket(took);
            prop_assert!(place < BUCKETS && took <= upper_edge(place));
            prop_assert!(place == 0 || took > upper_edge(place - 1));
        }
    }

    #[test]
    fn the_edges_follow_each_other() {
        for place in 1..BUCKETS {
            assert_eq!(bucket(upper_edge(place - 1) + 1), place);
        }
    }
}
