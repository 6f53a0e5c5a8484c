//! Wires scheduled HTTP requests.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::{Config, Role};
use crate::credentials::Credentials;
use crate::dead_letters::DeadLetters;
use crate::egress::guard::Guard;
use crate::notifications::notifier::NewMessageNotifier;
use crate::requests::intake::{RequestIntake, Worker};
use crate::requests::recurring::timekeeper::Timekeeper;
use crate::requests::{Recurring, Requests};
use crate::runtime::Runtime;

/// The services of requests, with the tasks that must run for them.
pub(super) struct RequestDependencies {
    pub(super) requests: Arc<Requests>,
    pub(super) recurring: Recurring,
    pub(super) taking: Worker,
    /// None on a node with the role `api`.
    pub(super) timekeeper: Option<Timekeeper>,
}

impl RequestDependencies {
    pub(super) fn new(
        config: &Config,
        runtime: Runtime,
        (guard, arrivals): (Arc<Guard>, Arc<dyn NewMessageNotifier>),
        held: (Arc<Credentials>, DeadLetters),
    ) -> Self {
        let delays = config.request.retry_delays.clone();
        let (intake, taking) = RequestIntake::new(runtime.clone(), Arc::clone(&arrivals));
        let room = (intake, config.request.intake_limit);
        let asking = (guard, Arc::clone(&arrivals));
        let requests = Arc::new(Requests::new(runtime.clone(), asking, held, delays.clone(), room));
        let wake = Arc::new(Notify::new());
        let timekeeper = (config.node.role != Role::Api).then(|| {
            let ways = (Arc::clone(&wake), config.delivery.poll);
            Timekeeper::new(runtime.clone(), Arc::clone(&arrivals), ways)
        });
        let recurring = Recurring::new(runtime, (Arc::clone(&requests), arrivals), wake, delays);
        Self { requests, recurring, taking, timekeeper }
    }
}
