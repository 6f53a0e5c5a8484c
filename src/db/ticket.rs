//! The progress of a unit of work, shared by the thread that runs it and the task that waits for it.

use std::sync::atomic::{AtomicU8, Ordering};

const COMMITTING: u8 = 1;
const ABANDONED: u8 = 2;
const ENDED: u8 = 4;

/// The state of the work when its caller gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abandoned {
    /// True if the commit had begun, so that it may have taken effect.
    pub(super) is_committing: bool,
    /// True if the work had just ended.
    pub(super) is_ended: bool,
}

/// Decides between the commit and the timeout of a unit of work. If the commit comes first, a caller that gives up
/// cannot know its outcome. If the timeout comes first, nothing is committed.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    /// Called right before the commit. Returns false if the caller has given up; the commit must not happen then.
    pub(super) fn commit(&self) -> bool {
        self.0.compare_exchange(0, COMMITTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Stops waiting.
    pub(super) fn abandon(&self) -> Abandoned {
        let before = self.0.fetch_or(ABANDONED, Ordering::AcqRel);
        Abandoned { is_committing: before & COMMITTING != 0, is_ended: before & ENDED != 0 }
    }

    /// Called when the work has ended. Returns true if it was abandoned before.
    pub(super) fn end(&self) -> bool {
        self.0.fetch_or(ENDED, Ordering::AcqRel) & ABANDONED != 0
    }

    /// Returns true if the caller has given up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) & ABANDONED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_abandoned_first_is_not_committed() {
        let ticket = Ticket::default();
        assert!(!ticket.abandon().is_committing, "nothing was committed, and nothing will be");
        assert!(!ticket.commit() && ticket.is_abandoned());
    }

    #[test]
    fn what_is_being_committed_when_the_waiting_ends_may_be_done() {
        let ticket = Ticket::default();
        assert!(ticket.commit() && ticket.abandon().is_committing && ticket.end());
    }
}
