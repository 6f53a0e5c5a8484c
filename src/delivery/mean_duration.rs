//! The mean duration of a channel's deliveries, from which the end of a mailing is estimated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The mean duration of the delivering attempts since the start.
#[derive(Debug, Default)]
pub struct MeanDuration {
    count: AtomicU64,
    micros: AtomicU64,
}

impl MeanDuration {
    /// Counts a delivering attempt that took this long.
    pub fn add(&self, took: Duration) {
        let micros = (took + Duration::from_nanos(500)).as_micros();
        self.micros.fetch_add(u64::try_from(micros).unwrap_or_default(), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the mean in seconds; `None` before the first delivery.
    pub fn seconds(&self) -> Option<f64> {
        let count = self.count.load(Ordering::Relaxed);
        let micros = self.micros.load(Ordering::Relaxed);
        (count > 0).then(|| micros as f64 / 1e6 / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_all_deliveries() {
        let mean = MeanDuration::default();
        assert_eq!(mean.seconds(), None);
        for micros in [100, 200, 600] {
            mean.add(Duration::from_micros(micros));
        }
        assert!((mean.seconds().unwrap() - 300e-6).abs() < 1e-9);
    }
}
