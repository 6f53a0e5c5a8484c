//! The use cases of recurring requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::model::{CronSchedule, RecurringRequest, RecurringStatus};
use super::repo::{self, RecurringRow};
use crate::clock::Clock;
use crate::db::types::{RecurringId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Claim, Created, IdempotencyKey, IdempotentResponse, Mode};
use crate::kinds::ChannelKind;
use crate::messages::cancelling;
use crate::messages::repo::cancellation::CancellationState;
use crate::metrics::Metrics;
use crate::notifications::notifier::NewMessageNotifier;
use crate::paging;
use crate::requests;
use crate::requests::model::{Recurrence, Request, RequestDraft};
use crate::requests::usecase::Requests;
use crate::runtime::Runtime;

/// A status, and the time of the next occurrence.
type RecurringState = (RecurringStatus, Option<Timestamp>);

/// The recurring requests of one database.
pub struct Recurring {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    arrivals: Arc<dyn NewMessageNotifier>,
    /// Validates requests.
    requests: Arc<Requests>,
    /// Wakes the timekeeper of this node, if it has one.
    timekeeper: Arc<Notify>,
    delays: Vec<Duration>,
}

impl Recurring {
    /// Creates the service. `timekeeper` is woken for each new or resumed recurring request. `delays` apply to requests
    /// without delays of their own.
    pub fn new(
        Runtime { db, clock, metrics, .. }: Runtime,
        (requests, arrivals): (Arc<Requests>, Arc<dyn NewMessageNotifier>),
        timekeeper: Arc<Notify>,
        delays: Vec<Duration>,
    ) -> Self {
        Self { db, clock, metrics, arrivals, requests, timekeeper, delays }
    }

    /// Accepts a recurring request, which is durable when this returns. It has no occurrence before `not_before`, and
    /// none at its `until` or later. `answer` builds the response to the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`], and the errors of its key.
    pub async fn create(
        &self,
        (asked, not_before): (RequestDraft, Option<Timestamp>),
        recurrence: &Recurrence,
        mode: Mode,
        answer: impl FnOnce(&RecurringRequest) -> Result<IdempotentResponse>,
    ) -> Result<Created<RecurringRequest>> {
        let now = self.clock.now();
        let row = match self.plan((&asked, not_before), recurrence, now).await {
            Ok(row) => row,
            Err(refused) => return idempotency::made_before(&self.db, mode.key(), refused, now).await,
        };
        let recurring = RecurringRequest::from_row(&row, &self.delays)?;
        let answer = answer(&recurring)?;
        let id = row.id.0;
        let insert = move |c: &mut AnyConnection| {
            repo::insert(c, &row)?;
            Ok(recurring)
        };
        let made = idempotency::create(&self.db, (mode, id), now, answer, insert).await?;
        self.timekeeper.notify_one();
        Ok(made)
    }

    async fn plan(
        &self,
        (asked, not_before): (&RequestDraft, Option<Timestamp>),
        recurrence: &Recurrence,
        now: Timestamp,
    ) -> Result<RecurringRow> {
        let mut wrong = Complaints::default();
        let schedule = CronSchedule::read(recurrence, (not_before, asked.until), &mut wrong);
        wrong.gather(self.requests.check(asked, not_before, now).await)?;
        wrong.finish()?;
        let schedule = schedule.ok_or_else(|| Error::internal("a schedule is missing without an error"))?;
        let Some(next_at) = schedule.next_after(now) else {
            let endless = CronSchedule { ends_at: None, ..schedule };
            let first = endless.next_after(now).map(|at| format!(", which would be at {at}"));
            let why = format!("must be after the first occurrence{}", first.unwrap_or_default());
            return Err(Error::invalid("retry.until", why));
        };
        RecurringRow::new(asked, &schedule, next_at, now)
    }

