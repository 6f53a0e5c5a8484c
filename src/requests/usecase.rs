//! The use cases of requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use super::repo::RequestFilter;

use super::intake::RequestIntake;
use super::model::{ReceivedResponse, ReportState, Request, RequestDetails, RequestDraft, RequestKind};
use super::repo::{self, RequestRows, RequestToStore};
use crate::channels::RequestSpec;
use crate::channels::request::plain;
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::db::group_commit::AdmissionLimit;
use crate::db::types::{MessageId, Timestamp};
use crate::db::{AnyConnection, Db};
use crate::dead_letters::DeadLetters;
use crate::egress::guard::Guard;
use crate::error::{Complaints, Error, Result};
use crate::idempotency::{self, Claim, ClaimResult, Created, IdempotentResponse, Mode};
use crate::kinds::{ChannelKind, MessageStatus};
use crate::messages;
use crate::messages::cancelling;
use crate::messages::model::MessageWithAttempts;
use crate::messages::repo::cancellation::CancellationState;
use crate::metrics::Metrics;
use crate::notifications::notifier::NewMessageNotifier;
use crate::paging;
use crate::runtime::Runtime;

/// The farthest time to schedule at: a leap year ahead.
const FARTHEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The requests of one database.
pub struct Requests {
    db: Db,
    clock: Clock,
    metrics: Metrics,
    guard: Arc<Guard>,
    arrivals: Arc<dyn NewMessageNotifier>,
    credentials: Arc<Credentials>,
    dead_letters: DeadLetters,
    delays: Vec<Duration>,
    intake: RequestIntake,
    room: AdmissionLimit,
}

impl Requests {
    /// Creates the service. `delays` apply to requests without delays of their own. `room` is the number of requests
    /// that may wait for the database; a large request counts as several.
    pub fn new(
        Runtime { db, clock, metrics, .. }: Runtime,
        (guard, arrivals): (Arc<Guard>, Arc<dyn NewMessageNotifier>),
        (credentials, dead_letters): (Arc<Credentials>, DeadLetters),
        delays: Vec<Duration>,
        (intake, room): (RequestIntake, usize),
    ) -> Self {
        let room = AdmissionLimit::new(room, "requests");
        Self { db, clock, metrics, guard, arrivals, credentials, dead_letters, delays, intake, room }
    }

    /// Accepts a request, which is durable when this returns. `answer` builds the response to the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`], and the errors of its key.
    pub async fn create(
        &self,
        (asked, execute_at): (RequestDraft, Option<Timestamp>),
        mode: Mode,
        answer: impl FnOnce(&Request) -> Result<IdempotentResponse>,
    ) -> Result<Created<Request>> {
        let now = self.clock.now();
        if let Err(refused) = self.check(&asked, execute_at, now).await {
            return idempotency::made_before(&self.db, mode.key(), refused, now).await;
        }
        let at = execute_at.map_or(now, |at| at.max(now));
        let rows = asked.into_rows(MessageId::new(), (RequestKind::Single, None), at, now)?;
        let request = Request::from_rows((&rows.0, &rows.1, Some(at)), &self.delays, now)?;
        let answer = answer(&request)?;
        let key = match mode {
            Mode::Commit(key) => key,
            Mode::DryRun => return Ok(Created::New(request, answer.of_dry_run())),
        };
        let new = RequestToStore { rows, claim: Claim::of(key, request.id.0, &answer) };
        let _room = self.room.take(new.size())?;
        match self.intake.store(new).await? {
            None => Ok(Created::New(request, answer)),
            Some(ClaimResult::Answered(answer)) => Ok(Created::Before(answer)),
            Some(other) => Err(idempotency::refusal(&other)),
        }
    }

    /// Validates a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every wrong field.
    pub async fn check(
        &self,
        asked: &RequestDraft,
        execute_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<()> {
        let mut wrong = Complaints::default();
        if execute_at.is_some_and(|at| at > now.plus(FARTHEST)) {
            wrong.add("execute_at", "must be within a year from now");
        }
        let starts = execute_at.map_or(now, |at| at.max(now));
        if asked.until.is_some_and(|until| until <= starts) {
            wrong.add("retry.until", "must be after now and after execute_at");
        }
        self.check_call(&mut wrong, "request", &asked.spec).await?;
        if let Some(notify) = &asked.notify {
            self.check_call(&mut wrong, "notify.request", &notify.spec).await?;
            if notify.until.is_some_and(|until| until <= starts) {
                wrong.add("notify.retry.until", "must be after now and after execute_at");
            }
        }
        wrong.finish()
    }

    async fn check_call(&self, wrong: &mut Complaints, place: &str, spec: &RequestSpec) -> Result<()> {
        wrong.check(&format!("{place}.url"), self.guard.check_url(&spec.url, plain(spec)));
        if let Some(name) = &spec.credential
            && !self.credentials.exists(name).await?
        {
            wrong.add(format!("{place}.credential"), "there is no credential with this name");
        }
        Ok(())
    }

    /// Returns a request with its attempts, its response and its reports.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: MessageId) -> Result<RequestDetails> {
        let (now, delays) = (self.clock.now(), self.delays.clone());
        let read = move |c: &mut AnyConnection| {
            let mut rows = found(c, id)?;
            let request = Request::from_rows((&rows.0, &rows.1, rows.2), &delays, now)?;
            let (message, failed) =
                messages::repo::get(c, id)?.ok_or_else(|| Error::not_found("request", id))?;
            let attempts = MessageWithAttempts::new(message, failed).attempt_log;
            let response = ReceivedResponse::from_row(&mut rows.1)?;
            let reports = repo::reports(c, id)?;
            let reports =
                reports.iter().map(|rows| ReportState::from_rows(rows, now)).collect::<Result<_>>()?;
            Ok(RequestDetails { request, attempts, response, reports })
        };
        self.db.read(read).await
    }

