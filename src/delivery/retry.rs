//! Retry schedules: by default 1, 2 and 4 seconds after a failure, never past the message's window.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::db::types::Timestamp;

/// A retry schedule.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    delays: Vec<Duration>,
}

/// The retry schedules of one channel.
#[derive(Debug, Clone)]
pub struct Retries {
    /// The schedule of mailings' messages.
    pub mailing: RetryPolicy,
    /// The schedule of standalone messages without their own.
    pub single: RetryPolicy,
}

/// The next step after a transient failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// Another attempt, not before this time.
    At(Timestamp),
    /// The end: the schedule has no more attempts.
    Exhausted,
    /// The end: the window would be closed by the next attempt.
    PastWindow,
}

impl RetryPolicy {
    /// Creates a schedule of these delays, one before each further attempt.
    pub fn new(delays: Vec<Duration>) -> Self {
        Self { delays }
    }

    /// Returns the delays, one before each further attempt.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// Parses the stored form, a JSON array of milliseconds.
    pub fn from_json(text: &str) -> Option<Self> {
        let millis: Vec<u64> = serde_json::from_str(text).ok()?;
        Some(Self::new(millis.into_iter().map(Duration::from_millis).collect()))
    }

    /// Creates a schedule of `limit` delays. The first is `first`, and each of the others is `factor` times the one
    /// before.
    pub fn exponential(first: Duration, factor: f32, limit: usize) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_factor(factor)
            .with_max_delay(Duration::from_secs(24 * 60 * 60))
            .with_max_times(limit);
        Self { delays: builder.build().collect() }
    }

    /// Returns the next step after attempt number `attempts` failed at `failed_at`.
    ///
    /// `retry_after` comes from the provider. It makes a delay longer, never shorter.
    pub fn next(
        &self,
        attempts: i16,
        failed_at: Timestamp,
        retry_after: Option<Duration>,
        ends_at: Option<Timestamp>,
    ) -> NextAttempt {
        let index = usize::try_from(attempts - 1).unwrap_or(0);
        let Some(delay) = self.delays.get(index) else {
            return NextAttempt::Exhausted;
        };
        let at = failed_at.plus((*delay).max(retry_after.unwrap_or_default()));
        if ends_at.is_some_and(|ends_at| at >= ends_at) {
            NextAttempt::PastWindow
        } else {
            NextAttempt::At(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seed() -> RetryPolicy {
        RetryPolicy::exponential(Duration::from_secs(1), 2.0, 3)
    }

    #[test]
    fn the_default_waits_one_two_and_four_seconds() {
        let at = Timestamp::from_micros(0);
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4)] {
            assert_eq!(
                seed().next(attempt, at, None, None),
                NextAttempt::At(at.plus(Duration::from_secs(seconds)))
            );
        }
        assert_eq!(seed().next(4, at, None, None), NextAttempt::Exhausted);
    }

    #[test]
    fn a_retry_at_the_very_end_of_the_window_is_too_late() {
        let at = Timestamp::from_micros(0);
        let end = at.plus(Duration::from_secs(1));
        assert_eq!(seed().next(1, at, None, Some(end)), NextAttempt::PastWindow);
        assert_ne!(
            seed().next(1, at, None, Some(end.plus(Duration::from_micros(1)))),
            NextAttempt::PastWindow
        );
    }

    proptest! {
        /// For a message that always fails, with any schedule: the delays never get shorter, no attempt is past the
        /// window, and it ends after all attempts of the schedule, or because of the window.
        #[test]
        fn a_message_that_always_fails_comes_to_an_end_in_its_window(
            first in 1u64..5_000, factor in 1.0f32..4.0, limit in 0usize..8, room in 0u64..600_000,
            took in proptest::collection::vec((0u64..12_000, proptest::option::of(0u64..60)), 9),
        ) {
            let policy = RetryPolicy::exponential(Duration::from_millis(first), factor, limit);
            let ends_at = Timestamp::from_micros(0).plus(Duration::from_millis(room));
            let (mut at, mut attempts, mut last) = (Timestamp::from_micros(0), 0_i16, Duration::ZERO);
            let end = loop {
                prop_assert!(attempts == 0 || at < ends_at, "an attempt past the window");
                attempts += 1;
                let (took, wish) = took[usize::try_from(attempts - 1).unwrap()];
                let failed_at = at.plus(Duration::from_millis(took));
                match policy.next(attempts, failed_at, wish.map(Duration::from_secs), Some(ends_at)) {
                    NextAttempt::At(next) => {
                        let delay = policy.delays[usize::try_from(attempts - 1).unwrap()];
                        // times have a precision of a microsecond
                        let waited = next.since(failed_at) + Duration::from_micros(1);
                        prop_assert!(delay >= last && waited > delay);
                        (at, last) = (next, delay);
                    }
                    end @ (NextAttempt::Exhausted | NextAttempt::PastWindow) => break (end, failed_at, wish),
                }
            };
            match end {
                (NextAttempt::Exhausted, ..) => prop_assert_eq!(usize::try_from(attempts).unwrap(), limit + 1),
                (_, failed_at, wish) => {
                    let delay = policy.delays[usize::try_from(attempts - 1).unwrap()];
                    let wish = Duration::from_secs(wish.unwrap_or_default());
                    prop_assert!(failed_at.plus(delay.max(wish)) >= ends_at, "there was room");
                }
            }
        }

        #[test]
        fn no_retry_is_early_or_past_the_window(
            attempts in 1i16..6, failed in 0i64..1_000_000_000, after in proptest::option::of(0u64..100), room in 0i64..20_000_000,
        ) {
            let failed_at = Timestamp::from_micros(failed);
            let ends_at = Timestamp::from_micros(failed + room);
            let asked = after.map(Duration::from_secs);
            if let NextAttempt::At(at) = seed().next(attempts, failed_at, asked, Some(ends_at)) {
                let backoff = Duration::from_secs(1 << (attempts - 1));
                prop_assert!(at.since(failed_at) >= backoff.max(asked.unwrap_or_default()));
                prop_assert!(at < ends_at && attempts <= 3);
            }
        }
    }
}
