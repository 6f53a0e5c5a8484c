//! The parts that business events go through.

use std::sync::Arc;

use super::{Guard, Partners, channels, claim_poll, missing, terms, url_check};
use crate::clock::Clock;
use crate::config::{Config, UnknownEvents};
use crate::db::Db;
use crate::error::Result;
use crate::events::intake::{Intake, Worker};
use crate::events::usecase::Terms;
use crate::events::{self, Events};
use crate::lifecycle::Shutdown;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::notifications::intake::{self as notes, Announcer};
use crate::preferences::link::Links;
use crate::routes::Routes;
use crate::templates::{Templates, UnsubscribeUrl};

/// What takes notifications and events, and the tasks that have to be run for it.
pub(super) struct Doors {
    pub(super) notifications: Arc<Notifications>,
    pub(super) routes: Routes,
    pub(super) events: Arc<Events>,
    pub(super) templates: Templates,
    pub(super) notes: notes::Worker,
    pub(super) taking: Worker,
}

impl Doors {
    pub(super) fn new(
        config: &Config,
        (db, clock, metrics, live): (Db, Clock, Metrics, Live),
        (partners, shutdown): (&Partners, &Shutdown),
        (guard, links): (&Arc<Guard>, Option<Arc<Links>>),
    ) -> Self {
        let arrivals = Arc::clone(&partners.arrivals);
        let parts = (clock.clone(), metrics.clone(), live.clone());
        let announcer = Announcer::new(parts, (Arc::clone(&arrivals), claim_poll(config)));
        let (intake, notes) = notes::Intake::new(db.clone(), clock.clone(), announcer.clone());
        let (entrance, taking) = Intake::new(db.clone(), clock.clone(), announcer);
        let parts = (db.clone(), clock.clone(), metrics, live);
        let terms = terms(config, Arc::clone(guard), shutdown);
        // an address that can be stored can be encrypted
        let url = |links: Arc<Links>| -> UnsubscribeUrl {
            Arc::new(move |channel, address, group| links.url(channel, address, group).ok())
        };
        let templates = Templates::new(db.clone(), clock.clone()).with_links(links.map(url));
        let intake = (intake, templates.clone());
        let notifications = Arc::new(Notifications::new(parts.clone(), arrivals, intake, terms));
        let routes = routes(config, (db, clock), &templates, guard);
        let domains = (Arc::clone(&notifications), routes.clone(), templates.clone());
        let granted = Terms {
            takes_unknown: config.events.unknown == UnknownEvents::Accept,
            intake_limit: config.events.intake_limit,
        };
        let events = Arc::new(events::Events::new(parts, domains, entrance, granted));
        Self { notifications, routes, events, templates, notes, taking }
    }
}

/// The routes of a database and their templates, for a command that changes them beside a service.
///
/// # Errors
/// What of the configuration does not work.
pub fn domains_of_routes(config: &Config, db: Db) -> Result<(Templates, Routes)> {
    let templates = Templates::new(db.clone(), Clock::System);
    let guard = Arc::new(channels::guard(config)?);
    let routes = routes(config, (db, Clock::System), &templates, &guard);
    Ok((templates, routes))
}

fn routes(config: &Config, parts: (Db, Clock), templates: &Templates, guard: &Arc<Guard>) -> Routes {
    Routes::new(parts, templates.clone(), missing(config), Arc::new(url_check(Arc::clone(guard))))
}
