//! Wires templates, notifications, routes and events.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::web;

use super::channels;
use super::engine::{EngineAccess, claim_poll};
use super::wiring::Wiring;
use crate::clock::Clock;
use crate::config::{Config, UnknownEvents};
use crate::db::Db;
use crate::egress::guard::{Guard, PlainHttp};
use crate::error::Result;
use crate::events::Events;
use crate::events::intake::EventIntake;
use crate::events::usecase::EventLimits;
use crate::kinds::ChannelKind;
use crate::lifecycle::Shutdown;
use crate::notifications::Notifications;
use crate::notifications::intake::{NotificationIntake, NotificationPublisher};
use crate::notifications::usecase::NotificationLimits;
use crate::preferences::link::UnsubscribeLinks;
use crate::routes::Routes;
use crate::templates::{Templates, UnsubscribeUrl};

/// The services of messages that other domains use.
pub(super) struct Messaging {
    pub(super) templates: Templates,
    pub(super) notifications: Arc<Notifications>,
    pub(super) events: Arc<Events>,
}

/// Starts the intakes and adds the services.
pub(super) fn start(wiring: &mut Wiring, engine: &EngineAccess) -> Messaging {
    let (runtime, arrivals) = (wiring.runtime.clone(), Arc::clone(&engine.arrivals));
    let (db, clock) = (runtime.db.clone(), runtime.clock.clone());
    let publisher =
        NotificationPublisher::new(runtime.clone(), (Arc::clone(&arrivals), claim_poll(&wiring.config)));
    let (notes, stores_notes) = NotificationIntake::new(db.clone(), clock.clone(), publisher.clone());
    let (intake, stores_events) = EventIntake::new(db.clone(), clock.clone(), publisher);
    // they end with the server, which owns the last handle to them
    wiring.supervise_while_used("intake", stores_notes.run());
    wiring.supervise_while_used("events", stores_events.run());
    let config = &wiring.config;
    // encryption cannot fail for an address that is stored
    let url = |links: Arc<UnsubscribeLinks>| -> UnsubscribeUrl {
        Arc::new(move |channel, address, group| links.url(channel, address, group).ok())
    };
    let templates =
        Templates::new(db.clone(), clock.clone()).with_links(wiring.secrets.links(config).map(url));
    let limits = limits(config, Arc::clone(&wiring.guard), &wiring.shutdown);
    let notifications =
        Arc::new(Notifications::new(runtime.clone(), arrivals, (notes, templates.clone()), limits));
    let routes = routes(config, (&db, &clock), &templates, &wiring.guard);
    let domains = (Arc::clone(&notifications), routes.clone(), templates.clone());
    let limits = EventLimits {
        takes_unknown: config.events.unknown == UnknownEvents::Accept,
        intake_limit: config.events.intake_limit,
    };
    let events = Arc::new(Events::new(runtime, domains, intake, limits));
    let services = &mut wiring.services;
    services.add(web::Data::new(templates.clone()));
    services.add(web::Data::from(Arc::clone(&notifications)));
    services.add(web::Data::new(routes));
    services.add(web::Data::from(Arc::clone(&events)));
    Messaging { templates, notifications, events }
}

/// Returns the routes and templates of a database, for a command that changes them while a service may be running.
///
/// # Errors
/// [`crate::error::Error::Invalid`] for an invalid setting.
pub fn domains_of_routes(config: &Config, db: Db) -> Result<(Templates, Routes)> {
    let templates = Templates::new(db.clone(), Clock::System);
    let guard = Arc::new(channels::guard(config)?);
    let routes = routes(config, (&db, &Clock::System), &templates, &guard);
    Ok((templates, routes))
}

fn routes(config: &Config, (db, clock): (&Db, &Clock), templates: &Templates, guard: &Arc<Guard>) -> Routes {
    Routes::new(
        db.clone(),
        clock.clone(),
        templates.clone(),
        missing(config),
        Arc::new(url_check(Arc::clone(guard))),
    )
}

/// Returns the unconfigured channels, each with the settings that it needs.
pub(super) fn missing(config: &Config) -> HashMap<ChannelKind, String> {
    let missing = |channel: &ChannelKind| Some((*channel, config.missing_provider(*channel)?));
    ChannelKind::ALL.iter().filter_map(missing).collect()
}

/// Returns the check of a URL from a user.
fn url_check(guard: Arc<Guard>) -> impl Fn(&str) -> std::result::Result<(), String> + Send + Sync {
    move |url| guard.check_url(url, PlainHttp::WithinAllowed).map(drop).map_err(|why| why.to_string())
}

/// Returns the limits of notifications.
fn limits(config: &Config, guard: Arc<Guard>, shutdown: &Shutdown) -> NotificationLimits {
    let retries = |kind: &ChannelKind| (*kind, channels::retries(config, *kind).single.delays().len());
    NotificationLimits {
        missing: missing(config),
        check_url: Box::new(url_check(guard)),
        intake_limit: config.notifications.intake_limit,
        retries: ChannelKind::ALL.iter().map(retries).collect(),
        patience: config.notifications.sync_wait,
        shutdown: shutdown.clone(),
    }
}
