//! What can be done with events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::intake::{self, Intake, NewRows, Order, SourceRecords};
use super::model::{
    Accepted, Draft, Event, EventWithNotifications, Namespace, NewEvent, Plan, Skipped, Source,
};
use super::plan::{self, Asked, Facts, Known, Person, Place};
use super::refused::{Record, Refusal, line};
pub use super::repo::Filter;
use super::repo::{self, EventRow, FOREIGN, Handed, Handle, Stored};
use super::target::Target;
use crate::broker::{EventResult, Step};
use crate::clock::Clock;
use crate::db::gather::Room;
use crate::db::types::{EventId, MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Answer, Claim, Key, Made, Verdict};
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

/// Makes the answer to a request with events, from the result of each.
pub type Answering = dyn Fn(&[Taken]) -> Result<Answer> + Send + Sync;

/// The key that a request came with, and the answer that is kept under it.
pub struct Keyed {
    /// The key.
    pub key: Key,
    /// The answer, by what became of each event.
    pub answer: Arc<Answering>,
}

/// The result of a request with events.
pub enum Outcome {
    /// It was done, and this became of each event.
    Taken(Vec<Taken>),
    /// An equal request with its key was done before, and this was answered.
    Before(Answer),
}

impl Outcome {
    /// Refuses a request whose only event is refused.
    fn refused_if_single(self) -> Result<Self> {
        match self {
            Self::Taken(mut taken) => match taken.pop() {
                Some(Err(fields)) if taken.is_empty() => Err(Error::Invalid(fields)),
                last => Ok(Self::Taken(taken.into_iter().chain(last).collect())),
            },
            before @ Self::Before(_) => Ok(before),
        }
    }

