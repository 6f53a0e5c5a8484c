//! The only place that asks what time it is, so that tests can say what time it is, and so that all nodes of a database
//! agree on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::db::types::Timestamp;

/// Smaller corrections are noise of the measurement.
const NOISE: Duration = Duration::from_millis(20);

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clock, in UTC.
    System,
    /// A clock that stands still until it is set (microseconds since the epoch).
    Manual(Arc<AtomicI64>),
    /// A system's clock that is wrong by so many microseconds; for tests.
    Wrong(i64),
    /// A clock that is corrected to the database's.
    Corrected {
        /// This machine's.
        own: Box<Clock>,
        /// Microseconds to add.
        by: Arc<AtomicI64>,
    },
}

impl Clock {
    /// A clock that stands at `at` until [`Clock::set`] moves it.
    pub fn manual(at: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(at.micros())))
    }

    /// This clock, to be corrected by [`Clock::compare`]; a manual one stays as it is.
    #[must_use]
    pub fn corrected(self) -> Self {
        match self {
            own @ (Self::System | Self::Wrong(_)) => {
                Self::Corrected { own: Box::new(own), by: Arc::default() }
            }
            other => other,
        }
    }

    /// The present moment, cut to the microsecond, as the databases keep it.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Self::System => Timestamp::from_datetime(chrono::Utc::now()),
            Self::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::SeqCst)),
            Self::Wrong(by) => Timestamp::from_micros(Self::System.now().micros().saturating_add(*by)),
            Self::Corrected { own, by } => {
                Timestamp::from_micros(own.now().micros().saturating_add(by.load(Ordering::Acquire)))
            }
        }
    }

    /// Returns the time of this machine's clock, without a correction.
    pub fn own(&self) -> Timestamp {
        match self {
            Self::Corrected { own, .. } => own.now(),
            other => other.now(),
        }
    }

    /// Compares this machine's clock with the database's, which said `time` between two looks at [`Clock::own`], and
    /// corrects [`Clock::now`]. Returns how many seconds this machine is ahead.
    pub fn compare(&self, (before, time, after): (Timestamp, Timestamp, Timestamp)) -> f64 {
        let uncertain = after.since(before) / 2;
        let behind = time.micros().saturating_sub(before.plus(uncertain).micros());
        if let Self::Corrected { by, .. } = self {
            let change = behind.saturating_sub(by.load(Ordering::Acquire)).unsigned_abs();
            if Duration::from_micros(change) > NOISE + uncertain {
                by.store(behind, Ordering::Release);
            }
        }
        -(behind as f64) / 1e6
    }

    /// Moves a manual clock; the system's clock does not move.
    pub fn set(&self, at: Timestamp) {
        if let Self::Manual(micros) = self {
            micros.store(at.micros(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_shows_the_databases_time_and_by_how_much_it_is_wrong() {
        for wrong in [300_000_000, -300_000_000] {
            let clock = Clock::Wrong(wrong).corrected();
            let (before, time, after) = (clock.own(), Clock::System.now(), clock.own());
            let ahead = clock.compare((before, time, after));
            assert!((ahead - wrong as f64 / 1e6).abs() < 1.0, "{ahead}");
            let error = clock.now().micros() - Clock::System.now().micros();
            assert!(error.abs() < 1_000_000, "{error}");
        }
    }

    #[test]
    fn noise_of_the_measurement_does_not_move_the_time() {
        let clock = Clock::System.corrected();
        let at = clock.own();
        let (later, latest) = (at.plus(Duration::from_millis(60)), at.plus(Duration::from_millis(80)));
        clock.compare((at, later, latest));
        assert!(matches!(&clock, Clock::Corrected { by, .. } if by.load(Ordering::Acquire) == 0));
    }
}
