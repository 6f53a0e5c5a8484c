//! The tasks that clean up, count and watch in the background.

use super::wiring::Wiring;
use crate::delivery::backlog;
use crate::{dead_letters, idempotency, inbox, people, preferences};

/// Starts the tasks.
pub(super) fn start(wiring: &mut Wiring) {
    let background = wiring.background.clone();
    let (db, clock) = (background.db.clone(), background.clock.clone());
    let shutdown = wiring.shutdown.clone();
    let keep = wiring.config.dead_letters.keep;
    wiring.supervise("sweeper", idempotency::sweep(db.clone(), clock.clone(), shutdown.clone()));
    let inboxes = inbox::usecase::sweep(db.clone(), clock.clone(), shutdown.clone());
    wiring.supervise("inbox sweeper", inboxes);
    wiring.supervise("address sweeper", preferences::usecase::sweep(db.clone(), shutdown.clone()));
    wiring.supervise("erased clients", people::usecase::sweep(db, clock, shutdown.clone()));
    let letters = dead_letters::keeper::keep(background.clone(), keep, shutdown.clone());
    wiring.supervise("dead letters", letters);
    wiring.supervise("backlog", backlog::watch(background, shutdown));
}
