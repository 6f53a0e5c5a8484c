//! What can be done with notifications, and when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::intake::Intake;
use super::model::{
    Batch, NewNotification, Notification, NotificationWithAttempts, Rescheduling, Status, TemplateFill, To,
};
use super::repo::{self, Addresses, NewRows, Stored};
pub use super::repo::{Filter, Order};
use crate::clock::Clock;
use crate::db::gather::Room;
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Error, FieldError, Result};
use crate::idempotency::{self, Answer, Claim, Key, Made, Verdict};
use crate::kinds::{ChannelKind, MessageStatus, OutcomeKind};
use crate::lifecycle::Shutdown;
use crate::live::{Change, Live};
use crate::messages;
use crate::messages::cancelling::{self, Recall};
use crate::messages::model::Attempt;
use crate::messages::repo::cancellation::Came;
use crate::metrics::Metrics;
use crate::paging;
use crate::templates::Templates;

/// The most notifications of one batch.
pub const LARGEST_BATCH: usize = 1000;
/// More than routes can ask for at once.
const MOST_OF_AN_EVENT: i64 = 20_000;
/// Beyond the wait of a request in work: the time in which its answer is written.
const SPARE: Duration = Duration::from_secs(5);

/// The engine, as far as notifications need it: some have come, look. A hint; the engine's own look is the guarantee.
pub trait Arrivals: Recall {
    /// Some have come, or are due at another time.
    fn arrived(&self);
}

/// Says what is against a URL.
pub type UrlCheck = Box<dyn Fn(&str) -> std::result::Result<(), String> + Send + Sync>;

/// Makes the answer to a request that waited from what its notification has come to.
pub type Answering = fn(&Notification) -> Result<Answer>;

/// What the service grants.
pub struct Terms {
    /// Why a channel takes nothing here, for those that have no provider.
    pub missing: HashMap<ChannelKind, String>,
    /// What is against a URL as a recipient, if anything is.
    pub check_url: UrlCheck,
    /// Notifications that may wait for the database at once.
    pub intake_limit: usize,
    /// How many times one is tried again that has no policy of its own.
    pub retries: HashMap<ChannelKind, usize>,
    /// For how long a caller waits for the end who does not say for how long.
    pub patience: Duration,
    /// Ends every wait.
    pub shutdown: Shutdown,
}

/// The notifications.
pub struct Notifications {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    live: Live,
    arrivals: Arc<dyn Arrivals>,
    intake: Intake,
    templates: Templates,
    room: Room,
    terms: Terms,
}

/// One of a batch, as far as it could be read.
pub type Wanted = std::result::Result<NewNotification, Vec<FieldError>>;

/// What became of one of a batch.
#[derive(Debug)]
pub enum Item {
    /// It was accepted under this id.
    Accepted(MessageId),
    /// It is wrong.
    Rejected(Vec<FieldError>),
}

/// A batch as it was taken.
#[derive(Debug)]
pub struct Taken {
    /// Its id.
    pub id: BatchId,
    /// What became of each, in their order.
    pub items: Vec<Item>,
}

impl Notifications {
    /// Over this database and this intake, with these templates, waking this engine.
    pub fn new(
        (db, clock, metrics, live): (Db, Clock, Metrics, Live),
        arrivals: Arc<dyn Arrivals>,
        (intake, templates): (Intake, Templates),
        terms: Terms,
    ) -> Self {
        let room = Room::new(terms.intake_limit, "notifications");
        Self { db, clock, metrics, live, arrivals, intake, templates, room, terms }
    }

    /// For how long a caller waits for the end who does not say for how long.
    pub fn patience(&self) -> Duration {
        self.terms.patience
    }

    /// Waits for ends, up to `patience`. A service that stops waits no longer: its caller is answered with what is known.
    pub async fn wait(&self, patience: Duration, ends: impl Future) {
        tokio::select! {
            _ = tokio::time::timeout(patience, ends) => {}
            () = self.terms.shutdown.wait() => {}
        }
    }

    /// Why nothing can be sent to this address of a channel here, if nothing can.
    ///
    /// # Errors
    /// The reason, in words that do not repeat the address.
    pub fn admits(&self, channel: ChannelKind, address: &str) -> std::result::Result<(), String> {
        if let Some(why) = self.terms.missing.get(&channel) {
            return Err(why.clone());
        }
        match channel {
            ChannelKind::Webhook | ChannelKind::Discord => (self.terms.check_url)(address),
            _ => Ok(()),
        }
    }

