//! The use cases of events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::intake::EventIntake;
use super::model::{
    AcceptedEvent, Event, EventPlan, EventWithNotifications, Namespace, NewEvent, PlannedMessage,
    SkippedMessage, Source,
};
use super::order::{BuildEventResponse, EventOrder, EventStoreResult, IntakeResult, SourceRecords};
use super::plan::{self, Facts, MatchedStep, Person, RenderInputs, StepPosition};
use super::refused::{RefusedRecord, SourceRecord, line};
pub use super::repo::EventListFilter;
use super::repo::{self, EventRef, EventRow, FOREIGN, NewEventRows};
use super::target::Target;
use crate::broker::{EventResult, Step};
use crate::clock::Clock;
use crate::db::group_commit::AdmissionLimit;
use crate::db::types::{EventId, MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Claim, ClaimResult, Created, IdempotencyKey, IdempotentResponse};
use crate::kinds::ChannelKind;
use crate::live::{Live, Waiter};
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::notifications::model::{NewNotification, To};
use crate::paging;
use crate::routes::Routes;
use crate::routes::model::CompiledRoute;
use crate::runtime::Runtime;
use crate::templates::Templates;

/// The most events of one batch.
pub const LARGEST_BATCH: usize = 1000;
/// The most names of events that an error lists.
const MOST_NAMES: usize = 50;

/// The limits and settings of events.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// True if an event without a route is accepted, and causes no messages.
    pub takes_unknown: bool,
    /// The number of events that may wait for the database at once.
    pub intake_limit: usize,
}

/// The use cases of events.
pub struct Events {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    live: Live,
    notifications: Arc<Notifications>,
    routes: Routes,
    templates: Templates,
    intake: EventIntake,
    room: AdmissionLimit,
    terms: EventLimits,
}

/// An event of a batch after parsing, or its errors.
pub type ParsedEvent = std::result::Result<NewEvent, Vec<FieldError>>;

/// The number of messages that an event of a batch would cause, with the skipped ones, or its errors.
pub type Rehearsed = std::result::Result<(usize, Vec<SkippedMessage>), Vec<FieldError>>;

/// The result of accepting one event of a batch.
pub type AcceptResult = std::result::Result<AcceptedEvent, Vec<FieldError>>;

/// Makes the response to a request from the results of its events.
pub type BuildBatchResponse = dyn Fn(&[AcceptResult]) -> Result<IdempotentResponse> + Send + Sync;

/// The idempotency key of a request, with the response to store under it.
pub struct KeyedResponse {
    /// The key.
    pub key: IdempotencyKey,
    /// Makes the response from the results of the events.
    pub answer: Arc<BuildBatchResponse>,
}

/// The result of a request with events.
pub enum AcceptOutcome {
    /// The request was executed, with a result for each event.
    Accepted(Vec<AcceptResult>),
    /// An equal request with its key was executed before, with this response.
    Before(IdempotentResponse),
}

impl AcceptOutcome {
    /// Returns an error for a request whose only event is refused.
    fn refused_if_single(self) -> Result<Self> {
        match self {
            Self::Accepted(mut taken) => match taken.pop() {
                Some(Err(fields)) if taken.is_empty() => Err(Error::Invalid(fields)),
                last => Ok(Self::Accepted(taken.into_iter().chain(last).collect())),
            },
            before @ Self::Before(_) => Ok(before),
        }
    }