    /// Returns the recurring request with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: RecurringId) -> Result<RecurringRequest> {
        let row = self.db.read(move |c| repo::find(c, id)).await?;
        RecurringRequest::from_row(&row.ok_or_else(|| not_found(id))?, &self.delays)
    }

    /// Returns a page of the recurring requests with this status, the newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(
        &self,
        status: Option<RecurringStatus>,
        before: Option<RecurringId>,
        limit: i64,
    ) -> Result<(Vec<RecurringRequest>, Option<RecurringId>)> {
        let delays = self.delays.clone();
        let read = move |c: &mut AnyConnection| {
            let part = |before: Option<&RecurringId>, count| {
                let rows = repo::list(c, status, before.copied(), count)?;
                rows.iter().map(|row| RecurringRequest::from_row(row, &delays)).collect::<Result<Vec<_>>>()
            };
            paging::page_of(limit, before, part, |shown| shown.id)
        };
        self.db.read(read).await
    }

    /// Stops planning occurrences until it is resumed. Waiting occurrences stay.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not scheduled or is at its end, [`Error::NotFound`].
    pub async fn pause(&self, id: RecurringId) -> Result<RecurringRequest> {
        self.change(id, "paused", |row, _| {
            let goes_on = is(row, RecurringStatus::Scheduled) && row.next_at.is_some();
            Ok(goes_on.then_some((RecurringStatus::Paused, None)))
        })
        .await
    }

    /// Continues with the next occurrence after now, and skips the occurrences of the pause.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not paused or is at its end, [`Error::NotFound`].
    pub async fn resume(&self, id: RecurringId) -> Result<RecurringRequest> {
        let to = |row: &RecurringRow, now| {
            let next_at = row.schedule()?.next_after(now);
            let goes_on = is(row, RecurringStatus::Paused) && next_at.is_some();
            Ok(goes_on.then_some((RecurringStatus::Scheduled, next_at)))
        };
        let resumed = self.change(id, "resumed", to).await?;
        self.timekeeper.notify_one();
        Ok(resumed)
    }

    /// Changes the status and the next occurrence to the result of `to`. `None` means that the current status does not
    /// allow the change.
    async fn change(
        &self,
        id: RecurringId,
        verb: &'static str,
        to: impl FnOnce(&RecurringRow, Timestamp) -> Result<Option<RecurringState>> + Send + 'static,
    ) -> Result<RecurringRequest> {
        let now = self.clock.now();
        let work = move |c: &mut AnyConnection| {
            let mut row = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            let state = to(&row, now)?.ok_or_else(|| refused(&row, verb))?;
            repo::change(c, id, state, now)?;
            (row.status, row.next_at, row.updated_at) = (state.0.code(), state.1, now);
            Ok(row)
        };
        let row = self.db.write(work).await?;
        RecurringRequest::from_row(&row, &self.delays)
    }

    /// Stops planning occurrences for good, and cancels waiting ones, also in lanes. After that no attempt starts.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is cancelled, [`Error::NotFound`], [`Error::OutcomeUnknown`] if the node that holds an
    /// occurrence does not respond.
    pub async fn cancel(&self, id: RecurringId) -> Result<()> {
        let now = self.clock.now();
        let work = move |c: &mut AnyConnection| {
            let row = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            if is(&row, RecurringStatus::Cancelled) {
                return Err(refused(&row, "cancelled"));
            }
            repo::change(c, id, (RecurringStatus::Cancelled, None), now)?;
            let open = repo::open_runs(c, id)?;
            requests::repo::cancel(c, &open, true, now)
        };
        let cancelled = self.db.write(work).await?;
        let came = self.requests.end_cancelled(cancelled, true).await?;
        if came.values().any(|came| matches!(came, CancellationState::Unanswered | CancellationState::Waits))
        {
            return Err(cancelling::unanswered(&format!("occurrences of the recurring request {id}")));
        }
        Ok(())
    }

    /// Creates an occurrence that is due now, in addition to its times, even while it is paused. `answer` builds the
    /// response to the caller.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is cancelled or its end has passed, [`Error::NotFound`], and the errors of its key.
    pub async fn run(
        &self,
        id: RecurringId,
        key: Option<IdempotencyKey>,
        answer: impl FnOnce(&Request) -> Result<IdempotentResponse> + Send + 'static,
    ) -> Result<Created<Request>> {
        let (now, delays) = (self.clock.now(), self.delays.clone());
        let own = key.clone();
        let work = move |c: &mut AnyConnection| {
            let row = repo::find_for_update(c, id)?.ok_or_else(|| not_found(id))?;
            if is(&row, RecurringStatus::Cancelled) || row.ends_at.is_some_and(|end| end <= now) {
                return Err(refused(&row, "run"));
            }
            let rows = repo::run(&row, now, now)?;
            let request = Request::from_rows((&rows.0, &rows.1, Some(now)), &delays, now)?;
            let answer = answer(&request)?;
            let claim = Claim::of(own, request.id.0, &answer);
            idempotency::once(c, claim.as_ref(), now, answer, |c| {
                requests::repo::insert(c, vec![rows], now)?;
                repo::note_run(c, id, now)?;
                Ok(request)
            })
        };
        let made = match self.db.write(work).await {
            // the first request with this key may have come before the end
            Err(refused) => idempotency::made_before(&self.db, key, refused, now).await?,
            Ok(made) => made,
        };
        if let Created::New(..) = &made {
            self.metrics.entered(ChannelKind::Request, 1);
            self.arrivals.arrived();
        }
        Ok(made)
    }
}

fn is(row: &RecurringRow, status: RecurringStatus) -> bool {
    row.status == status.code()
}

fn not_found(id: RecurringId) -> Error {
    Error::not_found("recurring request", id)
}

fn refused(row: &RecurringRow, verb: &str) -> Error {
    let status = RecurringStatus::from_code(row.status).map_or("unknown", RecurringStatus::as_str);
    let state = match row.ends_at {
        Some(end) if verb != "cancelled" && status != RecurringStatus::Cancelled.as_str() => {
            format!("{status} until {end}")
        }
        _ => status.to_owned(),
    };
    Error::Conflict(format!("recurring request {} is {state} and cannot be {verb}", row.id))
}
