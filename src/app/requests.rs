//! The parts that scheduled HTTP requests go through.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::credentials::Credentials;
use crate::db::Db;
use crate::dead_letters::DeadLetters;
use crate::egress::guard::Guard;
use crate::metrics::Metrics;
use crate::notifications::usecase::Arrivals;
use crate::requests::intake::{Intake, Worker};
use crate::requests::recurring::timekeeper::Timekeeper;
use crate::requests::{Recurring, Requests};

/// What takes requests, and the tasks that have to be run for it.
pub(super) struct Asked {
    pub(super) requests: Arc<Requests>,
    pub(super) recurring: Recurring,
    pub(super) taking: Worker,
    /// Not on a node that only answers.
    pub(super) timekeeper: Option<Timekeeper>,
}

impl Asked {
    pub(super) fn new(
        config: &Config,
        parts: (Db, Clock, Metrics),
        (guard, arrivals): (Arc<Guard>, Arc<dyn Arrivals>),
        held: (Arc<Credentials>, DeadLetters),
    ) -> Self {
        let delays = config.request.retry_delays.clone();
        let (intake, taking) = Intake::new(parts.clone(), Arc::clone(&arrivals));
        let room = (intake, config.request.intake_limit);
        let asking = (guard, Arc::clone(&arrivals));
        let requests = Arc::new(Requests::new(parts.clone(), asking, held, delays.clone(), room));
        let wake = Arc::new(Notify::new());
        let timekeeper = (config.node.role != Role::Api).then(|| {
            let ways = (Arc::clone(&wake), config.delivery.poll);
            Timekeeper::new(parts.clone(), Arc::clone(&arrivals), ways)
        });
        let recurring = Recurring::new(parts, (Arc::clone(&requests), arrivals), wake, delays);
        Self { requests, recurring, taking, timekeeper }
    }
}
