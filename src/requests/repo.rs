//! Queries on requests.

pub mod row;

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Nullable, Text};

use self::row::{ListedRow, head};
use super::model::{Notify, ReceivedResponse, RequestKind, stored, to_json};
use super::report::Report;
use crate::channels::StoredResponse;
use crate::db::schema::{due, message, request};
use crate::db::types::{Id, Instant, MessageId, ResourceId, Timestamp};
use crate::db::{AnyConnection, insert_rows};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{self, ClaimResult};
use crate::kinds::{MessageStatus, NotificationStatus as Status};
use crate::messages;
use crate::messages::repo::cancellation::{self, CancellationState};
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_new_messages, of_status};

pub use row::{RequestOrigin, RequestRow, RequestRows, RequestToStore};

/// Stores requests, which then wait for their time.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, rows: Vec<(MessageRow, RequestRow)>, now: Timestamp) -> Result<()> {
    let (messages, requests): (Vec<MessageRow>, Vec<RequestRow>) = rows.into_iter().unzip();
    insert_new_messages(c, &messages.iter().collect::<Vec<_>>())?;
    write(c, &requests)?;
    let due = |message: &MessageRow| DueRow::new(message, None, message.due_at.unwrap_or(now));
    insert_due(c, &messages.iter().map(due).collect::<Vec<_>>())
}

/// Stores the requests whose key is new or that have no key; the keys must be distinct. Returns the result of each
/// claim, or `None` if the request was stored.
///
/// # Errors
/// Database errors: then no request is stored.
pub fn accept(
    c: &mut AnyConnection,
    requests: &[RequestToStore],
    now: Timestamp,
) -> Result<Vec<Option<ClaimResult>>> {
    let verdicts = idempotency::claim_each(c, requests.iter().map(|request| request.claim.as_ref()), now)?;
    let new = requests.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
    insert(c, new.map(|(request, _)| request.rows.clone()).collect(), now)?;
    failpoint::reach("request-before-commit");
    Ok(verdicts)
}

fn write(c: &mut AnyConnection, rows: &[RequestRow]) -> Result<()> {
    insert_rows!(c, request::table, rows)
}

/// The stored form of a request to send.
#[derive(Debug, Default, Clone, Queryable)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct StoredRequest {
    pub spec: String,
    pub retry: Option<String>,
}

/// Returns the stored form of these requests.
///
/// # Errors
/// Database errors.
pub fn stored_requests(
    c: &mut AnyConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, StoredRequest>> {
    let rows = request::table
        .filter(request::message_id.eq_any(ids))
        .select((request::message_id, (request::spec, request::retry)))
        .load::<(MessageId, StoredRequest)>(c)?;
    Ok(rows.into_iter().collect())
}

/// The part of an attempt that is stored with its request.
#[derive(Debug, Clone)]
pub struct RequestResult {
    /// The start of the attempt.
    pub executed_at: Option<Timestamp>,
    /// The response, if there was one.
    pub response: Option<Arc<StoredResponse>>,
}

/// Stores attempts and the times at which they ended. An attempt without a response keeps the response of an earlier
/// one.
///
/// # Errors
/// Database errors.
pub fn record_attempts(
    c: &mut AnyConnection,
    attempts: &[(MessageId, &RequestResult, Timestamp)],
) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let heads = attempts
        .iter()
        .map(|(_, record_attempts, _)| record_attempts.response.as_deref().map(head).transpose());
    let heads: Vec<Option<String>> = heads.collect::<Result<_>>()?;
    let bodies = attempts
        .iter()
        .map(|(_, record_attempts, _)| record_attempts.response.as_ref().map(|said| said.body.as_slice()));
    match c {
        AnyConnection::Postgres(c) => {
            diesel::sql_query(include_str!("repo/sql/update_requests.postgres.sql"))
                .bind::<Array<Id>, _>(attempts.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
                .bind::<Array<Nullable<Instant>>, _>(
                    attempts
                        .iter()
                        .map(|(_, record_attempts, _)| record_attempts.executed_at)
                        .collect::<Vec<_>>(),
                )
                .bind::<Array<Instant>, _>(attempts.iter().map(|(.., at)| *at).collect::<Vec<_>>())
                .bind::<Array<Nullable<Text>>, _>(heads)
                .bind::<Array<Nullable<Binary>>, _>(bodies.collect::<Vec<_>>())
                .execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for (((id, record_attempts, at), head), body) in attempts.iter().zip(heads).zip(bodies) {
                let times =
                    (request::executed_at.eq(record_attempts.executed_at), request::updated_at.eq(*at));
                let answer =
                    head.map(|head| (request::response.eq(Some(head)), request::response_body.eq(body)));
                diesel::update(request::table.find(*id)).set((times, answer)).execute(c)?;
            }
        }
    }
    Ok(())
}

/// Queues the reports of requests that ended at these times, if they have a URL to report to, and returns the number of
/// reports. A report is a request of its own.
///
/// # Errors
/// Database errors.
pub fn report(c: &mut AnyConnection, ended: &[(&MessageRow, Timestamp)]) -> Result<usize> {
    if ended.is_empty() {
        return Ok(0);
    }
    let ids = ended.iter().map(|(message, _)| message.id);
    let asked = request::table
        .filter(request::message_id.eq_any(ids))
        .filter(request::notify.is_not_null())
        .select(RequestRow::as_select())
        .load(c)?;
    let mut rows: HashMap<MessageId, RequestRow> =
        asked.into_iter().map(|row| (row.message_id, row)).collect();
    let mut latest = Timestamp::from_micros(0);
    let mut reports = Vec::with_capacity(rows.len());
    for (message, at) in ended {
        let Some(mut row) = rows.remove(&message.id) else { continue };
        let Some(notify) = row.notify.take() else { continue };
        let notify: Notify = stored(&notify)?;
        let response = ReceivedResponse::from_row(&mut row)?;
        let body = to_json(&Report::new(message, &row, response.as_ref())?)?;
        let of = (RequestKind::Report, Some(ResourceId(message.id.0)));
        reports.push(notify.reporting(body).into_rows(MessageId::new(), of, *at, *at)?);
        latest = latest.max(*at);
    }
    let count = reports.len();
    insert(c, reports, latest)?;
    Ok(count)
}

/// The result of ending waiting requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// The number of requests that waited and have ended.
    pub requests: usize,
    /// The number of reports that were queued.
    pub reports: usize,
}

