//! How far a unit of work has come, known to the thread that does it and to the task that waits for it.

use std::sync::atomic::{AtomicU8, Ordering};

const COMMITTING: u8 = 1;
const ABANDONED: u8 = 2;
const ENDED: u8 = 4;

/// The state of the work when the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abandoned {
    /// The commit was begun: it may have been done.
    pub(super) is_committing: bool,
    /// The work had ended a moment before.
    pub(super) is_ended: bool,
}

/// Shared by a unit of work and whoever waits for it. Either the commit comes first, and who stops waiting cannot know its
/// outcome, or the end of the waiting does, and nothing is committed any more.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    /// Called right before the commit: false when nobody waits any more, and it must not happen.
    pub(super) fn commit(&self) -> bool {
        self.0.compare_exchange(0, COMMITTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Stops waiting.
    pub(super) fn abandon(&self) -> Abandoned {
        let before = self.0.fetch_or(ABANDONED, Ordering::AcqRel);
        Abandoned { is_committing: before & COMMITTING != 0, is_ended: before & ENDED != 0 }
    }

    /// Called when the work has ended; returns whether it was abandoned before.
    pub(super) fn end(&self) -> bool {
        self.0.fetch_or(ENDED, Ordering::AcqRel) & ABANDONED != 0
    }

    /// Returns whether the waiting has ended.
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