    /// Returns a page of the requests that match `filter`, the newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// Database errors.
    pub async fn list(
        &self,
        filter: RequestFilter,
        after: Option<MessageId>,
        limit: i64,
    ) -> Result<(Vec<Request>, Option<MessageId>)> {
        let (now, delays) = (self.clock.now(), self.delays.clone());
        let read = move |c: &mut AnyConnection| {
            let part = |after: Option<&MessageId>, count| {
                let rows = repo::list(c, &filter, after.copied(), count, now)?;
                let found = rows
                    .iter()
                    .map(|(message, row, due_at)| Request::from_rows((message, row, *due_at), &delays, now));
                found.collect::<Result<Vec<_>>>()
            };
            paging::page_of(limit, after, part, |request| request.id)
        };
        self.db.read(read).await
    }

    /// Cancels a request that waits.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it no longer waits, [`Error::NotFound`].
    pub async fn cancel(&self, id: MessageId) -> Result<()> {
        let now = self.clock.now();
        let work = move |c: &mut AnyConnection| {
            found(c, id)?;
            let cancelled = repo::cancel(c, &[id], false, now)?;
            if cancelled.requests == 0 && cancelled.noted.is_empty() {
                return Err(over(c, id, "cancelled", now)?);
            }
            Ok(cancelled)
        };
        let cancelled = self.db.write(work).await?;
        match self.end_cancelled(cancelled, false).await?.get(&id) {
            None | Some(CancellationState::Ended(MessageStatus::Cancelled) | CancellationState::SetAside) => {
                Ok(())
            }
            Some(CancellationState::Unanswered | CancellationState::Waits) => {
                Err(cancelling::unanswered(&format!("request {id}")))
            }
            Some(CancellationState::Ended(_) | CancellationState::InFlight) => {
                Err(self.db.read(move |c| over(c, id, "cancelled", now)).await?)
            }
        }
    }

    /// Waits until no attempt can start any more at requests whose cancellation was noted. Returns the state of each.
    pub(super) async fn end_cancelled(
        &self,
        cancelled: repo::CancelledRequests,
        holds: bool,
    ) -> Result<HashMap<MessageId, CancellationState>> {
        let count = |ended: usize| {
            let ended = u64::try_from(ended).unwrap_or(u64::MAX);
            self.metrics.cancelled.with_label_values(&[ChannelKind::Request.as_str()]).inc_by(ended);
        };
        count(cancelled.requests);
        let ids = cancelled.noted;
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        cancelling::settle(&self.db, &*self.arrivals, &ids).await?;
        let now = self.clock.now();
        let (ended, came) = self.db.write(move |c| repo::cancel_noted(c, &ids, holds, now)).await?;
        count(ended);
        Ok(came)
    }

    /// Makes a request due now that waits for its time or for its next attempt.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it no longer waits, [`Error::NotFound`].
    pub async fn run(&self, id: MessageId) -> Result<Request> {
        let (now, delays) = (self.clock.now(), self.delays.clone());
        let work = move |c: &mut AnyConnection| {
            found(c, id)?;
            if !repo::run_now(c, id, now)? {
                return Err(over(c, id, "run now", now)?);
            }
            shown(c, id, &delays, now)
        };
        let request = self.db.write(work).await?;
        self.arrivals.arrived();
        Ok(request)
    }

    /// Queues a failed request again, with all of its attempts.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it did not fail, or cannot be replayed; [`Error::NotFound`].
    pub async fn replay(&self, id: MessageId) -> Result<Request> {
        self.db.read(move |c| found(c, id)).await?;
        self.dead_letters.replay(id).await?;
        let (now, delays) = (self.clock.now(), self.delays.clone());
        self.db.read(move |c| shown(c, id, &delays, now)).await
    }
}

fn found(c: &mut AnyConnection, id: MessageId) -> Result<RequestRows> {
    repo::find(c, id)?.ok_or_else(|| Error::not_found("request", id))
}

fn shown(c: &mut AnyConnection, id: MessageId, delays: &[Duration], now: Timestamp) -> Result<Request> {
    let (message, row, due_at) = found(c, id)?;
    Request::from_rows((&message, &row, due_at), delays, now)
}

/// Returns the conflict for an operation that requires a waiting request.
fn over(c: &mut AnyConnection, id: MessageId, verb: &str, now: Timestamp) -> Result<Error> {
    let (message, _, due_at) = found(c, id)?;
    let status = message.status_at(due_at, now)?;
    Ok(Error::Conflict(format!("request {id} is {} and cannot be {verb}", status.as_str())))
}
