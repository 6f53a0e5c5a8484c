//! The only source of the current time. Tests can set it, and all nodes of a database agree on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::db::types::Timestamp;

/// Corrections below this are measurement noise.
const NOISE: Duration = Duration::from_millis(20);

/// A source of the current time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clock, in UTC.
    System,
    /// A clock that does not move until it is set (microseconds since the epoch).
    Manual(Arc<AtomicI64>),
    /// The system's clock, off by this number of microseconds; for tests.
    Wrong(i64),
    /// A clock that is corrected to the database's.
    Corrected {
        /// This machine's clock.
        own: Box<Clock>,
        /// Microseconds to add.
        by: Arc<AtomicI64>,
    },
}

impl Clock {
    /// Creates a clock that shows `at` until [`Clock::set`] moves it.
    pub fn manual(at: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(at.micros())))
    }

    /// Makes this clock correctable by [`Clock::compare`]. A manual clock is returned unchanged.
    #[must_use]
    pub fn corrected(self) -> Self {
        match self {
            own @ (Self::System | Self::Wrong(_)) => {
                Self::Corrected { own: Box::new(own), by: Arc::default() }
            }
            other => other,
        }
    }

    /// Returns the current time, truncated to the microsecond, the precision of the databases.
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

    /// Compares this machine's clock with the database's, which showed `time` between two readings of [`Clock::own`],
    /// and corrects [`Clock::now`]. Returns the number of seconds by which this machine is ahead.
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

    /// Sets a manual clock. Other clocks are unchanged.
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
    fn a_wrong_clock_is_corrected_to_the_databases_time_and_reports_its_error() {
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
