//! Connections that are being opened just now, so that nobody ends the process meanwhile.
//!
//! A pool opens connections on threads of its own, also for somebody who has got another one by then. If the process ends
//! while such a thread logs in to PostgreSQL, libpq works in a TLS library whose exit handler has run, and crashes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server that does not answer holds up nobody's end for longer.
const LONGEST: Duration = Duration::from_secs(2);

/// How many are being opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Opening {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, until the answer is dropped.
    pub(super) fn begin(&self) -> One<'_> {
        *self.count() += 1;
        One(self)
    }
}

/// A connection that is being opened.
pub(super) struct One<'o>(&'o Opening);

impl Drop for One<'_> {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.fewer.notify_all();
    }
}

/// Dropped after the pools, it waits for what they still open.
pub(super) struct Settled(pub(super) Arc<Opening>);

impl Drop for Settled {
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
        drop(Settled(opening));
        assert!(done.load(Ordering::Acquire));
        thread.join().unwrap();
    }
}
