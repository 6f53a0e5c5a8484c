//! The use cases of routes.

use std::collections::HashMap;
use std::sync::Arc;

use super::cache::RouteCache;
use super::model::{
    CompiledRoute, Condition, MOST_DELIVERIES, MOST_ROUTES, NewDelivery, PAYLOAD, Route, RouteChanges,
    RouteDelivery, USER, duration,
};
use super::pattern::{EventName, Pattern};
use super::repo;
use crate::clients::reach;
use crate::clock::Clock;
use crate::db::types::RouteId;
use crate::db::{AnyConnection, Db};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Created, IdempotentResponse, Mode};
use crate::kinds::{AddressSyntax, ChannelKind, Priority, description, group};
use crate::paging;
use crate::templates::Templates;

/// Validates a URL; the error is the reason for refusing it.
pub type UrlCheck = Arc<dyn Fn(&str) -> std::result::Result<(), String> + Send + Sync>;

/// The routes of one database; cloning it is cheap.
#[derive(Clone)]
pub struct Routes {
    db: Db,
    clock: Clock,
    templates: Templates,
    /// The message for each channel that has no provider.
    missing: Arc<HashMap<ChannelKind, String>>,
    check_url: UrlCheck,
    book: Arc<RouteCache>,
}

/// The result of [`Routes::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutResult {
    /// The route is new.
    Created,
    /// A different route was replaced.
    Replaced,
    /// An equal route existed, or a different one that must not be replaced.
    Kept,
}

impl Routes {
    /// Creates the service. `missing` has the message for each channel without a provider.
    pub fn new(
        db: Db,
        clock: Clock,
        templates: Templates,
        missing: HashMap<ChannelKind, String>,
        check_url: UrlCheck,
    ) -> Self {
        Self { db, clock, templates, missing: Arc::new(missing), check_url, book: Arc::default() }
    }

    /// Returns the message for the first of these deliveries whose channel has no provider.
    pub fn missing_provider(&self, deliveries: &[NewDelivery]) -> Option<&str> {
        let channels = deliveries.iter().filter_map(|draft| ChannelKind::to_people(&draft.channel).ok());
        channels.filter_map(|channel| self.missing.get(&channel)).map(String::as_str).next()
    }

    /// Returns all routes from the cache. Changes by other nodes appear within a second.
    ///
    /// # Errors
    /// Database errors.
    pub async fn known(&self) -> Result<Arc<Vec<CompiledRoute>>> {
        self.book.routes(&self.db).await
    }

    /// Creates a route. `answer` builds the response to the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each wrong field, [`Error::Conflict`] if another route has this event, or if there are
    /// too many routes.
    pub async fn create(
        &self,
        new: RouteChanges,
        mode: Mode,
        answer: impl FnOnce(&Route) -> Result<IdempotentResponse>,
    ) -> Result<Created<Route>> {
        let route = self.make(new).await?;
        let answer = answer(&route)?;
        let (now, id) = (self.clock.now(), route.id.0);
        let store = move |c: &mut AnyConnection| insert(c, &route).map(|()| route);
        let made = idempotency::create(&self.db, (mode, id), now, answer, store).await?;
        self.book.forget();
        Ok(made)
    }

    async fn make(&self, new: RouteChanges) -> Result<Route> {
        let now = self.clock.now();
        let CheckedRoute { event, description, group, transactional, enabled, deliveries } =
            self.check(new).await?;
        Ok(Route {
            id: RouteId::new(),
            event: event.ok_or_else(|| Error::invalid("event", "is missing"))?,
            description: description.flatten(),
            group: group.flatten(),
            transactional: transactional.unwrap_or(false),
            enabled: enabled.unwrap_or(true),
            deliveries: deliveries.ok_or_else(|| Error::invalid("deliveries", "is missing"))?,
            created_at: now,
            updated_at: now,
        })
    }

    /// Creates a route unless one with its event exists. `is_replacing` replaces an existing route that differs.
    ///
    /// # Errors
    /// The errors of [`Routes::create`].
    pub async fn put(&self, new: RouteChanges, is_replacing: bool) -> Result<PutResult> {
        let route = self.make(new).await?;
        let store = move |c: &mut AnyConnection| {
            let Some(known) = repo::find_by_event(c, route.event.as_str())? else {
                return insert(c, &route).map(|()| PutResult::Created);
            };
            let same =
                Route { id: known.id, created_at: known.created_at, updated_at: known.updated_at, ..route };
            if same == known || !is_replacing {
                return Ok(PutResult::Kept);
            }
            let updated_at = route.updated_at;
            repo::update(c, &Route { updated_at, ..same })?;
            Ok(PutResult::Replaced)
        };
        let put = self.db.write(store).await?;
        self.book.forget();
        Ok(put)
    }