    /// Returns the event of a request with one event, and true if it was accepted before.
    fn event(&self) -> Result<(EventId, bool)> {
        #[derive(serde::Deserialize)]
        struct Kept {
            event_id: String,
        }
        match self {
            Self::Accepted(taken) => match taken.first() {
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
    /// Creates the use cases over a database and an intake.
    pub fn new(
        Runtime { db, clock, metrics, live }: Runtime,
        (notifications, routes, templates): (Arc<Notifications>, Routes, Templates),
        intake: EventIntake,
        terms: EventLimits,
    ) -> Self {
        let room = AdmissionLimit::new(terms.intake_limit, "events");
        Self { db, clock, metrics, live, notifications, routes, templates, intake, room, terms }
    }

    /// Returns the time for which a request waits for final statuses if it does not set one.
    pub fn patience(&self) -> Duration {
        self.notifications.patience()
    }

    /// Renders the messages that an event would cause, without accepting it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that would be refused.
    pub async fn rehearse(&self, event: NewEvent) -> Result<EventPlan> {
        if let Some(key) = event.key.clone() {
            let (namespace, fingerprint) = (event.namespace.code(), event.fingerprint.clone());
            let known = self.db.read(move |c| {
                let known = repo::known(c, &[&key])?;
                Ok(known.get(&(key, namespace)).map(|known| known.to(Some(&fingerprint))))
            });
            if known.await? == Some(EventStoreResult::Foreign) {
                return Err(Error::invalid("id", FOREIGN));
            }
        }
        self.plan(&Arc::new(event), (EventId::new(), self.clock.now())).await
    }

    /// Does the same as [`Events::rehearse`] for each of the events separately.
    ///
    /// # Errors
    /// Database errors.
    pub async fn rehearse_all(&self, wanted: Vec<ParsedEvent>) -> Result<Vec<Rehearsed>> {
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

    async fn plan(&self, event: &Arc<NewEvent>, at: (EventId, Timestamp)) -> Result<EventPlan> {
        let routes = self.routes.known().await?;
        let is_known = routes.iter().any(|route| route.knows(&event.name));
        if !is_known && !self.terms.takes_unknown && event.namespace == Namespace::Events {
            let known: Vec<&str> = routes.iter().map(|route| route.route.event.as_str()).collect();
            return Err(Error::invalid("event", unknown(&known)));
        }
        let (places, skipped) = self.asked(event, &routes, at).await?;
        let asked: Vec<MatchedStep<'_>> = places.iter().filter_map(|place| place.of(&routes)).collect();
        let targets = plan::targets(event, &asked)?;
        let templates = self.templates_of(&asked).await?;
        let people = self.people(&targets).await?;
        let notifications = Arc::clone(&self.notifications);
        let (event, has_templates) = (Arc::clone(event), !templates.is_empty());
        let unsubscribe_url = self.templates.unsubscribe_url().cloned();
        drop(asked);
        let plan = move || {
            let asked: Vec<MatchedStep<'_>> = places.iter().filter_map(|place| place.of(&routes)).collect();
            let admit = |channel: ChannelKind, address: &str| notifications.admits(channel, address);
            let unsubscribe_url = unsubscribe_url.as_ref();
            let known = RenderInputs {
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

    /// Evaluates the conditions of the routes for an event.
    async fn asked(
        &self,
        event: &Arc<NewEvent>,
        routes: &Arc<Vec<CompiledRoute>>,
        at: (EventId, Timestamp),
    ) -> Result<(Vec<StepPosition>, Vec<SkippedMessage>)> {
        let has_condition =
            |(_, route): (usize, &CompiledRoute)| route.steps.iter().any(|s| s.condition.is_some());
        if !plan::enabled(event, routes).any(has_condition) {
            return Ok(plan::asked(&Facts::new(event, at), routes));
        }
        let (event, routes) = (Arc::clone(event), Arc::clone(routes));
        self.templates.pool().run(move || plan::asked(&Facts::new(&event, at), &routes)).await
    }

    async fn templates_of(&self, asked: &[MatchedStep<'_>]) -> Result<plan::TemplateMap> {
        let mut found = plan::TemplateMap::new();
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

    /// Returns the rows of an event and of its messages. An invalid event is counted.
    async fn rows_of(&self, event: ParsedEvent, source: Source, is_awaited: bool) -> Result<NewEventRows> {
        let rows = match event {
            Ok(event) => self.make(event, source, is_awaited).await,
            Err(fields) => Err(Error::Invalid(fields)),
        };
        if matches!(rows, Err(Error::Invalid(_))) {
            self.count(source, "refused", 1);
        }
        rows
    }

    async fn make(&self, event: NewEvent, source: Source, is_awaited: bool) -> Result<NewEventRows> {
        // the time before the id: a list of events since this time compares ids, and must include this event
        let (now, id) = (self.clock.now(), EventId::new());
        let event = Arc::new(event);
        let plan = self.plan(&event, (id, now)).await?;
        let event = Arc::unwrap_or_clone(event);
        let none = HashMap::new();
        let row = |draft: PlannedMessage| {
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
        Ok(NewEventRows { event, rows })
    }

    /// Submits events to the intake, if the admission limit allows. `refused` has an entry for each event of the
    /// request: the errors of a refused one.
    async fn store(
        &self,
        (events, refused): (Vec<NewEventRows>, Vec<Option<Vec<FieldError>>>),
        source: Source,
        keyed: Option<KeyedResponse>,
    ) -> Result<AcceptOutcome> {
        let room = self.room.take(events.len());
        let _room = room.inspect_err(|_| self.count(source, "busy", events.len()))?;
        let new: Vec<AcceptedEvent> = events.iter().map(NewEventRows::accepted).collect::<Result<_>>()?;
        let taken = move |stored: &[EventStoreResult]| became(&refused, &new, stored);
        let (claim, answer): (_, BuildEventResponse) = match keyed {
            Some(KeyedResponse { key, answer }) => {
                let resource = events.first().map_or_else(uuid::Uuid::now_v7, |new| new.event.id.0);
                let claimed = answer(&taken(&vec![EventStoreResult::New; events.len()])?)?;
                let taken = taken.clone();
                let answering = move |stored: &[EventStoreResult]| answer(&taken(stored)?);
                (Claim::of(Some(key), resource, &claimed), Arc::new(answering))
            }
            None => (
                None,
                Arc::new(|_: &[EventStoreResult]| {
                    Err(Error::internal("events without a key have no response"))
                }),
            ),
        };
        let order = EventOrder { events, claim, answer, source: None };
        let stored = match self.intake.store(Arc::new(order)).await? {
            IntakeResult::Each(stored) => stored,
            IntakeResult::Fenced => return Err(Error::internal("events without a partition were fenced")),
            IntakeResult::Refused(ClaimResult::Answered(answer)) => {
                self.count(source, "known", 1);
                return Ok(AcceptOutcome::Before(answer));
            }
            IntakeResult::Refused(other) => {
                self.count(source, "refused", 1);
                return Err(idempotency::refusal(&other));
            }
        };
        self.count_stored(source, &stored);
        taken(&stored).map(AcceptOutcome::Accepted)
    }

    fn count_stored(&self, source: Source, stored: &[EventStoreResult]) {
        for stored in stored {
            let result = match stored {
                EventStoreResult::New => "accepted",
                EventStoreResult::Known(_) => "known",
                EventStoreResult::Foreign => "refused",
            };
            self.count(source, result, 1);
        }
    }

    /// Accepts the records of a partition and moves its position, in one transaction. Refused records are stored and
    /// retried. Returns one result for each record. Returns `None`, and stores nothing, if the stored position is not
    /// where the step begins.
    ///
    /// # Errors
    /// [`Error::Busy`] and database errors, after which nothing is stored.
    pub async fn accept_records(
        &self,
        records: Vec<(ParsedEvent, SourceRecord)>,
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
                    let refusal = RefusedRecord { record, reason: line(&fields), is_final };
                    results.push(result_of(refusal.is_dead()));
                    source.refused.push(refusal);
                }
                Err(other) => return Err(other),
            }
        }
        let room = self.room.take(events.len());
        let _room = room.inspect_err(|_| self.count(Source::Broker, "busy", events.len()))?;
        let tries: Vec<u64> = source.records.iter().map(|record| record.most_tries).collect();
        let answer: BuildEventResponse =
            Arc::new(|_: &[EventStoreResult]| Err(Error::internal("events without a key have no response")));
        let order = EventOrder { events, claim: None, answer, source: Some(source) };
        let stored = match self.intake.store(Arc::new(order)).await? {
            IntakeResult::Each(stored) => stored,
            IntakeResult::Fenced => return Ok(None),
            IntakeResult::Refused(_) => {
                return Err(Error::internal("events without a key were refused because of a key"));
            }
        };
        self.count_stored(Source::Broker, &stored);
        let made = results.iter_mut().filter(|result| **result == EventResult::Stored);
        for (result, (stored, most_tries)) in made.zip(stored.iter().zip(tries)) {
            if *stored == EventStoreResult::Foreign {
                *result = result_of(most_tries <= 1);
            }
        }
        Ok(Some(results))
    }

    fn count(&self, source: Source, result: &str, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.metrics.events.with_label_values(&[source.as_str(), result]).inc_by(events);
    }

    /// Accepts an event, and returns when it and its messages are on disk. An event with a known sender's id is not
    /// stored again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that cannot be accepted, or whose id or key belongs to another one;
    /// [`Error::Busy`], and database errors.
    pub async fn accept(
        &self,
        event: NewEvent,
        source: Source,
        keyed: Option<KeyedResponse>,
    ) -> Result<AcceptOutcome> {
        let outcome = self.accept_all(vec![Ok(event)], source, keyed).await?;
        outcome.refused_if_single()
    }

    /// Accepts an event, and waits for the final statuses of its messages until `patience` has passed or the service
    /// shuts down. Returns the event with its messages, and true if it was accepted before.
    ///
    /// # Errors
    /// As [`Events::accept`].
    pub async fn accept_and_wait(
        &self,
        event: NewEvent,
        patience: Duration,
        keyed: Option<KeyedResponse>,
    ) -> Result<(EventWithNotifications, bool)> {
        let (mut waiters, outcome) = match self.rows_of(Ok(event), Source::Api, true).await {
            Ok(rows) => {
                // registered before the messages can get their final status
                let waiters = self.wait_for(rows.rows.iter().map(|(message, _)| message.id));
                let stored = self.store((vec![rows], vec![None]), Source::Api, keyed).await?;
                (waiters, stored.refused_if_single()?)
            }
            Err(refused) => (Vec::new(), self.taken_before(refused, keyed).await?),
        };
        let (id, is_known) = outcome.event()?;
        if is_known {
            // registered before the statuses are read, so that no final status in between is missed
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

    /// Accepts the valid ones of these events. Returns the result for each.
    ///
    /// # Errors
    /// [`Error::Busy`], errors of the database and of the key, after which no event is accepted.
    pub async fn accept_all(
        &self,
        wanted: Vec<ParsedEvent>,
        source: Source,
        keyed: Option<KeyedResponse>,
    ) -> Result<AcceptOutcome> {
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
        let taken = AcceptOutcome::Accepted(became(&refused, &[], &[])?);
        match keyed {
            Some(keyed) => match self.taken_before(Error::Invalid(Vec::new()), Some(keyed)).await {
                Err(Error::Invalid(fields)) if fields.is_empty() => Ok(taken),
                other => other,
            },
            None => Ok(taken),
        }
    }

    /// Returns the stored response of an earlier equal request, or `refused` if there was none.
    async fn taken_before(&self, refused: Error, keyed: Option<KeyedResponse>) -> Result<AcceptOutcome> {
        let (key, now) = (keyed.map(|keyed| keyed.key), self.clock.now());
        match idempotency::made_before::<()>(&self.db, key, refused, now).await? {
            Created::Before(answer) => Ok(AcceptOutcome::Before(answer)),
            Created::New((), _) => Err(without_result()),
        }
    }

    /// Returns the event with this id, a sender's id or an event's id, with its messages.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: String) -> Result<EventWithNotifications> {
        let handle = EventRef { id: id.parse().ok(), key: id.clone() };
        let found = self.db.read(move |c| repo::find(c, &handle)).await?;
        let event = found.ok_or_else(|| Error::not_found("event", id))?;
        let notifications = self.notifications.of_event(event.event_id).await?;
        Ok(EventWithNotifications { event, notifications })
    }

    /// Returns the events that match the filter, the newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(&self, filter: EventListFilter, limit: i64) -> Result<(Vec<Event>, Option<EventId>)> {
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&EventId>, count| {
                let filter = EventListFilter { before: before.copied(), ..filter.clone() };
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

/// Returns the result for each event of a request: the errors of a refused one, else the next result in `stored`.
fn became(
    refused: &[Option<Vec<FieldError>>],
    new: &[AcceptedEvent],
    stored: &[EventStoreResult],
) -> Result<Vec<AcceptResult>> {
    let mut stored = new.iter().zip(stored);
    let became = |refused: &Option<Vec<FieldError>>| match refused {
        Some(fields) => Ok(Err(fields.clone())),
        None => Ok(match stored.next().ok_or_else(without_result)? {
            (new, EventStoreResult::New) => Ok(new.clone()),
            (_, EventStoreResult::Known(before)) => Ok(before.clone()),
            (_, EventStoreResult::Foreign) => Err(vec![FieldError::new("id", FOREIGN)]),
        }),
    };
    refused.iter().map(became).collect()
}

fn without_result() -> Error {
    Error::internal("a stored event has no result")
}

fn unknown(known: &[&str]) -> String {
    if known.is_empty() {
        return "is unknown: there are no routes yet; create one at /api/v1/routes".into();
    }
    let named: Vec<&str> = known.iter().take(MOST_NAMES).copied().collect();
    let more = if known.len() > MOST_NAMES { " and more" } else { "" };
    format!("is unknown; there are routes for {}{more}", named.join(", "))
}

/// Converts a planned message into a new notification.
fn notification(draft: PlannedMessage, event: EventId) -> NewNotification {
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