    /// The event of a request with one event, and whether it was taken before.
    fn event(&self) -> Result<(EventId, bool)> {
        #[derive(serde::Deserialize)]
        struct Kept {
            event_id: String,
        }
        match self {
            Self::Taken(taken) => match taken.first() {
                Some(Ok(accepted)) => Ok((accepted.id, accepted.is_known)),
                _ => Err(without_result()),
            },
            Self::Before(answer) => {
                let kept: Kept = serde_json::from_str(&answer.body).map_err(|e| Error::Internal(e.into()))?;
                Ok((kept.event_id.parse().map_err(|_| without_result())?, true))
            }
        }
    }
}

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
        if let Some(key) = event.key.clone() {
            let (namespace, fingerprint) = (event.namespace.code(), event.fingerprint.clone());
            let known = self.db.read(move |c| {
                let known = repo::known(c, &[&key])?;
                Ok(known.get(&(key, namespace)).map(|known| known.to(Some(&fingerprint))))
            });
            if known.await? == Some(Stored::Foreign) {
                return Err(Error::invalid("id", FOREIGN));
            }
        }
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
        if !is_known && !self.terms.takes_unknown && event.namespace == Namespace::Events {
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
        let unsubscribe_url = self.templates.unsubscribe_url().cloned();
        drop(asked);
        let plan = move || {
            let asked: Vec<Asked<'_>> = places.iter().filter_map(|place| place.of(&routes)).collect();
            let admit = |channel: ChannelKind, address: &str| notifications.admits(channel, address);
            let unsubscribe_url = unsubscribe_url.as_ref();
            let known = Known {
                targets: &targets,
                people: &people,
                templates: &templates,
                admit: &admit,
                unsubscribe_url,
            };
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
            fingerprint: Some(event.fingerprint),
            namespace: event.namespace.code(),
        };
        Ok(NewRows { event, rows })
    }

    /// Hands events to the intake, if so many more can wait for the database. `refused` has what of the request is wrong, each
    /// at its place.
    async fn store(
        &self,
        (events, refused): (Vec<NewRows>, Vec<Option<Vec<FieldError>>>),
        source: Source,
        keyed: Option<Keyed>,
    ) -> Result<Outcome> {
        let room = self.room.take(events.len());
        let _room = room.inspect_err(|_| self.count(source, "busy", events.len()))?;
        let new: Vec<Accepted> = events.iter().map(NewRows::accepted).collect::<Result<_>>()?;
        let taken = move |stored: &[Stored]| became(&refused, &new, stored);
        let (claim, answer): (_, intake::Answering) = match keyed {
            Some(Keyed { key, answer }) => {
                let resource = events.first().map_or_else(uuid::Uuid::now_v7, |new| new.event.id.0);
                let claimed = answer(&taken(&vec![Stored::New; events.len()])?)?;
                let taken = taken.clone();
                let answering = move |stored: &[Stored]| answer(&taken(stored)?);
                (Claim::of(Some(key), resource, &claimed), Arc::new(answering))
            }
            None => {
                (None, Arc::new(|_: &[Stored]| Err(Error::internal("events without a key have no answer"))))
            }
        };
        let order = Order { events, claim, answer, source: None };
        let stored = match self.intake.store(Arc::new(order)).await? {
            Handed::Each(stored) => stored,
            Handed::Fenced => return Err(Error::internal("events without a position were fenced")),
            Handed::Refused(Verdict::Answered(answer)) => {
                self.count(source, "known", 1);
                return Ok(Outcome::Before(answer));
            }
            Handed::Refused(other) => {
                self.count(source, "refused", 1);
                return Err(idempotency::refusal(&other));
            }
        };
        self.count_stored(source, &stored);
        taken(&stored).map(Outcome::Taken)
    }

    fn count_stored(&self, source: Source, stored: &[Stored]) {
        for stored in stored {
            let result = match stored {
                Stored::New => "accepted",
                Stored::Known(_) => "known",
                Stored::Foreign => "refused",
            };
            self.count(source, result, 1);
        }
    }

    /// Takes the records of a partition and moves its position, in one transaction. Refused records are kept and retried.
    /// Returns one result for each record, or `None` if the stored position is not where the step begins: then nothing is
    /// stored.
    ///
    /// # Errors
    /// [`Error::Busy`], and those of the database: then nothing is stored.
    pub async fn accept_records(
        &self,
        records: Vec<(Wanted, Record)>,
        step: Step,
    ) -> Result<Option<Vec<EventResult>>> {
        let mut results = Vec::with_capacity(records.len());
        let mut events = Vec::with_capacity(records.len());
        let mut source = SourceRecords { step, records: Vec::new(), refused: Vec::new() };
        for (wanted, record) in records {
            match self.rows_of(wanted, Source::Broker, false).await {
                Ok(made) => {
                    events.push(made);
                    source.records.push(record);
                    results.push(EventResult::Stored);
                }
                Err(Error::Invalid(fields)) => {
                    let is_final = record.fault.is_some();
                    let refusal = Refusal { record, reason: line(&fields), is_final };
                    results.push(result_of(refusal.is_dead()));
                    source.refused.push(refusal);
                }
                Err(other) => return Err(other),
            }
        }
        let room = self.room.take(events.len());
        let _room = room.inspect_err(|_| self.count(Source::Broker, "busy", events.len()))?;
        let tries: Vec<u64> = source.records.iter().map(|record| record.most_tries).collect();
        let answer: intake::Answering =
            Arc::new(|_: &[Stored]| Err(Error::internal("events without a key have no answer")));
        let order = Order { events, claim: None, answer, source: Some(source) };
        let stored = match self.intake.store(Arc::new(order)).await? {
            Handed::Each(stored) => stored,
            Handed::Fenced => return Ok(None),
            Handed::Refused(_) => return Err(Error::internal("events without a key were refused for one")),
        };
        self.count_stored(Source::Broker, &stored);
        let made = results.iter_mut().filter(|result| **result == EventResult::Stored);
        for (result, (stored, most_tries)) in made.zip(stored.iter().zip(tries)) {
            if *stored == Stored::Foreign {
                *result = result_of(most_tries <= 1);
            }
        }
        Ok(Some(results))
    }

    fn count(&self, source: Source, result: &str, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.metrics.events.with_label_values(&[source.as_str(), result]).inc_by(events);
    }

    /// Takes an event: it and its messages are on disk when this answers. One whose sender's id is known was taken before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that cannot be taken, or whose id or key is another's; [`Error::Busy`], and those of the
    /// database.
    pub async fn accept(&self, event: NewEvent, source: Source, keyed: Option<Keyed>) -> Result<Outcome> {
        let outcome = self.accept_all(vec![Ok(event)], source, keyed).await?;
        outcome.refused_if_single()
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
        keyed: Option<Keyed>,
    ) -> Result<(EventWithNotifications, bool)> {
        let (mut waiters, outcome) = match self.rows_of(Ok(event), Source::Api, true).await {
            Ok(rows) => {
                // registered before they can end
                let waiters = self.wait_for(rows.rows.iter().map(|(message, _)| message.id));
                let stored = self.store((vec![rows], vec![None]), Source::Api, keyed).await?;
                (waiters, stored.refused_if_single()?)
            }
            Err(refused) => (Vec::new(), self.taken_before(refused, keyed).await?),
        };
        let (id, is_known) = outcome.event()?;
        if is_known {
            // registered first, then looked at, lest one ends in between
            let known = self.notifications.of_event(id).await?;
            waiters = self.wait_for(known.iter().map(|notification| notification.id));
            let known = self.notifications.of_event(id).await?;
            let has_ended = |id: MessageId| known.iter().any(|one| one.id == id && one.status.is_final());
            waiters.retain(|(id, _)| !has_ended(*id));
        }
        let ends = join_all(waiters.iter().map(|(_, waiter)| waiter.ended()));
        self.notifications.wait(patience, ends).await;
        Ok((self.get(id.to_string()).await?, is_known))
    }

    fn wait_for(&self, messages: impl Iterator<Item = MessageId>) -> Vec<(MessageId, Waiter)> {
        messages.map(|id| (id, self.live.wait_for(id))).collect()
    }

    /// Takes those of these events that can be taken; says of the others what is wrong.
    ///
    /// # Errors
    /// [`Error::Busy`], and those of the database and of the key: then none was taken.
    pub async fn accept_all(
        &self,
        wanted: Vec<Wanted>,
        source: Source,
        keyed: Option<Keyed>,
    ) -> Result<Outcome> {
        let (mut refused, mut rows) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for event in wanted {
            match self.rows_of(event, source, false).await {
                Ok(made) => {
                    rows.push(made);
                    refused.push(None);
                }
                Err(Error::Invalid(fields)) => refused.push(Some(fields)),
                Err(other) => return Err(other),
            }
        }
        if !rows.is_empty() {
            return self.store((rows, refused), source, keyed).await;
        }
        let taken = Outcome::Taken(became(&refused, &[], &[])?);
        match keyed {
            Some(keyed) => match self.taken_before(Error::Invalid(Vec::new()), Some(keyed)).await {
                Err(Error::Invalid(fields)) if fields.is_empty() => Ok(taken),
                other => other,
            },
            None => Ok(taken),
        }
    }

    /// Returns the answer to an equal request that was taken before, for one that is refused now; else the refusal.
    async fn taken_before(&self, refused: Error, keyed: Option<Keyed>) -> Result<Outcome> {
        let (key, now) = (keyed.map(|keyed| keyed.key), self.clock.now());
        match idempotency::made_before::<()>(&self.db, key, refused, now).await? {
            Made::Before(answer) => Ok(Outcome::Before(answer)),
            Made::New((), _) => Err(without_result()),
        }
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

/// Returns the result of a refused record.
fn result_of(is_dead: bool) -> EventResult {
    if is_dead { EventResult::DeadLettered } else { EventResult::RetryScheduled }
}

/// Returns the result of each event of a request: those that are not refused were stored, in their order.
fn became(refused: &[Option<Vec<FieldError>>], new: &[Accepted], stored: &[Stored]) -> Result<Vec<Taken>> {
    let mut stored = new.iter().zip(stored);
    let became = |refused: &Option<Vec<FieldError>>| match refused {
        Some(fields) => Ok(Err(fields.clone())),
        None => Ok(match stored.next().ok_or_else(without_result)? {
            (new, Stored::New) => Ok(new.clone()),
            (_, Stored::Known(before)) => Ok(before.clone()),
            (_, Stored::Foreign) => Err(vec![FieldError::new("id", FOREIGN)]),
        }),
    };
    refused.iter().map(became).collect()
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
