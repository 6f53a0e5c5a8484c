//! Wires notifications, routes, events and templates.

use std::sync::Arc;

use super::{EngineDependencies, Guard, channels, claim_poll, missing, terms, url_check};
use crate::clock::Clock;
use crate::config::{Config, UnknownEvents};
use crate::db::Db;
use crate::error::Result;
use crate::events::intake::{EventIntake, Worker};
use crate::events::usecase::EventLimits;
use crate::events::{self, Events};
use crate::lifecycle::Shutdown;
use crate::notifications::Notifications;
use crate::notifications::intake::{self as notes, NotificationPublisher};
use crate::preferences::link::UnsubscribeLinks;
use crate::routes::Routes;
use crate::runtime::Runtime;
use crate::templates::{Templates, UnsubscribeUrl};

/// The services of notifications and events, with the tasks that must run for them.
pub(super) struct Dependencies {
    pub(super) notifications: Arc<Notifications>,
    pub(super) routes: Routes,
    pub(super) events: Arc<Events>,
    pub(super) templates: Templates,
    pub(super) notes: notes::Worker,
    pub(super) taking: Worker,
}

impl Dependencies {
    pub(super) fn new(
        config: &Config,
        runtime: Runtime,
        (partners, shutdown): (&EngineDependencies, &Shutdown),
        (guard, links): (&Arc<Guard>, Option<Arc<UnsubscribeLinks>>),
    ) -> Self {
        let arrivals = Arc::clone(&partners.arrivals);
        let Runtime { db, clock, .. } = &runtime;
        let announcer =
            NotificationPublisher::new(runtime.clone(), (Arc::clone(&arrivals), claim_poll(config)));
        let (intake, notes) = notes::NotificationIntake::new(db.clone(), clock.clone(), announcer.clone());
        let (entrance, taking) = EventIntake::new(db.clone(), clock.clone(), announcer);
        let terms = terms(config, Arc::clone(guard), shutdown);
        // encryption cannot fail for an address that is stored
        let url = |links: Arc<UnsubscribeLinks>| -> UnsubscribeUrl {
            Arc::new(move |channel, address, group| links.url(channel, address, group).ok())
        };
        let templates = Templates::new(db.clone(), clock.clone()).with_links(links.map(url));
        let intake = (intake, templates.clone());
        let notifications = Arc::new(Notifications::new(runtime.clone(), arrivals, intake, terms));
        let routes = routes(config, (db, clock), &templates, guard);
        let domains = (Arc::clone(&notifications), routes.clone(), templates.clone());
        let granted = EventLimits {
            takes_unknown: config.events.unknown == UnknownEvents::Accept,
            intake_limit: config.events.intake_limit,
        };
        let events = Arc::new(events::Events::new(runtime, domains, entrance, granted));
        Self { notifications, routes, events, templates, notes, taking }
    }
}

/// Returns the routes and templates of a database, for a command that changes them while a service may be running.
///
/// # Errors
/// [`Error::Invalid`] for an invalid setting.
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
