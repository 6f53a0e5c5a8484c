//! The use cases of notifications.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::intake::NotificationIntake;
use super::model::{
    Batch, LoadedTemplate, NewNotification, Notification, NotificationChange, NotificationWithAttempts,
    Status, To,
};
use super::notifier::NewMessageNotifier;
use super::repo::{self, NewNotificationRows, RecipientAddresses, StoreResult};
pub use super::repo::{NotificationFilter, NotificationOrder};
use crate::clock::Clock;
use crate::db::group_commit::AdmissionLimit;
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Claim, ClaimResult, Created, IdempotencyKey, IdempotentResponse};
use crate::kinds::{AddressSyntax, ChannelKind, MessageStatus, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::live::{Change, Live};
use crate::messages;
use crate::messages::cancelling;
use crate::messages::model::Attempt;
use crate::messages::repo::cancellation::CancellationState;
use crate::metrics::Metrics;
use crate::paging;
use crate::runtime::Runtime;
use crate::templates::Templates;

/// The most notifications of one batch.
pub const LARGEST_BATCH: usize = 1000;
/// The most notifications of one event that are listed; routes cannot create as many.
const MOST_OF_AN_EVENT: i64 = 20_000;
/// The time for which a key stays locked after the wait of its request, so that the response can be stored.
const SPARE: Duration = Duration::from_secs(5);

/// Validates a URL, and returns the reason if it is refused.
pub type UrlCheck = Box<dyn Fn(&str) -> std::result::Result<(), String> + Send + Sync>;

/// Makes the response to a request from its notification.
pub type BuildResponse = fn(&Notification) -> Result<IdempotentResponse>;

/// The limits and settings of notifications.
pub struct NotificationLimits {
    /// The channels without a provider, each with the reason why it cannot send.
    pub missing: HashMap<ChannelKind, String>,
    /// Validates the URL of a recipient.
    pub check_url: UrlCheck,
    /// The number of notifications that may wait for the database at once.
    pub intake_limit: usize,
    /// The number of retries of a notification without its own retry policy, by channel.
    pub retries: HashMap<ChannelKind, usize>,
    /// The time for which a request waits for the final status if it does not set one.
    pub patience: Duration,
    /// Ends every wait.
    pub shutdown: Shutdown,
}

/// The use cases of notifications.
pub struct Notifications {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    live: Live,
    arrivals: Arc<dyn NewMessageNotifier>,
    intake: NotificationIntake,
    templates: Templates,
    room: AdmissionLimit,
    terms: NotificationLimits,
}

/// A notification of a batch after parsing, or its errors.
pub type ParsedNotification = std::result::Result<NewNotification, Vec<FieldError>>;

/// The result for one notification of a batch.
#[derive(Debug)]
pub enum BatchEntry {
    /// It was accepted under this id.
    Accepted(MessageId),
    /// It is invalid.
    Rejected(Vec<FieldError>),
}

/// The result of posting a batch.
#[derive(Debug)]
pub struct AcceptedBatch {
    /// The batch's id.
    pub id: BatchId,
    /// The result for each notification, in the order of the request.
    pub items: Vec<BatchEntry>,
}

impl Notifications {
    /// Creates the use cases over a database, an engine, an intake and the templates.
    pub fn new(
        Runtime { db, clock, metrics, live }: Runtime,
        arrivals: Arc<dyn NewMessageNotifier>,
        (intake, templates): (NotificationIntake, Templates),
        terms: NotificationLimits,
    ) -> Self {
        let room = AdmissionLimit::new(terms.intake_limit, "notifications");
        Self { db, clock, metrics, live, arrivals, intake, templates, room, terms }
    }

    /// Returns the time for which a request waits for the final status if it does not set one.
    pub fn patience(&self) -> Duration {
        self.terms.patience
    }

    /// Waits until `ends` completes, `patience` has passed or the service shuts down.
    pub async fn wait(&self, patience: Duration, ends: impl Future) {
        tokio::select! {
            _ = tokio::time::timeout(patience, ends) => {}
            () = self.terms.shutdown.wait() => {}
        }
    }

    /// Checks that messages can be sent to this address of a channel.
    ///
    /// # Errors
    /// The reason why they cannot, without the address.
    pub fn admits(&self, channel: ChannelKind, address: &str) -> std::result::Result<(), String> {
        if let Some(why) = self.terms.missing.get(&channel) {
            return Err(why.clone());
        }
        match channel.spec().address {
            AddressSyntax::Url => (self.terms.check_url)(address),
            _ => Ok(()),
        }
    }

    /// Checks that a notification can be accepted.
    fn check(&self, new: &NewNotification, now: Timestamp) -> Result<()> {
        if let Some(why) = self.terms.missing.get(&new.channel) {
            return Err(Error::invalid("channel", why.clone()));
        }
        if let (AddressSyntax::Url, To::Address(url)) = (new.channel.spec().address, &new.to) {
            (self.terms.check_url)(url).map_err(|why| Error::invalid("recipient", why))?;
        }
        new.check(now)
    }

    async fn addresses(&self, ids: Vec<ClientId>) -> Result<HashMap<ClientId, RecipientAddresses>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.db.read(move |c| repo::addresses(c, &ids)).await
    }

    /// Reads the requested template, if there is one, with the data to render it.
    async fn filling(
        &self,
        new: &mut NewNotification,
        clients: &HashMap<ClientId, RecipientAddresses>,
    ) -> Result<Option<LoadedTemplate>> {
        let Some(fill) = new.fill.take() else { return Ok(None) };
        let variants = self.templates.named("template", &fill.template, new.channel).await?;
        let (address, client_locale) = match &new.to {
            To::Client(id) => {
                let client = clients.get(id);
                let address = client.and_then(|client| client.reach(*id).on(new.channel));
                (address, client.and_then(|client| client.locale.clone()))
            }
            To::Address(address) | To::Reached { address, .. } => (Some(address.clone()), None),
        };
        let link = move || self.templates.unsubscribe_url()?(new.channel, &address?, new.group.as_deref());
        Ok(Some(LoadedTemplate { fill, variants, client_locale, unsubscribe_url: link() }))
    }

    async fn rows_of(
        &self,
        mut new: NewNotification,
        is_awaited: bool,
    ) -> Result<(crate::messages::repo::MessageRow, repo::NotificationRow)> {
        let now = self.clock.now();
        self.check(&new, now)?;
        let client = match new.to {
            To::Client(id) => vec![id],
            To::Address(_) | To::Reached { .. } => Vec::new(),
        };
        let addresses = self.addresses(client).await?;
        if let Some(filling) = self.filling(&mut new, &addresses).await? {
            new = self.templates.pool().run(move || filled((new, Some(filling)))).await??;
        }
        // the present time again, so that its times are not before its id, which is created now
        new.into_rows(MessageId::new(), None, (&addresses, is_awaited), self.clock.now())
    }

    /// Returns the notification as it is right after it was accepted.
    fn fresh(
        &self,
        (message, content): &(crate::messages::repo::MessageRow, repo::NotificationRow),
    ) -> Result<Notification> {
        let status = content.status_at_first(message);
        let found = Notification::from_rows(message.clone(), content.clone(), status, message.due_at)?;
        Ok(found.with_default_retries(&self.terms.retries))
    }

    /// Submits rows to the intake, if the admission limit allows.
    async fn store(&self, rows: NewNotificationRows) -> Result<StoreResult> {
        let _room = self.room.take(rows.rows.len())?;
        self.intake.store(rows).await
    }

    /// Validates a notification without accepting it, and returns it as it would be accepted.
    ///
    /// # Errors
    /// As [`Notifications::create`].
    pub async fn rehearse(&self, new: NewNotification) -> Result<Notification> {
        let rows = self.rows_of(new, false).await?;
        self.fresh(&rows)
    }

    /// Accepts a notification, and returns when it is on disk. `answering` makes the response, and `again` makes the
    /// response to an equal request that follows one that waited.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a notification that cannot be delivered, [`Error::Busy`], and errors of its idempotency
    /// key.
    pub async fn create(
        &self,
        new: NewNotification,
        key: Option<IdempotencyKey>,
        (answering, again): (BuildResponse, BuildResponse),
    ) -> Result<Created<Notification>> {
        let rows = match self.rows_of(new, false).await {
            Ok(rows) => rows,
            Err(refused) => return self.before(key, refused, again).await.map(Created::Before),
        };
        let notification = self.fresh(&rows)?;
        let answer = answering(&notification)?;
        let claim = Claim::of(key, notification.id.0, &answer);
        match self.store(NewNotificationRows { rows: vec![rows], batch: None, claim }).await? {
            StoreResult::New => Ok(Created::New(notification, answer)),
            StoreResult::Refused(claim) => self.answer_to(claim, again).await.map(Created::Before),
        }
    }

    /// Returns the response of an equal request.
    async fn answer_to(&self, claim: ClaimResult, answering: BuildResponse) -> Result<IdempotentResponse> {
        match claim {
            ClaimResult::Answered(answer) => Ok(answer),
            // the request waited, and the process died before its response was stored
            ClaimResult::Unanswered(id) => answering(&self.find(MessageId(id)).await?),
            other => Err(idempotency::refusal(&other)),
        }
    }

    /// Returns the stored response of an earlier equal request, or `refused` if there was none.
    async fn before(
        &self,
        key: Option<IdempotencyKey>,
        refused: Error,
        answering: BuildResponse,
    ) -> Result<IdempotentResponse> {
        let claim = idempotency::before(&self.db, key, refused, self.clock.now()).await?;
        self.answer_to(claim, answering).await
    }

    /// Accepts a notification, and waits for its final status until `patience` has passed or the service shuts down.
    /// Then `answering` makes the response. The wait does not poll the database: the engine publishes final statuses,
    /// also those from other nodes.
    ///
    /// # Errors
    /// As [`Notifications::create`].
    pub async fn create_and_wait(
        &self,
        new: NewNotification,
        key: Option<IdempotencyKey>,
        (patience, answering): (Duration, BuildResponse),
    ) -> Result<Created<Notification>> {
        let rows = match self.rows_of(new, true).await {
            Ok(rows) => rows,
            Err(refused) => return self.before(key, refused, answering).await.map(Created::Before),
        };
        let id = rows.0.id;
        // registered before the notification can get its final status
        let waiter = self.live.wait_for(id);
        let locked_until = Some(self.clock.now().plus(patience + SPARE));
        let name = key.as_ref().map(|key| key.key.clone());
        let claim = key.map(|key| Claim { key, resource: id.0, answer: None, locked_until });
        match self.store(NewNotificationRows { rows: vec![rows], batch: None, claim }).await? {
            StoreResult::New => {}
            StoreResult::Refused(claim) => {
                return self.answer_to(claim, answering).await.map(Created::Before);
            }
        }
        self.wait(patience, waiter.ended()).await;
        let found = self.find(id).await?;
        let answer = answering(&found)?;
        if let Some(name) = name {
            let answer = answer.clone();
            self.db.write(move |c| idempotency::answer(c, &name, &answer)).await?;
        }
        Ok(Created::New(found, answer))
    }

    /// Validates a batch without accepting it, and returns the results as they would be.
    ///
    /// # Errors
    /// As [`Notifications::create_batch`].
    pub async fn rehearse_batch(
        &self,
        wanted: Vec<ParsedNotification>,
        is_atomic: bool,
    ) -> Result<AcceptedBatch> {
        Ok(self.batch_rows(wanted, is_atomic).await?.0)
    }

    async fn batch_rows(
        &self,
        wanted: Vec<ParsedNotification>,
        is_atomic: bool,
    ) -> Result<(AcceptedBatch, NewNotificationRows)> {
        let (now, id) = (self.clock.now(), BatchId::new());
        let clients = wanted.iter().filter_map(|item| match item {
            Ok(NewNotification { to: To::Client(id), .. }) => Some(*id),
            _ => None,
        });
        let addresses = self.addresses(clients.collect()).await?;
        let mut found = Vec::with_capacity(wanted.len());
        for item in wanted {
            let find = async {
                let mut new = item.map_err(Error::Invalid)?;
                self.check(&new, now)?;
                let filling = self.filling(&mut new, &addresses).await?;
                Ok((new, filling))
            };
            found.push(find.await);
        }
        let has_templates = found.iter().any(|item| matches!(item, Ok((_, Some(_)))));
        let fill = |item: Result<(NewNotification, Option<LoadedTemplate>)>| item.and_then(filled);
        let filled: Vec<Result<NewNotification>> = match has_templates {
            true => self.templates.pool().map(found, fill).await?,
            false => found.into_iter().map(fill).collect(),
        };
        let (mut rows, mut items) = (Vec::with_capacity(filled.len()), Vec::with_capacity(filled.len()));
        for item in filled {
            let made =
                item.and_then(|new| new.into_rows(MessageId::new(), Some(id), (&addresses, false), now));
            match made {
                Ok(row) => {
                    items.push(BatchEntry::Accepted(row.0.id));
                    rows.push(row);
                }
                Err(Error::Invalid(fields)) => items.push(BatchEntry::Rejected(fields)),
                Err(other) => return Err(other),
            }
        }
        if rows.is_empty() || (is_atomic && rows.len() < items.len()) {
            return Err(Error::Invalid(complaints(&items)));
        }
        Ok((AcceptedBatch { id, items }, NewNotificationRows { rows, batch: Some(id), claim: None }))
    }

    /// Accepts the valid notifications of a batch, or with `is_atomic` all or none. `answer` makes the response, and
    /// `again` makes the response to an equal request that follows one that waited.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no notification is valid, or with `is_atomic` if any is invalid; else as
    /// [`Notifications::create`].
    pub async fn create_batch(
        &self,
        (wanted, is_atomic): (Vec<ParsedNotification>, bool),
        key: Option<IdempotencyKey>,
        (answer, again): (impl FnOnce(&AcceptedBatch) -> Result<IdempotentResponse>, BuildResponse),
    ) -> Result<Created<AcceptedBatch>> {
        let (taken, mut rows) = match self.batch_rows(wanted, is_atomic).await {
            Ok(made) => made,
            Err(refused) => return self.before(key, refused, again).await.map(Created::Before),
        };
        let answer = answer(&taken)?;
        rows.claim = Claim::of(key, taken.id.0, &answer);
        match self.store(rows).await? {
            StoreResult::New => Ok(Created::New(taken, answer)),
            StoreResult::Refused(claim) => self.answer_to(claim, again).await.map(Created::Before),
        }
    }

    async fn find(&self, id: MessageId) -> Result<Notification> {
        let now = self.clock.now();
        let found = self.db.read(move |c| repo::find(c, id, now)).await?;
        let found = found.ok_or_else(|| Error::not_found("notification", id))?;
        Ok(found.with_default_retries(&self.terms.retries))
    }

    /// Returns one notification with all its attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: MessageId) -> Result<NotificationWithAttempts> {
        let now = self.clock.now();
        let found = self
            .db
            .read(move |c| {
                let Some(notification) = repo::find(c, id, now)? else { return Ok(None) };
                Ok(Some((notification, messages::repo::attempts(c, id)?)))
            })
            .await?;
        let (notification, mut attempts) = found.ok_or_else(|| Error::not_found("notification", id))?;
        // the attempt that delivered is stored in the message itself
        if let (Status::Sent, Some(at)) = (notification.status, notification.finished_at) {
            let last = notification.last;
            attempts.push(Attempt {
                number: last.number,
                at,
                outcome: OutcomeKind::Delivered,
                status_code: last.status_code.map(i32::from),
                duration_ms: last.duration_ms.unwrap_or_default(),
                error: None,
            });
        }
        let notification = notification.with_default_retries(&self.terms.retries);
        Ok(NotificationWithAttempts { notification, attempts })
    }

    /// Returns up to `limit` notifications that match the filter, after the first `offset`, and true if there are more.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a batch that does not exist.
    pub async fn list(
        &self,
        filter: NotificationFilter,
        order: NotificationOrder,
        (limit, offset): (i64, i64),
    ) -> Result<(Vec<Notification>, bool)> {
        let now = self.clock.now();
        let retries = self.terms.retries.clone();
        let read = move |c: &mut AnyConnection| {
            let mut offset = offset;
            let part = |after: Option<&MessageId>, count| {
                let filter = NotificationFilter { after: after.copied(), ..filter.clone() };
                // the offset is for the first part only; later parts are found by their cursor
                let window = (count, std::mem::take(&mut offset));
                let found = repo::list(c, &filter, order, window, now)?.into_iter();
                Ok(found.map(|found| found.with_default_retries(&retries)).collect::<Vec<_>>())
            };
            paging::page_of(limit, filter.after, part, |last| last.id)
        };
        let (found, next) = self.db.read(read).await?;
        Ok((found, next.is_some()))
    }

    /// Returns the notifications of an event, in the order of creation.
    ///
    /// # Errors
    /// Database errors.
    pub async fn of_event(&self, event: EventId) -> Result<Vec<Notification>> {
        let filter = NotificationFilter { event: Some(event), ..NotificationFilter::default() };
        Ok(self.list(filter, NotificationOrder::OldestFirst, (MOST_OF_AN_EVENT, 0)).await?.0)
    }

    /// Cancels a waiting notification. No attempt starts after it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`] if an attempt is in flight or it has its final status, [`Error::NotFound`],
    /// [`Error::OutcomeUnknown`] if the node that holds it does not respond.
    pub async fn cancel(&self, id: MessageId) -> Result<()> {
        let now = self.clock.now();
        let cancelled = self.db.write(move |c| repo::cancel(c, id, now)).await?;
        self.tell_cancelled(&cancelled.ended);
        match self.cancel_noted(cancelled.noted, false).await?.get(&id) {
            None | Some(CancellationState::Ended(MessageStatus::Cancelled) | CancellationState::SetAside) => {
                Ok(())
            }
            Some(CancellationState::Unanswered | CancellationState::Waits) => {
                Err(cancelling::unanswered(&format!("notification {id}")))
            }
            Some(CancellationState::Ended(_) | CancellationState::InFlight) => {
                Err(self.db.read(move |c| repo::over(c, id, now)).await?)
            }
        }
    }

    /// Waits until no attempt can start for messages whose cancellation was recorded, and returns the result for each.
    async fn cancel_noted(
        &self,
        ids: Vec<MessageId>,
        holds: bool,
    ) -> Result<HashMap<MessageId, CancellationState>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        cancelling::settle(&self.db, &*self.arrivals, &ids).await?;
        let now = self.clock.now();
        let (ended, came) = self.db.write(move |c| repo::cancel_noted(c, &ids, holds, now)).await?;
        self.tell_cancelled(&ended);
        Ok(came)
    }

    /// Changes a waiting notification.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not wait any more, [`Error::NotFound`], [`Error::Invalid`] for invalid times.
    pub async fn reschedule(&self, id: MessageId, change: NotificationChange) -> Result<Notification> {
        let now = self.clock.now();
        if change.scheduled_at.is_some_and(|at| at > now.plus(Duration::from_secs(366 * 24 * 60 * 60))) {
            return Err(Error::invalid("scheduled_at", "must be within a year from now"));
        }
        let changed = self.db.write(move |c| repo::reschedule(c, id, &change, now)).await?;
        self.arrivals.arrived();
        Ok(changed.with_default_retries(&self.terms.retries))
    }

    /// Returns a batch with its counts.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn batch(&self, id: BatchId) -> Result<Batch> {
        let counts = self.db.read(move |c| repo::counts(c, id)).await?;
        let counts = counts.ok_or_else(|| Error::not_found("batch", id))?;
        Ok(Batch { batch_id: id, created_at: id.created_at(), counts })
    }

    /// Cancels the waiting notifications of a batch, also those in a lane. No attempt of a cancelled one starts after
    /// it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OutcomeUnknown`] if a node that holds some of them does not respond.
    pub async fn cancel_batch(&self, id: BatchId) -> Result<Batch> {
        let now = self.clock.now();
        let cancelled = self.db.write(move |c| repo::cancel_batch(c, id, now)).await?;
        let cancelled = cancelled.ok_or_else(|| Error::not_found("batch", id))?;
        self.tell_cancelled(&cancelled.ended);
        let came = self.cancel_noted(cancelled.noted, true).await?;
        if came.values().any(|came| matches!(came, CancellationState::Unanswered | CancellationState::Waits))
        {
            return Err(cancelling::unanswered(&format!("batch {id}")));
        }
        self.batch(id).await
    }

    fn tell_cancelled(&self, changes: &[Change]) {
        for change in changes {
            self.metrics.cancelled.with_label_values(&[change.channel.as_str()]).inc();
            self.live.publish(change, true);
        }
    }
}

/// Renders the template of a notification, if it has one.
fn filled((mut new, filling): (NewNotification, Option<LoadedTemplate>)) -> Result<NewNotification> {
    filling.map_or(Ok(()), |filling| new.fill_from(&filling))?;
    Ok(new)
}

/// Returns the errors of a batch, each with the index of its notification.
fn complaints(items: &[BatchEntry]) -> Vec<FieldError> {
    let wrong = items.iter().enumerate().filter_map(|(index, item)| match item {
        BatchEntry::Rejected(fields) => Some((index, fields.as_slice())),
        BatchEntry::Accepted(_) => None,
    });
    FieldError::of_each("notifications", wrong)
}
