//! Wires scheduled HTTP requests, once and recurring.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::Notify;

use super::engine::EngineAccess;
use super::wiring::Wiring;
use crate::config::Role;
use crate::dead_letters::DeadLetters;
use crate::requests::intake::RequestIntake;
use crate::requests::recurring::timekeeper::Timekeeper;
use crate::requests::{Recurring, Requests};

/// Starts the intake, and the timekeeper on a node that may send, and adds the services.
pub(super) fn start(wiring: &mut Wiring, engine: &EngineAccess, letters: DeadLetters) {
    let (runtime, arrivals) = (wiring.runtime.clone(), &engine.arrivals);
    let (intake, stores) = RequestIntake::new(runtime.clone(), Arc::clone(arrivals));
    wiring.supervise_while_used("requests", stores.run());
    let config = &wiring.config;
    let (delays, poll) = (config.request.retry_delays.clone(), config.delivery.poll);
    let requests = Arc::new(Requests::new(
        runtime.clone(),
        (Arc::clone(&wiring.guard), Arc::clone(arrivals)),
        (Arc::clone(&wiring.credentials), letters),
        delays.clone(),
        (intake, config.request.intake_limit),
    ));
    let wake = Arc::new(Notify::new());
    if config.node.role != Role::Api {
        let timekeeper = Timekeeper::new(runtime.clone(), Arc::clone(arrivals), (Arc::clone(&wake), poll));
        let shutdown = wiring.shutdown.clone();
        wiring.supervise("timekeeper", timekeeper.run(shutdown));
    }
    let recurring = Recurring::new(runtime, (Arc::clone(&requests), Arc::clone(arrivals)), wake, delays);
    wiring.services.add(web::Data::from(requests));
    wiring.services.add(web::Data::new(recurring));
}
