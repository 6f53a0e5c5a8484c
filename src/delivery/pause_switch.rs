//! The pause switch of this node: on while sending is paused for the whole installation.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;
use tokio::sync::watch;

/// Holds back all attempts while sending is paused.
#[derive(Debug)]
pub struct PauseSwitch {
    shut: watch::Sender<bool>,
    /// The number of times that it was set by a request, so that an older read of the database does not undo a request.
    turns: AtomicU64,
    /// `fanfare_sending_paused`
    gauge: IntGauge,
}

impl PauseSwitch {
    /// Creates the switch with the state that the database has at the start.
    pub fn new(is_shut: bool, gauge: IntGauge) -> Self {
        gauge.set(i64::from(is_shut));
        Self { shut: watch::Sender::new(is_shut), turns: AtomicU64::new(0), gauge }
    }

    /// Sets the state by a request. Returns true if the state changed.
    pub fn turn(&self, is_shut: bool) -> bool {
        self.shut.send_if_modified(|shut| {
            self.turns.fetch_add(1, Ordering::AcqRel);
            self.gauge.set(i64::from(is_shut));
            std::mem::replace(shut, is_shut) != is_shut
        })
    }

    /// Returns the number of times that it was set by a request. Call this before reading the database.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Sets the state that was read from the database after `turns` requests; ignored if another request came since.
    /// Returns true if the state changed.
    pub fn follow(&self, is_shut: bool, turns: u64) -> bool {
        self.shut.send_if_modified(|shut| {
            if self.turns() != turns {
                return false;
            }
            self.gauge.set(i64::from(is_shut));
            std::mem::replace(shut, is_shut) != is_shut
        })
    }

    /// Returns true if no attempt may begin.
    pub fn is_shut(&self) -> bool {
        *self.shut.borrow()
    }

    /// Waits until attempts may begin.
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
    fn it_holds_until_it_is_opened_and_sets_its_gauge() {
        let gauge = IntGauge::new("paused", "help").unwrap();
        let valve = PauseSwitch::new(true, gauge.clone());
        assert!(valve.is_shut() && gauge.get() == 1 && valve.opened().now_or_never().is_none());
        assert!(valve.turn(false) && !valve.turn(false));
        assert!(!valve.is_shut() && gauge.get() == 0 && valve.opened().now_or_never().is_some());
    }

    #[test]
    fn a_read_from_before_a_request_does_not_undo_the_request() {
        let gauge = IntGauge::new("paused", "help").unwrap();
        let valve = PauseSwitch::new(false, gauge.clone());
        let before = valve.turns();
        assert!(valve.turn(true));
        assert!(!valve.follow(false, before) && valve.is_shut() && gauge.get() == 1);
        assert!(valve.follow(false, valve.turns()) && !valve.is_shut() && gauge.get() == 0);
    }
}