/// Ends the given requests that are waiting. The result of expired ones is reported.
///
/// # Errors
/// Database errors.
pub fn end_waiting(
    c: &mut AnyConnection,
    ids: &[MessageId],
    end: (MessageStatus, Option<&str>),
    now: Timestamp,
) -> Result<Ended> {
    if ids.is_empty() {
        return Ok(Ended::default());
    }
    let taken = messages::repo::end_waiting(c, ids, end, now)?;
    diesel::update(request::table.filter(request::message_id.eq_any(&taken)))
        .set(request::updated_at.eq(now))
        .execute(c)?;
    let mut reports = 0;
    if end.0 == MessageStatus::Expired {
        let of_them = message::table.filter(message::id.eq_any(&taken));
        let rows: Vec<MessageRow> = of_them.select(MessageRow::as_select()).load(c)?;
        reports = report(c, &rows.iter().map(|row| (row, now)).collect::<Vec<_>>())?;
    }
    Ok(Ended { requests: taken.len(), reports })
}

/// The result of cancelling requests.
#[derive(Debug, Clone, Default)]
pub struct CancelledRequests {
    /// The number of requests that waited and have ended.
    pub requests: usize,
    /// Messages that a node holds. Their cancellation is noted for that node.
    pub noted: Vec<MessageId>,
}

const CANCELLED: (MessageStatus, Option<&str>) = (MessageStatus::Cancelled, None);

/// Cancels the given requests that are waiting, and notes the cancellation of requests that a node holds. With `holds`
/// an attempt in flight is the last one.
///
/// # Errors
/// Database errors.
pub fn cancel(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
    now: Timestamp,
) -> Result<CancelledRequests> {
    let requests = end_waiting(c, ids, CANCELLED, now)?.requests;
    Ok(CancelledRequests { requests, noted: cancellation::note(c, ids, holds, now)? })
}

/// Ends noted cancellations. Returns the number of requests that were waiting again and have ended, and the state of
/// each cancellation.
///
/// # Errors
/// Database errors.
pub fn cancel_noted(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
    now: Timestamp,
) -> Result<(usize, HashMap<MessageId, CancellationState>)> {
    let requests = end_waiting(c, ids, CANCELLED, now)?.requests;
    Ok((requests, cancellation::close(c, ids, holds)?))
}

/// The filter of a list of requests; all given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Requests with this status.
    pub status: Option<Status>,
    /// Occurrences of this recurring request.
    pub recurring: Option<ResourceId>,
}

/// Returns the request with this id. A report is not a request here.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: MessageId) -> Result<Option<RequestRows>> {
    let found = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(message::id.eq(id))
        .filter(request::kind.ne(RequestKind::Report.code()))
        .select((MessageRow::as_select(), RequestRow::as_select(), due::due_at.nullable()));
    Ok(found.first(c).optional()?)
}

/// Returns the reports of a request's result, the oldest first.
///
/// # Errors
/// Database errors.
pub fn reports(c: &mut AnyConnection, id: MessageId) -> Result<Vec<RequestRows>> {
    let of_it = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(request::parent_id.eq(ResourceId(id.0)))
        .order(request::message_id)
        .select((MessageRow::as_select(), RequestRow::as_select(), due::due_at.nullable()));
    Ok(of_it.load(c)?)
}

/// Returns the requests that match `filter`, the newest first, without their responses.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    filter: &RequestFilter,
    after: Option<MessageId>,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<RequestRows>> {
    let mut query = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(request::kind.ne(RequestKind::Report.code()))
        .order(request::message_id.desc())
        .limit(limit)
        .select((MessageRow::as_select(), ListedRow::as_select(), due::due_at.nullable()))
        .into_boxed();
    if let Some(recurring) = filter.recurring {
        query = query.filter(request::parent_id.eq(recurring));
    }
    if let Some(after) = after {
        query = query.filter(request::message_id.lt(after));
    }
    if let Some(status) = filter.status {
        query = of_status!(query, c, status, now);
    }
    let rows: Vec<(MessageRow, ListedRow, Option<Timestamp>)> = query.load(c)?;
    Ok(rows.into_iter().map(|(message, listed, due_at)| (message, listed.into(), due_at)).collect())
}

/// Makes a waiting request due now. Returns true if it was waiting.
///
/// # Errors
/// Database errors.
pub fn run_now(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<bool> {
    // deleted and inserted again, never updated: a claim locks the rows that it found by their physical position
    if diesel::delete(due::table.find(id)).execute(c)? == 0 {
        return Ok(false);
    }
    diesel::update(message::table.find(id)).set(message::due_at.eq(Some(now))).execute(c)?;
    let message: MessageRow = message::table.find(id).select(MessageRow::as_select()).first(c)?;
    diesel::update(request::table.find(id)).set(request::updated_at.eq(now)).execute(c)?;
    insert_due(c, &[DueRow::new(&message, None, now)])?;
    Ok(true)
}
