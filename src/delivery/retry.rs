//! When a message is tried again: 1, 2 and 4 seconds after a failure by default, never past its window.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::db::types::Timestamp;

/// When a message is tried again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    delays: Vec<Duration>,
}

/// The schedules of one channel.
#[derive(Debug, Clone)]
pub struct Retries {
    /// Of mailings' messages.
    pub mailing: RetryPolicy,
    /// Of notifications that have none of their own.
    pub single: RetryPolicy,
}

/// What follows a transient failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this time.
    At(Timestamp),
    /// None: every attempt was used.
    Exhausted,
    /// None: the window would be closed by then.
    PastWindow,
}

impl RetryPolicy {
    /// These delays, one before each further attempt.
    pub fn of(delays: Vec<Duration>) -> Self {
        Self { delays }
    }

    /// The delays, one before each further attempt.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// What was stored as a JSON array of milliseconds.
    pub fn from_json(text: &str) -> Option<Self> {
        let millis: Vec<u64> = serde_json::from_str(text).ok()?;
        Some(Self::of(millis.into_iter().map(Duration::from_millis).collect()))
    }

    /// `limit` delays, the first of them `first`, each `factor` times the one before.
    pub fn exponential(first: Duration, factor: f32, limit: usize) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_factor(factor)
            .with_max_delay(Duration::from_secs(24 * 60 * 60))
            .with_max_times(limit);
        Self { delays: builder.build().collect() }
    }

    /// What follows when attempt number `attempts` failed at `failed_at`.
    ///
    /// `retry_after` is the provider's wish: it makes a delay longer, never shorter.
    pub fn next(
        &self,
        attempts: i16,
        failed_at: Timestamp,
        retry_after: Option<Duration>,
        ends_at: Option<Timestamp>,
    ) -> Next {
        let index = usize::try_from(attempts - 1).unwrap_or(0);
        let Some(delay) = self.delays.get(index) else {
            return Next::Exhausted;
        };
        let at = failed_at.plus((*delay).max(retry_after.unwrap_or_default()));
        if ends_at.is_some_and(|ends_at| at >= ends_at) { Next::PastWindow } else { Next::At(at) }
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
            assert_eq!(seed().next(attempt, at, None, None), Next::At(at.plus(Duration::from_secs(seconds))));
        }
        assert_eq!(seed().next(4, at, None, None), Next::Exhausted);
    }

    #[test]
    fn a_retry_at_the_very_end_of_the_window_is_too_late() {
        let at = Timestamp::from_micros(0);
        let end = at.plus(Duration::from_secs(1));
        assert_eq!(seed().next(1, at, None, Some(end)), Next::PastWindow);
        assert_ne!(seed().next(1, at, None, Some(end.plus(Duration::from_micros(1)))), Next::PastWindow);
    }

    proptest! {
        /// The whole life of a message that always fails, by any schedule: delays that never become shorter, no attempt
        /// past the window, and as many as the schedule has, or an end that the window explains.
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
                    Next::At(next) => {
                        let delay = policy.delays[usize::try_from(attempts - 1).unwrap()];
                        // times are kept to the microsecond
                        let waited = next.since(failed_at) + Duration::from_micros(1);
                        prop_assert!(delay >= last && waited > delay);
                        (at, last) = (next, delay);
                    }
                    end => break (end, failed_at, wish),
                }
            };
            match end {
                (Next::Exhausted, ..) => prop_assert_eq!(usize::try_from(attempts).unwrap(), limit + 1),
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
            if let Next::At(at) = seed().next(attempts, failed_at, asked, Some(ends_at)) {
                let backoff = Duration::from_secs(1 << (attempts - 1));
                prop_assert!(at.since(failed_at) >= backoff.max(asked.unwrap_or_default()));
                prop_assert!(at < ends_at && attempts <= 3);
            }
        }
    }
}