    /// Why this cannot be accepted, if it cannot.
    fn check(&self, new: &NewNotification, now: Timestamp) -> Result<()> {
        if let Some(why) = self.terms.missing.get(&new.channel) {
            return Err(Error::invalid("channel", why.clone()));
        }
        if let (ChannelKind::Webhook | ChannelKind::Discord, To::Address(url)) = (new.channel, &new.to) {
            (self.terms.check_url)(url).map_err(|why| Error::invalid("recipient", why))?;
        }
        new.check(now)
    }

    async fn addresses(&self, ids: Vec<ClientId>) -> Result<HashMap<ClientId, Addresses>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.db.read(move |c| repo::addresses(c, &ids)).await
    }

    /// Finds the template that is wanted, if one is.
    async fn filling(
        &self,
        new: &mut NewNotification,
        clients: &HashMap<ClientId, Addresses>,
    ) -> Result<Option<TemplateFill>> {
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
        Ok(Some(TemplateFill { fill, variants, client_locale, unsubscribe_url: link() }))
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
        // not older than its id, which is made now
        new.into_rows(MessageId::new(), None, (&addresses, is_awaited), self.clock.now())
    }

    /// As it stands right after it was accepted.
    fn fresh(
        &self,
        (message, content): &(crate::messages::repo::MessageRow, repo::NotificationRow),
    ) -> Result<Notification> {
        let status = content.status_at_first(message);
        let found = Notification::of_rows(message.clone(), content.clone(), status, message.due_at)?;
        Ok(found.with_default_retries(&self.terms.retries))
    }

    /// Hands rows to the intake, if so much more can wait for the database.
    async fn store(&self, rows: NewRows) -> Result<Stored> {
        let _room = self.room.take(rows.rows.len())?;
        self.intake.store(rows).await
    }

    /// What it would be, without accepting it.
    ///
    /// # Errors
    /// As [`Notifications::create`].
    pub async fn rehearse(&self, new: NewNotification) -> Result<Notification> {
        let rows = self.rows_of(new, false).await?;
        self.fresh(&rows)
    }

    /// Accepts a notification: it is on disk when this answers. The request is answered with this HTTP status.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be delivered, [`Error::Busy`], and those of its key.
    pub async fn create(
        &self,
        new: NewNotification,
        key: Option<Key>,
        status: u16,
    ) -> Result<Made<Notification>> {
        let rows = match self.rows_of(new, false).await {
            Ok(rows) => rows,
            Err(refused) => return self.before(key, refused, answer_after_waiting).await.map(Made::Before),
        };
        let notification = self.fresh(&rows)?;
        let answer = answer(status, &notification)?;
        let claim = Claim::of(key, notification.id.0, &answer);
        match self.store(NewRows { rows: vec![rows], batch: None, claim }).await? {
            Stored::New => Ok(Made::New(notification, answer)),
            Stored::Refused(verdict) => self.answer_to(verdict, answer_after_waiting).await.map(Made::Before),
        }
    }

    /// What an equal request was answered.
    async fn answer_to(&self, verdict: Verdict, answering: Answering) -> Result<Answer> {
        match verdict {
            Verdict::Answered(answer) => Ok(answer),
            // it waited, and died before the end
            Verdict::Unanswered(id) => answering(&self.find(MessageId(id)).await?),
            other => Err(idempotency::refusal(&other)),
        }
    }

    /// What an equal request was answered before, for one that is refused.
    async fn before(&self, key: Option<Key>, refused: Error, answering: Answering) -> Result<Answer> {
        let verdict = idempotency::before(&self.db, key, refused, self.clock.now()).await?;
        self.answer_to(verdict, answering).await
    }

    /// Accepts a notification and waits for its end, up to `patience` and until the service stops; what it has come to
    /// then is `answering`'s. The wait asks the database nothing: the engine tells of the end, also another node's.
    ///
    /// # Errors
    /// As [`Notifications::create`].
    pub async fn create_and_wait(
        &self,
        new: NewNotification,
        key: Option<Key>,
        (patience, answering): (Duration, Answering),
    ) -> Result<Made<Notification>> {
        let rows = match self.rows_of(new, true).await {
            Ok(rows) => rows,
            Err(refused) => return self.before(key, refused, answering).await.map(Made::Before),
        };
        let id = rows.0.id;
        // registered before it can end
        let waiter = self.live.wait_for(id);
        let locked_until = Some(self.clock.now().plus(patience + SPARE));
        let name = key.as_ref().map(|key| key.key.clone());
        let claim = key.map(|key| Claim { key, resource: id.0, answer: None, locked_until });
        match self.store(NewRows { rows: vec![rows], batch: None, claim }).await? {
            Stored::New => {}
            Stored::Refused(verdict) => return self.answer_to(verdict, answering).await.map(Made::Before),
        }
        self.wait(patience, waiter.ended()).await;
        let found = self.find(id).await?;
        let answer = answering(&found)?;
        if let Some(name) = name {
            let answer = answer.clone();
            self.db.write(move |c| idempotency::answer(c, &name, &answer)).await?;
        }
        Ok(Made::New(found, answer))
    }

    /// What a batch would be, without accepting it.
    ///
    /// # Errors
    /// As [`Notifications::create_batch`].
    pub async fn rehearse_batch(&self, wanted: Vec<Wanted>, is_atomic: bool) -> Result<Taken> {
        Ok(self.batch_rows(wanted, is_atomic).await?.0)
    }

    async fn batch_rows(&self, wanted: Vec<Wanted>, is_atomic: bool) -> Result<(Taken, NewRows)> {
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
        let fill = |item: Result<(NewNotification, Option<TemplateFill>)>| item.and_then(filled);
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
                    items.push(Item::Accepted(row.0.id));
                    rows.push(row);
                }
                Err(Error::Invalid(fields)) => items.push(Item::Rejected(fields)),
                Err(other) => return Err(other),
            }
        }
        if rows.is_empty() || (is_atomic && rows.len() < items.len()) {
            return Err(Error::Invalid(complaints(&items)));
        }
        Ok((Taken { id, items }, NewRows { rows, batch: Some(id), claim: None }))
    }

    /// Accepts a batch: those that are right, or with `is_atomic` all or none. `answer` says what the request is answered.
    ///
    /// # Errors
    /// [`Error::Invalid`] when none is right, or not all that must be; else as [`Notifications::create`].
    pub async fn create_batch(
        &self,
        wanted: Vec<Wanted>,
        is_atomic: bool,
        key: Option<Key>,
        answer: impl FnOnce(&Taken) -> Result<Answer>,
    ) -> Result<Made<Taken>> {
        let (taken, mut rows) = match self.batch_rows(wanted, is_atomic).await {
            Ok(made) => made,
            Err(refused) => return self.before(key, refused, answer_after_waiting).await.map(Made::Before),
        };
        let answer = answer(&taken)?;
        rows.claim = Claim::of(key, taken.id.0, &answer);
        match self.store(rows).await? {
            Stored::New => Ok(Made::New(taken, answer)),
            Stored::Refused(verdict) => self.answer_to(verdict, answer_after_waiting).await.map(Made::Before),
        }
    }

    async fn find(&self, id: MessageId) -> Result<Notification> {
        let now = self.clock.now();
        let found = self.db.read(move |c| repo::find(c, id, now)).await?;
        let found = found.ok_or_else(|| Error::not_found("notification", id))?;
        Ok(found.with_default_retries(&self.terms.retries))
    }

    /// One notification with all its attempts.
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
        // the attempt that delivered stands in the message itself
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

    /// Those that `filter` lets through: `limit` after the first `offset`, and whether there are more.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a batch that does not exist.
    pub async fn list(
        &self,
        filter: Filter,
        order: Order,
        (limit, offset): (i64, i64),
    ) -> Result<(Vec<Notification>, bool)> {
        let now = self.clock.now();
        let retries = self.terms.retries.clone();
        let read = move |c: &mut AnyConnection| {
            let mut offset = offset;
            let part = |after: Option<&MessageId>, count| {
                let filter = Filter { after: after.copied(), ..filter.clone() };
                // what comes after the first part is found by its place
                let window = (count, std::mem::take(&mut offset));
                let found = repo::list(c, &filter, order, window, now)?.into_iter();
                Ok(found.map(|found| found.with_default_retries(&retries)).collect::<Vec<_>>())
            };
            paging::page_of(limit, filter.after, part, |last| last.id)
        };
        let (found, next) = self.db.read(read).await?;
        Ok((found, next.is_some()))
    }

    /// Those that an event caused, in the order in which they were made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of_event(&self, event: EventId) -> Result<Vec<Notification>> {
        let filter = Filter { event: Some(event), ..Filter::default() };
        Ok(self.list(filter, Order::OldestFirst, (MOST_OF_AN_EVENT, 0)).await?.0)
    }

    /// Cancels one that waits. Once this has answered, no attempt starts.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is sent, being sent or over, [`Error::NotFound`].
    pub async fn cancel(&self, id: MessageId) -> Result<()> {
        let now = self.clock.now();
        let cancelled = self.db.write(move |c| repo::cancel(c, id, now)).await?;
        self.tell_cancelled(&cancelled.ended);
        match self.cancel_noted(cancelled.noted, false).await?.get(&id) {
            None | Some(Came::Ended(MessageStatus::Cancelled) | Came::SetAside) => Ok(()),
            Some(Came::Unanswered | Came::Waits) => {
                Err(cancelling::unanswered(&format!("notification {id}")))
            }
            Some(Came::Ended(_) | Came::InFlight) => {
                Err(self.db.read(move |c| repo::over(c, id, now)).await?)
            }
        }
    }

    /// Waits until no attempt can begin any more at messages that were noted as cancelled; answers what came of each.
    async fn cancel_noted(&self, ids: Vec<MessageId>, holds: bool) -> Result<HashMap<MessageId, Came>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        cancelling::settle(&self.db, &*self.arrivals, &ids).await?;
        let now = self.clock.now();
        let (ended, came) = self.db.write(move |c| repo::cancel_noted(c, &ids, holds, now)).await?;
        self.tell_cancelled(&ended);
        Ok(came)
    }

    /// Changes one that waits.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not wait any more, [`Error::NotFound`], [`Error::Invalid`] for times that cannot be.
    pub async fn reschedule(&self, id: MessageId, change: Rescheduling) -> Result<Notification> {
        let now = self.clock.now();
        if change.scheduled_at.is_some_and(|at| at > now.plus(Duration::from_secs(366 * 24 * 60 * 60))) {
            return Err(Error::invalid("scheduled_at", "must be within a year from now"));
        }
        let changed = self.db.write(move |c| repo::reschedule(c, id, &change, now)).await?;
        self.arrivals.arrived();
        Ok(changed.with_default_retries(&self.terms.retries))
    }

    /// A batch with its counts.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn batch(&self, id: BatchId) -> Result<Batch> {
        let counts = self.db.read(move |c| repo::counts(c, id)).await?;
        let counts = counts.ok_or_else(|| Error::not_found("batch", id))?;
        Ok(Batch { batch_id: id, created_at: id.created_at(), counts })
    }

    /// Cancels all of a batch that wait, also in a lane. After that no attempt at any of it begins.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::OutcomeUnknown`] when the node that has some in hand does not answer.
    pub async fn cancel_batch(&self, id: BatchId) -> Result<Batch> {
        let now = self.clock.now();
        let cancelled = self.db.write(move |c| repo::cancel_batch(c, id, now)).await?;
        let cancelled = cancelled.ok_or_else(|| Error::not_found("batch", id))?;
        self.tell_cancelled(&cancelled.ended);
        let came = self.cancel_noted(cancelled.noted, true).await?;
        if came.values().any(|came| matches!(came, Came::Unanswered | Came::Waits)) {
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

/// The answer to a request that waited: 200 with the end, 202 with what is known.
///
/// # Errors
/// None in practice.
pub fn answer_after_waiting(found: &Notification) -> Result<Answer> {
    answer(if found.status.is_final() { 200 } else { 202 }, found)
}

fn answer(status: u16, notification: &Notification) -> Result<Answer> {
    Answer::new(status, Some(format!("/api/v1/notifications/{}", notification.id)), notification)
}

/// Fills the template of a notification, if it has one.
fn filled((mut new, filling): (NewNotification, Option<TemplateFill>)) -> Result<NewNotification> {
    filling.map_or(Ok(()), |filling| new.fill_from(&filling))?;
    Ok(new)
}

/// What is wrong with each of a batch, by its place.
fn complaints(items: &[Item]) -> Vec<FieldError> {
    let wrong = items.iter().enumerate().filter_map(|(index, item)| match item {
        Item::Rejected(fields) => Some((index, fields.as_slice())),
        Item::Accepted(_) => None,
    });
    FieldError::of_each("notifications", wrong)
}
