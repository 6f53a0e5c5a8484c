//! What can be done with events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::intake::{Intake, NewRows};
use super::model::{Accepted, Draft, Event, EventWithNotifications, NewEvent, Plan, Skipped, Source};
use super::plan::{self, Asked, Facts, Known, Person, Place};
pub use super::repo::Filter;
use super::repo::{self, EventRow, Handle, Stored};
use super::target::Target;
use crate::clock::Clock;
use crate::db::gather::Room;
use crate::db::types::{EventId, MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::kinds::ChannelKind;
use crate::live::{Live, Waiter};
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::notifications::model::{NewNotification, To};
use crate::paging;
use crate::routes::Routes;
use crate::routes::model::Compiled;
use crate::templates::Templates;

/// The most events of one batch.
pub const LARGEST_BATCH: usize = 1000;
/// Names of events that a complaint lists.
const MOST_NAMES: usize = 50;

/// What the service grants.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Whether an event that no route is for is taken all the same, and causes nothing.
    pub takes_unknown: bool,
    /// Events that may wait for the database at once.
    pub intake_limit: usize,
}

/// The events.
pub struct Events {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    live: Live,
    notifications: Arc<Notifications>,
    routes: Routes,
    templates: Templates,
    intake: Intake,
    room: Room,
    terms: Terms,
}

/// One of a batch, as far as it could be read.
pub type Wanted = std::result::Result<NewEvent, Vec<FieldError>>;

/// The number of messages that one of a batch would cause, and those that it would not.
pub type Rehearsed = std::result::Result<(usize, Vec<Skipped>), Vec<FieldError>>;

/// What became of one of a batch.
pub type Taken = std::result::Result<Accepted, Vec<FieldError>>;

impl Events {
    /// Over this database and this intake.
    pub fn new(
        (db, clock, metrics, live): (Db, Clock, Metrics, Live),
        (notifications, routes, templates): (Arc<Notifications>, Routes, Templates),
        intake: Intake,
        terms: Terms,
    ) -> Self {
        let room = Room::new(terms.intake_limit, "events");
        Self { db, clock, metrics, live, notifications, routes, templates, intake, room, terms }
    }

    /// For how long a caller waits for the end who does not say for how long.
    pub fn patience(&self) -> Duration {
        self.notifications.patience()
    }

    /// What an event would cause, rendered, without taking it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that would be refused.
    pub async fn rehearse(&self, event: NewEvent) -> Result<Plan> {
        self.plan(&Arc::new(event), (EventId::new(), self.clock.now())).await
    }

