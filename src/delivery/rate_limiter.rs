//! Rate limits: one rate limiter per channel, and one schedule for each mailing with its own rate.
//!
//! Many waiters on a token bucket wake together and race (14 to 57 % too slow when measured). Here one dispatcher waits
//! for one slot after the other, and a late wake-up does not shift the following slots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Result;

/// The lag of the schedule that is caught up: a timer that fires late must not reduce the rate, and a pause must not
/// accumulate a burst. 2 % of a second keeps every sliding second within 1.03 of the rate.
const CREDIT: Duration = Duration::from_millis(20);

/// A schedule of slots, one for each send. Without a rate every slot is now.
#[derive(Debug)]
pub struct Slots {
    interval: Option<Duration>,
    next: Instant,
}

impl Slots {
    /// Creates a schedule of `rate` slots per second. The first slot is one interval from now: a restart must not allow
    /// a second burst.
    pub fn new(rate: Option<f64>) -> Self {
        let mut schedule = Self { interval: None, next: Instant::now() };
        schedule.set(rate);
        schedule
    }

    /// Changes the rate, starting with one interval of the new rate. Returns true if the rate is different.
    pub fn set(&mut self, rate: Option<f64>) -> bool {
        let interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let is_new = interval != self.interval;
        if is_new {
            self.interval = interval;
            self.next = Instant::now() + interval.unwrap_or_default();
        }
        is_new
    }

    /// Returns the next slot, if it is after `now`.
    pub fn later_than(&self, now: Instant) -> Option<Instant> {
        (self.interval.is_some() && self.next > now).then_some(self.next)
    }

    /// Returns the number of slots in this span, or `None` without a rate.
    pub fn within(&self, span: Duration) -> Option<usize> {
        self.interval.map(|interval| (span.as_secs_f64() / interval.as_secs_f64()) as usize)
    }

    /// Uses a slot at `now`.
    pub fn advance(&mut self, now: Instant) {
        if let Some(interval) = self.interval {
            let earliest = now.checked_sub(CREDIT).unwrap_or(now);
            self.next = self.next.max(earliest) + interval;
        }
    }
}

/// Reserves the next span of a schedule that several nodes share, and returns its beginning. The beginning is computed
/// in the transaction that reserves the span, before its commit: computed after a slow response, the span would overlap
/// the next node's.
pub type Reserve = Arc<dyn Fn(Duration) -> BoxFuture<'static, Result<Instant>> + Send + Sync>;

/// This node's share of a rate limit that all nodes share. It reserves blocks of slots of the common schedule, which
/// follow each other in time, so that at any moment one node sends, at the full rate. The next block is reserved while
/// the present one is used.
pub struct SharedSlots {
    reserve: Reserve,
    interval: Duration,
    size: u32,
    next: Instant,
    left: u32,
    ahead: Option<JoinHandle<Result<Instant>>>,
}

/// The length of a block: short, because slots that a node reserves and does not use are lost to the others.
const BLOCK: Duration = Duration::from_millis(200);
/// The delay before a failed reservation is retried.
const TRY_AGAIN: Duration = Duration::from_millis(250);

impl SharedSlots {
    /// Creates the share of a schedule of `rate` slots per second.
    pub fn new(rate: f64, reserve: Reserve) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let size = (BLOCK.as_secs_f64() * rate).ceil().max(1.0) as u32;
        Self { reserve, interval, size, next: Instant::now(), left: 0, ahead: None }
    }

    async fn wait(&mut self) {
        loop {
            self.drop_past();
            if self.left > 0 {
                let at = self.next;
                self.next += self.interval;
                self.left -= 1;
                // a block of one slot is reserved when it is needed: the common schedule keeps the interval anyway
                if self.left <= self.size / 2 && self.size > 1 && self.ahead.is_none() {
                    self.ahead = Some(self.ask());
                }
                return sleep_until(at).await;
            }
            let asked = self.ahead.take().unwrap_or_else(|| self.ask());
            match asked.await {
                Ok(Ok(begins)) => (self.next, self.left) = (begins, self.size),
                Ok(Err(error)) => {
                    tracing::error!(%error, "rate limit slots could not be reserved; trying again");
                    sleep(TRY_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the reservation of rate limit slots failed; trying again")
                }
            }
        }
    }

    fn ask(&self) -> JoinHandle<Result<Instant>> {
        tokio::spawn((self.reserve)(self.interval * self.size))
    }

    /// Drops the slots that were not used in time, because other nodes send by now. At a low rate a slot is valid until
    /// the next one: a slow response must not cost a whole interval.
    fn drop_past(&mut self) {
        let behind = Instant::now().saturating_duration_since(self.next + CREDIT.max(self.interval));
        let past =
            (behind.as_secs_f64() / self.interval.as_secs_f64()).ceil().min(f64::from(self.left)) as u32;
        self.next += self.interval * past;
        self.left -= past;
    }
}

