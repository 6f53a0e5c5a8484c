//! Statements on requests.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Nullable, Text};

use super::intake::NewRequest;
use super::model::{Notify, RequestKind, json, stored};
use super::report::{self, Report};
use super::view::Rows;
use crate::channels::request::Response;
use crate::db::schema::{due, message, request};
use crate::db::types::{Id, Instant, MessageId, ResourceId, Timestamp};
use crate::db::{AnyConnection, insert_rows};
use crate::error::Result;
use crate::failpoint;
use crate::idempotency::{self, Verdict};
use crate::kinds::{MessageStatus, NotificationStatus as Status};
use crate::messages;
use crate::messages::repo::cancellation::{self, Came};
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_new_messages, of_status};

/// A row of `request`.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = request, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct RequestRow {
    pub message_id: MessageId,
    pub kind: i16,
    pub parent_id: Option<ResourceId>,
    pub scheduled_at: Timestamp,
    pub updated_at: Timestamp,
    pub spec: String,
    pub retry: Option<String>,
    pub notify: Option<String>,
    pub executed_at: Option<Timestamp>,
    pub response: Option<String>,
    pub response_body: Option<Vec<u8>>,
}

/// Stores requests: from then on they wait for their time.
///
/// # Errors
/// Those of the database.
pub fn insert(c: &mut AnyConnection, rows: Vec<(MessageRow, RequestRow)>, now: Timestamp) -> Result<()> {
    let (messages, requests): (Vec<MessageRow>, Vec<RequestRow>) = rows.into_iter().unzip();
    insert_new_messages(c, &messages.iter().collect::<Vec<_>>())?;
    write(c, &requests)?;
    let due = |message: &MessageRow| DueRow::of(message, None, message.due_at.unwrap_or(now));
    insert_due(c, &messages.iter().map(due).collect::<Vec<_>>())
}

/// Stores those of these requests whose keys are their own, no two of which have one key; answers for each whose its key
/// is, if it is not its own.
///
/// # Errors
/// Those of the database: then nothing of any of them is stored.
pub fn accept(
    c: &mut AnyConnection,
    requests: &[NewRequest],
    now: Timestamp,
) -> Result<Vec<Option<Verdict>>> {
    let verdicts = idempotency::take_each(c, requests.iter().map(|request| request.claim.as_ref()), now)?;
    let new = requests.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
    insert(c, new.map(|(request, _)| request.rows.clone()).collect(), now)?;
    failpoint::reach("request-before-commit");
    Ok(verdicts)
}

fn write(c: &mut AnyConnection, rows: &[RequestRow]) -> Result<()> {
    insert_rows!(c, request::table, rows)
}

/// What it takes to make a request.
#[derive(Debug, Default, Clone, Queryable)]
#[expect(missing_docs, reason = "the migration documents the columns")]
pub struct Asking {
    pub spec: String,
    pub retry: Option<String>,
}

/// What it takes to make these.
///
/// # Errors
/// Those of the database.
pub fn asking(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, Asking>> {
    let rows = request::table
        .filter(request::message_id.eq_any(ids))
        .select((request::message_id, (request::spec, request::retry)))
        .load::<(MessageId, Asking)>(c)?;
    Ok(rows.into_iter().collect())
}

/// What is kept of an attempt.
#[derive(Debug, Clone)]
pub struct Ran {
    /// When it began.
    pub executed_at: Option<Timestamp>,
    /// What was answered.
    pub response: Option<Arc<Response>>,
}

/// Notes attempts at requests, which ended then. One that was not answered leaves the answer to the one before.
///
/// # Errors
/// Those of the database.
pub fn ran(c: &mut AnyConnection, attempts: &[(MessageId, &Ran, Timestamp)]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let heads = attempts.iter().map(|(_, ran, _)| ran.response.as_deref().map(report::head).transpose());
    let heads: Vec<Option<String>> = heads.collect::<Result<_>>()?;
    let bodies = attempts.iter().map(|(_, ran, _)| ran.response.as_ref().map(|said| said.body.as_slice()));
    match c {
        AnyConnection::Postgres(c) => {
            diesel::sql_query(include_str!("repo/sql/update_requests.postgres.sql"))
                .bind::<Array<Id>, _>(attempts.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
                .bind::<Array<Nullable<Instant>>, _>(
                    attempts.iter().map(|(_, ran, _)| ran.executed_at).collect::<Vec<_>>(),
                )
                .bind::<Array<Instant>, _>(attempts.iter().map(|(.., at)| *at).collect::<Vec<_>>())
                .bind::<Array<Nullable<Text>>, _>(heads)
                .bind::<Array<Nullable<Binary>>, _>(bodies.collect::<Vec<_>>())
                .execute(c)?;
        }
        AnyConnection::Sqlite(c) => {
            for (((id, ran, at), head), body) in attempts.iter().zip(heads).zip(bodies) {
                let times = (request::executed_at.eq(ran.executed_at), request::updated_at.eq(*at));
                let answer =
                    head.map(|head| (request::response.eq(Some(head)), request::response_body.eq(body)));
                diesel::update(request::table.find(*id)).set((times, answer)).execute(c)?;
            }
        }
    }
    Ok(())
}

/// Reports the results of requests that ended at these times, of those for which that is asked; answers how many. A report
/// is a request itself, which waits from now on.
///
/// # Errors
/// Those of the database.
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
        let body = json(&Report::of_rows(message, &mut row)?)?;
        let of = (RequestKind::Report, Some(ResourceId(message.id.0)));
        reports.push(notify.reporting(body).into_rows(MessageId::new(), of, *at, *at)?);
        latest = latest.max(*at);
    }
    let count = reports.len();
    insert(c, reports, latest)?;
    Ok(count)
}