    /// Returns the route with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: RouteId) -> Result<Route> {
        self.db.read(move |c| repo::find(c, id)).await?.ok_or_else(|| not_found(id))
    }

    /// Returns the routes after `cursor`, in the order of creation, and the next cursor.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(&self, cursor: Option<RouteId>, limit: i64) -> Result<(Vec<Route>, Option<RouteId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&RouteId>, count| repo::list(c, after.copied(), count);
            paging::page_of(limit, cursor, part, |route| route.id)
        };
        self.db.read(read).await
    }

    /// Changes the given fields. Events that were accepted before are not affected.
    ///
    /// # Errors
    /// [`Error::NotFound`], and the errors of [`Routes::create`].
    pub async fn patch(&self, id: RouteId, changes: RouteChanges) -> Result<Route> {
        let CheckedRoute { event, description, group, transactional, enabled, deliveries } =
            self.check(changes).await?;
        let now = self.clock.now();
        let change = move |c: &mut AnyConnection| {
            let known = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            let route = Route {
                event: event.unwrap_or(known.event),
                description: description.unwrap_or(known.description),
                group: group.unwrap_or(known.group),
                transactional: transactional.unwrap_or(known.transactional),
                enabled: enabled.unwrap_or(known.enabled),
                deliveries: deliveries.unwrap_or(known.deliveries),
                updated_at: now,
                ..known
            };
            repo::update(c, &route)?;
            Ok(route)
        };
        let route = self.db.write(change).await?;
        self.book.forget();
        Ok(route)
    }

    /// Deletes a route. Events that were accepted before are not affected.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, id: RouteId) -> Result<()> {
        let is_gone = self.db.write(move |c| repo::delete(c, id)).await?;
        self.book.forget();
        if is_gone { Ok(()) } else { Err(not_found(id)) }
    }

    async fn check(&self, changes: RouteChanges) -> Result<CheckedRoute> {
        let mut wrong = Complaints::default();
        let event = changes.event.and_then(|text| wrong.check("event", text.parse::<Pattern>()));
        if let Some(Some(text)) = &changes.description {
            wrong.check("description", description(text));
        }
        let group = changes.group.map(|text| text.and_then(|text| wrong.check("group", group(&text))));
        let mut deliveries = None;
        if let Some(drafts) = changes.deliveries {
            if !(1..=MOST_DELIVERIES).contains(&drafts.len()) {
                wrong.add("deliveries", format!("must be 1 to {MOST_DELIVERIES}"));
            }
            let mut read = Vec::with_capacity(drafts.len());
            for (index, draft) in drafts.into_iter().take(MOST_DELIVERIES).enumerate() {
                read.extend(self.delivery(draft, &format!("deliveries[{index}]"), &mut wrong).await?);
            }
            deliveries = Some(read);
        }
        wrong.finish()?;
        let (description, transactional, enabled) =
            (changes.description, changes.transactional, changes.enabled);
        Ok(CheckedRoute { event, description, group, transactional, enabled, deliveries })
    }

    async fn delivery(
        &self,
        draft: NewDelivery,
        at: &str,
        wrong: &mut Complaints,
    ) -> Result<Option<RouteDelivery>> {
        let field = |name: &str| format!("{at}.{name}");
        let channel = wrong.check(&field("channel"), ChannelKind::to_people(&draft.channel));
        if let Some(why) = channel.and_then(|channel| self.missing.get(&channel)) {
            wrong.add(field("channel"), why.clone());
        }
        let target = draft.target.unwrap_or_else(|| USER.to_owned());
        wrong.check(&field("target"), is_target(&target));
        let recipient = match (channel, draft.recipient) {
            (Some(channel), Some(text)) => {
                let address = wrong.check(&field("recipient"), reach::parse(channel, &text));
                if let (AddressSyntax::Url, Some(url)) = (channel.spec().address, &address) {
                    wrong.check(&field("recipient"), (self.check_url)(url));
                }
                address
            }
            _ => None,
        };
        if let Some(channel) = channel {
            match &draft.template {
                Some(name) => {
                    wrong.gather(self.templates.named(&field("template"), name, channel).await)?;
                }
                None if channel.spec().carries_events => {}
                None => wrong.add(field("template"), needs_template()),
            }
        }
        let priority = draft.priority.map(|word| wrong.check(&field("priority"), word.parse::<Priority>()));
        for (name, text) in [("delay", &draft.delay), ("expires_after", &draft.expires_after)] {
            if let Some(text) = text {
                wrong.check(&field(name), duration(text));
            }
        }
        if let Some(text) = &draft.condition {
            wrong.check(&field("condition"), Condition::parse(text));
        }
        Ok(channel.map(|channel| RouteDelivery {
            channel,
            target,
            recipient,
            template: draft.template,
            priority: priority.flatten().unwrap_or(Priority::Normal),
            delay: draft.delay,
            expires_after: draft.expires_after,
            condition: draft.condition,
        }))
    }
}

/// Validated [`RouteChanges`].
struct CheckedRoute {
    event: Option<Pattern>,
    description: Option<Option<String>>,
    group: Option<Option<String>>,
    transactional: Option<bool>,
    enabled: Option<bool>,
    deliveries: Option<Vec<RouteDelivery>>,
}

fn insert(c: &mut AnyConnection, route: &Route) -> Result<()> {
    if repo::count(c)? >= i64::try_from(MOST_ROUTES).unwrap_or(i64::MAX) {
        return Err(Error::Conflict(format!("the limit of {MOST_ROUTES} routes is reached")));
    }
    repo::insert(c, route)
}

/// Checks that a target is a role, or a path into the payload.
fn is_target(text: &str) -> std::result::Result<(), String> {
    let is_good = match text.strip_prefix(PAYLOAD) {
        // a path has the syntax of an event name
        Some(path) => text.parse::<EventName>().is_ok() && !path.is_empty(),
        None => text.parse::<EventName>().is_ok() && !text.contains('.') && text != "payload",
    };
    if is_good {
        Ok(())
    } else {
        Err("must be `user`, another role of the event's `targets`, or `payload.` and the path of a field"
            .into())
    }
}

fn not_found(id: RouteId) -> Error {
    Error::not_found("route", id)
}

/// Returns the rule for deliveries without a template.
fn needs_template() -> String {
    let carrying = ChannelKind::TO_PEOPLE.iter().filter(|channel| channel.spec().carries_events);
    let exempt: Vec<&str> = carrying.map(|channel| channel.as_str()).collect();
    format!("is required for every channel but {}", exempt.join(" and "))
}
