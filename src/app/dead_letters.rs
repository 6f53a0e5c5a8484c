//! Wires dead letters, their replays, and the brokers that write some of them.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::Notify;

use super::broker;
use super::engine::EngineAccess;
use super::wiring::Wiring;
use crate::config::Role;
use crate::dead_letters::DeadLetters;
use crate::dead_letters::replayer::Replayer;
use crate::dead_letters::usecase::ReplayNotifiers;
use crate::error::Result;
use crate::events::Events;
use crate::events::handler::broker::FromBroker;

/// Starts replays and brokers on a node that may, and adds the service.
///
/// # Errors
/// [`crate::error::Error::Invalid`] for an invalid setting of a broker.
pub(super) fn start(wiring: &mut Wiring, engine: &EngineAccess, events: &Arc<Events>) -> Result<DeadLetters> {
    let (config, background) = (&wiring.config, wiring.background.clone());
    let (replay_rate, poll, role) = (config.dead_letters.replay_rate, config.delivery.poll, config.node.role);
    let told = ReplayNotifiers {
        wakeup: Arc::clone(&engine.wakeup),
        arrivals: Arc::clone(&engine.arrivals),
        live: background.live.clone(),
        metrics: background.metrics.clone(),
    };
    let (db, clock, most_tries) = (background.db.clone(), background.clock.clone(), config.kafka.tries);
    let from_broker = Arc::new(FromBroker::new(Arc::clone(events), db, clock, most_tries));
    let wake = Arc::new(Notify::new());
    if role != Role::Api {
        let replayer =
            Replayer::new(background, told.clone(), from_broker.clone(), (Arc::clone(&wake), poll));
        let shutdown = wiring.shutdown.clone();
        wiring.supervise("replayer", replayer.run(shutdown));
        broker::start(wiring, Arc::clone(events), from_broker.clone())?;
    }
    let letters = DeadLetters::new(wiring.runtime.clone(), told, from_broker, (wake, replay_rate));
    wiring.services.add(web::Data::new(letters.clone()));
    Ok(letters)
}