/// The rate limiter of one channel.
pub enum RateLimiter {
    /// Uses a schedule of this process; without a rate it never waits.
    Alone(Slots),
    /// Uses a schedule that all nodes share.
    Together(SharedSlots),
}

impl RateLimiter {
    /// Waits for the next slot.
    pub async fn wait(&mut self) {
        match self {
            Self::Alone(schedule) => {
                if let Some(next) = schedule.later_than(Instant::now()) {
                    sleep_until(next).await;
                }
                schedule.advance(Instant::now());
            }
            Self::Together(blocks) => blocks.wait().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(rate: f64, span: Duration) -> Vec<Instant> {
        sends(RateLimiter::Alone(Slots::new(Some(rate))), span).await
    }

    async fn sends(mut pacer: RateLimiter, span: Duration) -> Vec<Instant> {
        let end = Instant::now() + span;
        let mut sends = Vec::new();
        while Instant::now() < end {
            pacer.wait().await;
            sends.push(Instant::now());
        }
        sends
    }

    /// Asserts that the mean is within one percent, and that no sliding second has more sends than the rate allows.
    fn check(rate: f64, sends: &[Instant]) {
        let expected = rate * 10.0;
        assert!((sends.len() as f64 - expected).abs() <= expected * 0.01 + 1.0, "{rate}: {}", sends.len());
        let mut first = 0;
        for (i, at) in sends.iter().enumerate() {
            while *at >= sends[first] + Duration::from_secs(1) {
                first += 1;
            }
            let within = i - first + 1;
            assert!(within as f64 <= rate * 1.03 + 1.0, "{rate}: {within} in one second");
        }
    }

    /// Uses tokio's paused clock, which jumps from deadline to deadline with a resolution of one millisecond.
    #[tokio::test(start_paused = true)]
    async fn the_mean_over_ten_seconds_is_within_one_percent_and_no_second_holds_more_than_its_share() {
        for rate in [1.0, 7.0, 100.0, 999.0, 5000.0] {
            check(rate, &count(rate, Duration::from_secs(10)).await);
        }
    }

    /// The common schedule, as the database stores it. A response takes three milliseconds, and every fourth takes
    /// sixty.
    fn ledger() -> Reserve {
        let given = Arc::new(std::sync::Mutex::new((Instant::now(), 0)));
        Arc::new(move |span| {
            let given = Arc::clone(&given);
            Box::pin(async move {
                let (begins, number) = {
                    let mut given = given.lock().unwrap();
                    let begins = given.0.max(Instant::now());
                    *given = (begins + span, given.1 + 1);
                    (begins, given.1)
                };
                sleep(Duration::from_millis(if number % 4 == 0 { 60 } else { 3 })).await;
                Ok(begins)
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_nodes_keep_one_rate_together() {
        for nodes in [1, 2, 5] {
            for rate in [1.0, 7.0, 100.0, 999.0, 5000.0] {
                let reserve = ledger();
                let node = || RateLimiter::Together(SharedSlots::new(rate, Arc::clone(&reserve)));
                let all = (0..nodes).map(|_| sends(node(), Duration::from_secs(10)));
                let mut all = futures_util::future::join_all(all).await.concat();
                all.sort();
                // without the slots of the last blocks that lie after the ten seconds
                let end = all[0] + Duration::from_secs(10);
                all.retain(|at| *at < end);
                check(rate, &all);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slots_that_a_node_does_not_use_in_time_are_lost() {
        let mut pacer = RateLimiter::Together(SharedSlots::new(100.0, ledger()));
        pacer.wait().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let began = Instant::now();
        for _ in 0..100 {
            pacer.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_reserved_by_a_slow_response_is_still_used_at_a_low_rate() {
        let reserve: Reserve = Arc::new(|_| {
            Box::pin(async {
                let begins = Instant::now();
                sleep(Duration::from_millis(300)).await;
                Ok(begins)
            })
        });
        let mut pacer = RateLimiter::Together(SharedSlots::new(1.0, reserve));
        let began = Instant::now();
        pacer.wait().await;
        assert_eq!(began.elapsed(), Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_channel_accumulates_no_burst() {
        let mut pacer = RateLimiter::Alone(Slots::new(Some(10.0)));
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        for _ in 0..10 {
            pacer.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    }
}