    /// As [`Events::rehearse`], for each of these events by itself.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rehearse_all(&self, wanted: Vec<Wanted>) -> Result<Vec<Rehearsed>> {
        let mut plans = Vec::with_capacity(wanted.len());
        for event in wanted {
            let plan = match event {
                Ok(event) => self.rehearse(event).await,
                Err(fields) => Err(Error::Invalid(fields)),
            };
            plans.push(match plan {
                Ok(plan) => Ok((plan.notifications.len(), plan.skipped)),
                Err(Error::Invalid(fields)) => Err(fields),
                Err(other) => return Err(other),
            });
        }
        Ok(plans)
    }

    async fn plan(&self, event: &Arc<NewEvent>, at: (EventId, Timestamp)) -> Result<Plan> {
        let routes = self.routes.known().await?;
        let is_known = routes.iter().any(|route| route.knows(&event.name));
        if !is_known && !self.terms.takes_unknown && !event.may_be_unknown {
            let known: Vec<&str> = routes.iter().map(|route| route.route.event.as_str()).collect();
            return Err(Error::invalid("event", unknown(&known)));
        }
        let (places, skipped) = self.asked(event, &routes, at).await?;
        let asked: Vec<Asked<'_>> = places.iter().filter_map(|place| place.of(&routes)).collect();
        let targets = plan::targets(event, &asked)?;
        let templates = self.templates_of(&asked).await?;
        let people = self.people(&targets).await?;
        let notifications = Arc::clone(&self.notifications);
        let (event, has_templates) = (Arc::clone(event), !templates.is_empty());
        drop(asked);
        let plan = move || {
            let asked: Vec<Asked<'_>> = places.iter().filter_map(|place| place.of(&routes)).collect();
            let admit = |channel: ChannelKind, address: &str| notifications.admits(channel, address);
            let known = Known { targets: &targets, people: &people, templates: &templates, admit: &admit };
            plan::plan(&Facts::new(&event, at), &asked, &known)
        };
        let mut plan = if has_templates { self.templates.pool().run(plan).await?? } else { plan()? };
        plan.skipped.splice(..0, skipped);
        Ok(plan)
    }

    /// Evaluates the conditions of the routes that are for an event.
    async fn asked(
        &self,
        event: &Arc<NewEvent>,
        routes: &Arc<Vec<Compiled>>,
        at: (EventId, Timestamp),
    ) -> Result<(Vec<Place>, Vec<Skipped>)> {
        let has_condition =
            |(_, route): (usize, &Compiled)| route.steps.iter().any(|s| s.condition.is_some());
        if !plan::enabled(event, routes).any(has_condition) {
            return Ok(plan::asked(&Facts::new(event, at), routes));
        }
        let (event, routes) = (Arc::clone(event), Arc::clone(routes));
        self.templates.pool().run(move || plan::asked(&Facts::new(&event, at), &routes)).await
    }

    async fn templates_of(&self, asked: &[Asked<'_>]) -> Result<plan::Texts> {
        let mut found = plan::Texts::new();
        for (_, step) in asked {
            let Some(name) = &step.delivery.template else { continue };
            let key = (name.clone(), step.delivery.channel);
            if !found.contains_key(&key)
                && let Some(variants) = self.templates.variants(name, step.delivery.channel).await?
            {
                found.insert(key, variants);
            }
        }
        Ok(found)
    }

    async fn people(&self, targets: &BTreeMap<String, Target>) -> Result<HashMap<String, Person>> {
        if targets.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<_> = targets.values().map(Target::names).collect();
        let found = self.db.read(move |c| repo::people(c, &names)).await?;
        let people = targets.keys().zip(found).filter_map(|(name, person)| Some((name.clone(), person?)));
        Ok(people.collect())
    }

    /// What is stored of an event and of the messages that it causes. One that is wrong is counted.
    async fn rows_of(&self, event: Wanted, source: Source, is_awaited: bool) -> Result<NewRows> {
        let rows = match event {
            Ok(event) => self.make(event, source, is_awaited).await,
            Err(fields) => Err(Error::Invalid(fields)),
        };
        if matches!(rows, Err(Error::Invalid(_))) {
            self.count(source, "refused", 1);
        }
        rows
    }

    async fn make(&self, event: NewEvent, source: Source, is_awaited: bool) -> Result<NewRows> {
        // the time first: a list from this time on goes by ids, and is to have the event
        let (now, id) = (self.clock.now(), EventId::new());
        let event = Arc::new(event);
        let plan = self.plan(&event, (id, now)).await?;
        let event = Arc::unwrap_or_clone(event);
        let none = HashMap::new();
        let row = |draft: Draft| {
            notification(draft, id).into_rows(MessageId::new(), None, (&none, is_awaited), now)
        };
        let rows = plan.notifications.into_iter().map(row).collect::<Result<Vec<_>>>()?;
        let skipped = (!plan.skipped.is_empty()).then(|| serde_json::to_string(&plan.skipped)).transpose();
        let event = EventRow {
            id,
            key: event.key,
            name: event.name.to_string(),
            user_target: event.raw.user_target,
            targets: event.raw.targets,
            payload: event.raw.payload,
            occurred_at: event.occurred_at,
            received_at: now,
            source: source.code(),
            skipped: skipped.map_err(|e| Error::Internal(e.into()))?,
        };
        Ok(NewRows { event, rows })
    }

    /// Hands events to the intake, if so many more can wait for the database.
    async fn store(&self, events: Vec<NewRows>, source: Source) -> Result<Vec<Accepted>> {
        let room = self.room.take(events.len());
        let _room = room.inspect_err(|_| self.count(source, "busy", events.len()))?;
        let events: Arc<[NewRows]> = events.into();
        let stored = self.intake.store(Arc::clone(&events)).await?;
        let accepted = events.iter().zip(stored).map(|(new, stored)| match stored {
            Stored::New => {
                self.count(source, "accepted", 1);
                let skipped = repo::skipped_of(new.event.skipped.as_deref())?;
                let EventRow { id, received_at, .. } = new.event;
                Ok(Accepted { id, received_at, skipped, is_known: false })
            }
            Stored::Known(before) => {
                self.count(source, "known", 1);
                Ok(before)
            }
        });
        accepted.collect()
    }

    async fn store_one(&self, event: NewRows, source: Source) -> Result<Accepted> {
        self.store(vec![event], source).await?.pop().ok_or_else(without_result)
    }

    fn count(&self, source: Source, result: &str, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.metrics.events.with_label_values(&[source.as_str(), result]).inc_by(events);
    }

    /// Takes an event: it and its messages are on disk when this answers. One whose sender's id is known was taken before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that cannot be taken, [`Error::Busy`], and those of the database.
    pub async fn accept(&self, event: NewEvent, source: Source) -> Result<Accepted> {
        let rows = self.rows_of(Ok(event), source, false).await?;
        self.store_one(rows, source).await
    }

    /// Takes an event and waits for the ends of its messages, up to `patience` and until the service stops. Returns them,
    /// and whether the event was taken before.
    ///
    /// # Errors
    /// As [`Events::accept`].
    pub async fn accept_and_wait(
        &self,
        event: NewEvent,
        patience: Duration,
    ) -> Result<(EventWithNotifications, bool)> {
        let rows = self.rows_of(Ok(event), Source::Api, true).await?;
        // registered before they can end
        let mut waiters = self.wait_for(rows.rows.iter().map(|(message, _)| message.id));
        let accepted = self.store_one(rows, Source::Api).await?;
        if accepted.is_known {
            // registered first, then looked at, lest one ends in between
            let known = self.notifications.of_event(accepted.id).await?;
            waiters = self.wait_for(known.iter().map(|notification| notification.id));
            let known = self.notifications.of_event(accepted.id).await?;
            let has_ended = |id: MessageId| known.iter().any(|one| one.id == id && one.status.is_final());
            waiters.retain(|(id, _)| !has_ended(*id));
        }
        let ends = join_all(waiters.iter().map(|(_, waiter)| waiter.ended()));
        self.notifications.wait(patience, ends).await;
        Ok((self.get(accepted.id.to_string()).await?, accepted.is_known))
    }

    fn wait_for(&self, messages: impl Iterator<Item = MessageId>) -> Vec<(MessageId, Waiter)> {
        messages.map(|id| (id, self.live.wait_for(id))).collect()
    }

    /// Takes those of these events that can be taken; says of the others what is wrong.
    ///
    /// # Errors
    /// [`Error::Busy`], and those of the database: then none was taken.
    pub async fn accept_all(&self, wanted: Vec<Wanted>, source: Source) -> Result<Vec<Taken>> {
        let (mut taken, mut rows) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for event in wanted {
            match self.rows_of(event, source, false).await {
                Ok(made) => {
                    rows.push(made);
                    taken.push(None);
                }
                Err(Error::Invalid(fields)) => taken.push(Some(fields)),
                Err(other) => return Err(other),
            }
        }
        let accepted = if rows.is_empty() { Vec::new() } else { self.store(rows, source).await? };
        let mut accepted = accepted.into_iter();
        let became = |refused: Option<Vec<FieldError>>| match refused {
            Some(fields) => Ok(Err(fields)),
            None => accepted.next().ok_or_else(without_result).map(Ok),
        };
        taken.into_iter().map(became).collect()
    }

    /// The event of this id, its sender's or its own, with its messages.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: String) -> Result<EventWithNotifications> {
        let handle = Handle { id: id.parse().ok(), key: id.clone() };
        let found = self.db.read(move |c| repo::find(c, &handle)).await?;
        let event = found.ok_or_else(|| Error::not_found("event", id))?;
        let notifications = self.notifications.of_event(event.event_id).await?;
        Ok(EventWithNotifications { event, notifications })
    }

    /// Events that `filter` lets through, the latest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, filter: Filter, limit: i64) -> Result<(Vec<Event>, Option<EventId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&EventId>, count| {
                let filter = Filter { before: before.copied(), ..filter.clone() };
                repo::list(c, &filter, count)
            };
            paging::page_of(limit, filter.before, part, |event| event.event_id)
        };
        self.db.read(read).await
    }
}

fn without_result() -> Error {
    Error::internal("an event was stored without a result")
}

fn unknown(known: &[&str]) -> String {
    if known.is_empty() {
        return "is unknown: there are no routes yet; make one at /api/v1/routes".into();
    }
    let named: Vec<&str> = known.iter().take(MOST_NAMES).copied().collect();
    let more = if known.len() > MOST_NAMES { " and more" } else { "" };
    format!("is unknown: there are routes for {}{more}", named.join(", "))
}

/// A message as it is stored.
fn notification(draft: Draft, event: EventId) -> NewNotification {
    let to = match draft.client_id {
        Some(client) => To::Reached { client, address: draft.recipient },
        None => To::Address(draft.recipient),
    };
    NewNotification {
        channel: draft.channel,
        to,
        fill: None,
        template: draft.template,
        content: draft.content,
        html: draft.html,
        subject: draft.subject,
        data: draft.data.map(|data| data.to_string()),
        priority: draft.priority,
        scheduled_at: draft.scheduled_at,
        expires_at: draft.expires_at,
        retry: None,
        metadata: None,
        event: Some(event),
        group: Some(draft.group),
        is_transactional: draft.transactional,
    }
}
