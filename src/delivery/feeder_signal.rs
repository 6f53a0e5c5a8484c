//! The signal that wakes the feeder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes the feeder, and holds what it has to look at.
#[derive(Debug)]
pub struct FeederSignal {
    wake: Arc<Notify>,
    /// True if a mailing changed, so that the feeder reads all of them.
    is_mailing_changed: AtomicBool,
    /// True if a lease was done, so that a mailing may be finished.
    is_lease_done: AtomicBool,
}

impl FeederSignal {
    /// Creates the signal; the first run of the feeder looks at everything.
    pub fn new() -> Self {
        let (is_mailing_changed, is_lease_done) = (AtomicBool::new(true), AtomicBool::new(true));
        Self { wake: Arc::new(Notify::new()), is_mailing_changed, is_lease_done }
    }

    /// Returns the wake-up alone, for those who only make room in the lanes.
    pub fn waker(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// Wakes the feeder.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Wakes the feeder after a mailing changed in the database.
    pub fn mailing_changed(&self) {
        self.is_mailing_changed.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the feeder, because a mailing may be finished.
    pub fn lease_done(&self) {
        self.is_lease_done.store(true, Ordering::Release);
        self.wake();
    }

    /// Returns true if a mailing changed since the last call.
    pub fn take_mailing_changed(&self) -> bool {
        self.is_mailing_changed.swap(false, Ordering::AcqRel)
    }

    /// Returns true if a lease was done since the last call.
    pub fn take_lease_done(&self) -> bool {
        self.is_lease_done.swap(false, Ordering::AcqRel)
    }
}

impl Default for FeederSignal {
    fn default() -> Self {
        Self::new()
    }
}