/// What came of ending requests that waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many waited, and have ended.
    pub requests: usize,
    /// Of how many it is reported.
    pub reports: usize,
}

/// Ends those of these requests that wait. Of those that expire it is reported.
///
/// # Errors
/// Those of the database.
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

/// The result of cancelling.
#[derive(Debug, Clone, Default)]
pub struct Cancelled {
    /// How many waited, and have ended.
    pub requests: usize,
    /// Messages that a node has in hand: noted, for it to take back.
    pub noted: Vec<MessageId>,
}

const CANCELLED: (MessageStatus, Option<&str>) = (MessageStatus::Cancelled, None);

/// Cancels those of these requests that wait, and notes those that a node has in hand. With `holds` an attempt that is in
/// flight is the last.
///
/// # Errors
/// Those of the database.
pub fn cancel(c: &mut AnyConnection, ids: &[MessageId], holds: bool, now: Timestamp) -> Result<Cancelled> {
    let requests = end_waiting(c, ids, CANCELLED, now)?.requests;
    Ok(Cancelled { requests, noted: cancellation::note(c, ids, holds, now)? })
}

/// Ends what was noted when requests were cancelled: answers how many waited again and have ended, and what has come of each.
///
/// # Errors
/// Those of the database.
pub fn cancel_noted(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
    now: Timestamp,
) -> Result<(usize, HashMap<MessageId, Came>)> {
    let requests = end_waiting(c, ids, CANCELLED, now)?.requests;
    Ok((requests, cancellation::close(c, ids, holds)?))
}

/// Which requests a list shows; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub status: Option<Status>,
    /// Runs of this recurring one.
    pub recurring: Option<ResourceId>,
}

/// One request, or none of this id: a report is none.
///
/// # Errors
/// Those of the database.
pub fn find(c: &mut AnyConnection, id: MessageId) -> Result<Option<Rows>> {
    let found = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(message::id.eq(id))
        .filter(request::kind.ne(RequestKind::Report.code()))
        .select((MessageRow::as_select(), RequestRow::as_select(), due::due_at.nullable()));
    Ok(found.first(c).optional()?)
}

/// The reports of a request's result, the first one first.
///
/// # Errors
/// Those of the database.
pub fn reports(c: &mut AnyConnection, id: MessageId) -> Result<Vec<Rows>> {
    let of_it = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(request::parent_id.eq(ResourceId(id.0)))
        .order(request::message_id)
        .select((MessageRow::as_select(), RequestRow::as_select(), due::due_at.nullable()));
    Ok(of_it.load(c)?)
}

/// Requests that `filter` lets through, the latest first, without what they were answered.
///
/// # Errors
/// Those of the database.
pub fn list(
    c: &mut AnyConnection,
    filter: &Filter,
    after: Option<MessageId>,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Rows>> {
    let mut query = message::table
        .inner_join(request::table.on(request::message_id.eq(message::id)))
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .filter(request::kind.ne(RequestKind::Report.code()))
        .order(request::message_id.desc())
        .limit(limit)
        .select((MessageRow::as_select(), Listed::as_select(), due::due_at.nullable()))
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
    let rows: Vec<(MessageRow, Listed, Option<Timestamp>)> = query.load(c)?;
    Ok(rows.into_iter().map(|(message, listed, due_at)| (message, listed.into(), due_at)).collect())
}

/// A row of `request` but for what was answered, of which there may be much.
#[derive(Queryable, Selectable)]
#[diesel(table_name = request)]
struct Listed {
    message_id: MessageId,
    kind: i16,
    parent_id: Option<ResourceId>,
    scheduled_at: Timestamp,
    updated_at: Timestamp,
    spec: String,
    retry: Option<String>,
    notify: Option<String>,
    executed_at: Option<Timestamp>,
}

impl From<Listed> for RequestRow {
    fn from(listed: Listed) -> Self {
        Self {
            message_id: listed.message_id,
            kind: listed.kind,
            parent_id: listed.parent_id,
            scheduled_at: listed.scheduled_at,
            updated_at: listed.updated_at,
            spec: listed.spec,
            retry: listed.retry,
            notify: listed.notify,
            executed_at: listed.executed_at,
            response: None,
            response_body: None,
        }
    }
}

/// Makes one that waits due now; answers whether it waited.
///
/// # Errors
/// Those of the database.
pub fn run_now(c: &mut AnyConnection, id: MessageId, now: Timestamp) -> Result<bool> {
    // taken out and put in anew, never updated: a claim locks what it found, by its place
    if diesel::delete(due::table.find(id)).execute(c)? == 0 {
        return Ok(false);
    }
    diesel::update(message::table.find(id)).set(message::due_at.eq(Some(now))).execute(c)?;
    let message: MessageRow = message::table.find(id).select(MessageRow::as_select()).first(c)?;
    diesel::update(request::table.find(id)).set(request::updated_at.eq(now)).execute(c)?;
    insert_due(c, &[DueRow::of(&message, None, now)])?;
    Ok(true)
}
