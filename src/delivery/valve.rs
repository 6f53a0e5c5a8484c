//! The valve of this node: shut while sending is paused for the whole installation.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;
use tokio::sync::watch;

/// Lets attempts begin, or none.
#[derive(Debug)]
pub struct Valve {
    shut: watch::Sender<bool>,
    /// How often it was set by hand, so that what was read before that does not undo it.
    turns: AtomicU64,
    /// `fanfare_sending_paused`
    gauge: IntGauge,
}

impl Valve {
    /// Open or shut, as the database says at the start.
    pub fn new(is_shut: bool, gauge: IntGauge) -> Self {
        gauge.set(i64::from(is_shut));
        Self { shut: watch::Sender::new(is_shut), turns: AtomicU64::new(0), gauge }
    }

    /// Shuts or opens it by hand; answers whether it was otherwise before.
    pub fn turn(&self, is_shut: bool) -> bool {
        self.shut.send_if_modified(|shut| {
            self.turns.fetch_add(1, Ordering::AcqRel);
            self.gauge.set(i64::from(is_shut));
            std::mem::replace(shut, is_shut) != is_shut
        })
    }

    /// How often it was turned; to be asked before the database is read.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Shuts or opens it as the database had it when it had been turned so often; answers whether it was otherwise before.
    pub fn follow(&self, is_shut: bool, turns: u64) -> bool {
        self.shut.send_if_modified(|shut| {
            if self.turns() != turns {
                return false;
            }
            self.gauge.set(i64::from(is_shut));
            std::mem::replace(shut, is_shut) != is_shut
        })
    }

    /// Returns whether no attempt may begin.
    pub fn is_shut(&self) -> bool {
        *self.shut.borrow()
    }

    /// Returns once attempts may begin.
    pub async fn opened(&self) {
        // the sender lives as long as this
        let _ = self.shut.subscribe().wait_for(|is_shut| !is_shut).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn it_holds_until_it_is_opened_and_shows_it() {
        let gauge = IntGauge::new("paused", "help").unwrap();
        let valve = Valve::new(true, gauge.clone());
        assert!(valve.is_shut() && gauge.get() == 1 && valve.opened().now_or_never().is_none());
        assert!(valve.turn(false) && !valve.turn(false));
        assert!(!valve.is_shut() && gauge.get() == 0 && valve.opened().now_or_never().is_some());
    }

    #[test]
    fn what_was_read_before_it_was_turned_does_not_undo_that() {
        let gauge = IntGauge::new("paused", "help").unwrap();
        let valve = Valve::new(false, gauge.clone());
        let before = valve.turns();
        assert!(valve.turn(true));
        assert!(!valve.follow(false, before) && valve.is_shut() && gauge.get() == 1);
        assert!(valve.follow(false, valve.turns()) && !valve.is_shut() && gauge.get() == 0);
    }
}
