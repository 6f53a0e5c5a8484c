//! Counts the connections that are being opened, so that the process does not end meanwhile.
//!
//! Connections are opened on blocking threads, which continue after their caller has given up. If the process ends
//! while such a thread logs in to PostgreSQL, libpq uses a TLS library whose exit handler has already run, and crashes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest wait at the end of the process, for an unresponsive server.
const LONGEST: Duration = Duration::from_secs(2);

/// The number of connections that are being opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Opening {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more, until the returned value is dropped.
    pub(super) fn begin(&self) -> OpeningGuard<'_> {
        *self.count() += 1;
        OpeningGuard(self)
    }
}

/// A connection that is being opened.
pub(super) struct OpeningGuard<'o>(&'o Opening);

impl Drop for OpeningGuard<'_> {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.fewer.notify_all();
    }
}

/// Waits on drop for the connections that the pools still open. It is dropped after the pools.
pub(super) struct WaitForOpening(pub(super) Arc<Opening>);

impl Drop for WaitForOpening {
    fn drop(&mut self) {
        let is_opening = |count: &mut usize| *count > 0;
        drop(self.0.fewer.wait_timeout_while(self.0.count(), LONGEST, is_opening));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_end_waits_for_what_is_being_opened() {
        let opening = Arc::new(Opening::default());
        let (begun, done) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (opening, begun, done) = (Arc::clone(&opening), Arc::clone(&begun), Arc::clone(&done));
            std::thread::spawn(move || {
                let _one = opening.begin();
                begun.wait();
                std::thread::yield_now();
                done.store(true, Ordering::Release);
            })
        };
        begun.wait();
        drop(WaitForOpening(opening));
        assert!(done.load(Ordering::Acquire));
        thread.join().unwrap();
    }
}
