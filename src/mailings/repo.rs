//! The SQL of mailings. The SQL that reads an audience is in [`audience`].

pub mod audience;
mod row;

use std::collections::BTreeSet;

use diesel::dsl::{exists, sum};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt};

use self::row::{MailingRow, copies};
use crate::db::AnyConnection;
use crate::db::schema::{due, mailing, page, pending_mailing};
use crate::db::types::{Id, MailingId, Timestamp};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::kinds::ChannelKind;
use crate::mailings::model::{Audience, Mailing, MailingOverview, MailingProgress, MailingStatus};
use crate::messages::model::Counts;
use crate::paging::{self, Page};

diesel::define_sql_function! {
    /// `coalesce` over a sum: bigint in both databases.
    #[sql_name = "coalesce"]
    fn or_zero(value: diesel::sql_types::Nullable<BigInt>, zero: BigInt) -> BigInt;
}

/// The number of messages of the selected mailing that are in a node's leases without an outcome. It is a macro because
/// the type of the expression cannot be written.
macro_rules! sending {
    () => {
        or_zero(
            page::table
                .filter(page::mailing_id.eq(mailing::id.nullable()))
                .filter(page::node_id.is_not_null())
                .select(sum(page::remaining))
                .single_value(),
            0_i64,
        )
    };
}

/// Inserts a mailing: with an audience it starts at once, without one it waits for its start.
///
/// # Errors
/// Database errors.
pub fn insert(c: &mut AnyConnection, new: &Mailing, audience: Option<Audience>) -> Result<()> {
    let row = MailingRow::new(new, audience)?;
    diesel::insert_into(mailing::table).values(&row).execute(c)?;
    if let AnyConnection::Sqlite(c) = c {
        // PostgreSQL has an identity column for it; SQLite has one writer, so `max` is safe
        diesel::sql_query("UPDATE mailing SET number = (SELECT max(number) FROM mailing) + 1 WHERE id = ?")
            .bind::<Id, _>(new.id)
            .execute(c)?;
    }
    if audience.is_none() {
        set_due(c, new.id, new.starts_at)?;
    }
    Ok(())
}

/// Makes a mailing due at `at`.
///
/// # Errors
/// Database errors.
fn set_due(c: &mut AnyConnection, id: MailingId, at: Timestamp) -> Result<()> {
    diesel::delete(pending_mailing::table.filter(pending_mailing::mailing_id.eq(id))).execute(c)?;
    diesel::insert_into(pending_mailing::table)
        .values((
            pending_mailing::id.eq(MailingId::new()),
            pending_mailing::mailing_id.eq(id),
            pending_mailing::status.eq(1),
            pending_mailing::due_at.eq(at),
        ))
        .execute(c)?;
    Ok(())
}

/// Locks the mailing's row until the transaction ends, so that no other transaction changes it. On SQLite the only
/// writer needs no lock.
///
/// # Errors
/// Database errors.
pub fn lock(c: &mut AnyConnection, id: MailingId) -> Result<()> {
    if let AnyConnection::Postgres(c) = c {
        diesel::sql_query("SELECT 1 FROM mailing WHERE id = $1 FOR UPDATE").bind::<Id, _>(id).execute(c)?;
    }
    Ok(())
}

/// Returns one mailing with its counts, read in one snapshot.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(c: &mut AnyConnection, id: MailingId) -> Result<Mailing> {
    // one statement, so that the counters and the leases come from one snapshot and add up
    let found: Option<(MailingRow, i64)> =
        mailing::table.find(id).select((MailingRow::as_select(), sending!())).first(c).optional()?;
    let (row, sending) = found.ok_or_else(|| Error::not_found("mailing", id))?;
    row.into_model(sending)
}

/// Returns the number by which the mailing's messages refer to it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn number(c: &mut AnyConnection, id: MailingId) -> Result<i32> {
    let found = mailing::table.find(id).select(mailing::number).first(c).optional()?;
    found.ok_or_else(|| Error::not_found("mailing", id))
}

/// Returns one page of mailings, the newest last.
///
/// # Errors
/// Database errors.
pub fn list(
    c: &mut AnyConnection,
    status: Option<MailingStatus>,
    limit: i64,
    after: Option<MailingId>,
) -> Result<Page<Mailing>> {
    let part = |after: Option<&MailingId>, count: i64| {
        let mut query = mailing::table
            .select((MailingRow::as_select(), sending!()))
            .order(mailing::id)
            .limit(count)
            .into_boxed();
        if let Some(status) = status {
            query = query.filter(mailing::status.eq(status.code()));
        }
        if let Some(after) = after {
            query = query.filter(mailing::id.gt(*after));
        }
        let rows: Vec<(MailingRow, i64)> = query.load(c)?;
        rows.into_iter().map(|(row, sending)| row.into_model(sending)).collect::<Result<Vec<_>>>()
    };
    let (items, next) = paging::page_of(limit, after, part, |mailing| mailing.id)?;
    Ok(Page { items, next_cursor: next.map(|id| id.to_string()) })
}

/// Updates the columns that a patch can change.
///
/// # Errors
/// Database errors.
pub fn update(c: &mut AnyConnection, changed: &Mailing) -> Result<()> {
    diesel::update(mailing::table.find(changed.id))
        .set((
            mailing::text.eq(&changed.text),
            mailing::subject.eq(&changed.subject),
            mailing::html.eq(&changed.html),
            mailing::template.eq(&changed.template),
            mailing::variants.eq(copies(changed)?),
            mailing::filter
                .eq(serde_json::to_string(&changed.filter).map_err(|e| Error::Internal(e.into()))?),
            mailing::channel.eq(changed.channel.code()),
            mailing::priority.eq(changed.priority.code()),
            mailing::starts_at.eq(changed.starts_at),
            mailing::ends_at.eq(changed.ends_at),
            mailing::rate_per_second.eq(changed.rate_per_second),
            mailing::message_group.eq(&changed.group),
            mailing::is_transactional.eq(changed.transactional),
            mailing::updated_at.eq(changed.updated_at),
        ))
        .execute(c)?;
    if changed.started_at.is_none() {
        set_due(c, changed.id, changed.starts_at)?;
    }
    Ok(())
}

/// Sets the status of a mailing.
///
/// # Errors
/// Database errors.
pub fn set_status(c: &mut AnyConnection, id: MailingId, status: MailingStatus, now: Timestamp) -> Result<()> {
    diesel::update(mailing::table.find(id))
        .set((mailing::status.eq(status.code()), mailing::updated_at.eq(now)))
        .execute(c)?;
    Ok(())
}

/// Cancels a mailing that has not started. It has no messages, so its counts are final at once.
///
/// # Errors
/// Database errors.
pub fn cancel_unstarted(c: &mut AnyConnection, id: MailingId, now: Timestamp) -> Result<()> {
    diesel::delete(pending_mailing::table.filter(pending_mailing::mailing_id.eq(id))).execute(c)?;
    diesel::update(mailing::table.find(id))
        .set((
            mailing::status.eq(MailingStatus::Cancelled.code()),
            mailing::updated_at.eq(now),
            mailing::finished_at.eq(Some(now)),
            mailing::settled.eq(true),
        ))
        .execute(c)?;
    Ok(())
}

/// Starts a mailing for this audience. Returns false, and changes nothing, if the mailing was changed since its
/// audience was counted.
///
/// # Errors
/// Database errors.
pub fn begin(c: &mut AnyConnection, counted: &Mailing, audience: Audience, now: Timestamp) -> Result<bool> {
    let id = counted.id;
    let begun = diesel::update(
        mailing::table
            .find(id)
            .filter(mailing::status.eq(counted.status.code()))
            .filter(mailing::started_at.is_null())
            .filter(mailing::updated_at.eq(counted.updated_at)),
    )
    .set((
        mailing::status.eq(MailingStatus::Running.code()),
        mailing::started_at.eq(Some(now)),
        mailing::updated_at.eq(now),
        mailing::total.eq(audience.total),
        mailing::upper_bound.eq(audience.upper_bound),
        mailing::walked.eq(audience.total == 0),
    ))
    .execute(c)?;
    if begun > 0 {
        diesel::delete(pending_mailing::table.filter(pending_mailing::mailing_id.eq(id))).execute(c)?;
    }
    Ok(begun > 0)
}

/// Deletes a mailing that has not started.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, id: MailingId) -> Result<()> {
    diesel::delete(pending_mailing::table.filter(pending_mailing::mailing_id.eq(id))).execute(c)?;
    diesel::delete(mailing::table.find(id)).execute(c)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Sums {
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = BigInt)]
    mailings: i64,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    sent: i64,
    #[diesel(sql_type = BigInt)]
    failed: i64,
    #[diesel(sql_type = BigInt)]
    expired: i64,
    #[diesel(sql_type = BigInt)]
    cancelled: i64,
    #[diesel(sql_type = BigInt)]
    sending: i64,
}

/// Sums the counts by status. It is one statement, so it reads one snapshot. It is plain SQL because diesel gives a sum
/// of bigints the type numeric.
const SUMS: &str = "SELECT m.status, count(*) AS mailings, CAST(sum(m.total) AS bigint) AS total, \
    CAST(sum(m.sent) AS bigint) AS sent, CAST(sum(m.failed) AS bigint) AS failed, \
    CAST(sum(m.expired) AS bigint) AS expired, CAST(sum(m.cancelled) AS bigint) AS cancelled, \
    CAST(sum(coalesce(p.sending, 0)) AS bigint) AS sending \
    FROM mailing m LEFT JOIN (SELECT mailing_id, sum(remaining) AS sending FROM page \
    WHERE node_id IS NOT NULL GROUP BY mailing_id) p ON p.mailing_id = m.id GROUP BY m.status";

/// Returns the number of mailings in each status, and the sum of their counts.
///
/// # Errors
/// Database errors.
pub fn overview(c: &mut AnyConnection) -> Result<MailingOverview> {
    let mut overview = MailingOverview::default();
    for row in diesel::sql_query(SUMS).load::<Sums>(c)? {
        let outcomes = [row.sent, row.failed, row.expired, row.cancelled];
        overview.counts = overview.counts + Counts::balanced(row.total, row.sending, outcomes);
        let by_state = &mut overview.mailings;
        by_state.total += row.mailings;
        match MailingStatus::from_code(row.status)? {
            MailingStatus::Pending => by_state.pending = row.mailings,
            MailingStatus::Running => by_state.running = row.mailings,
            MailingStatus::Paused => by_state.paused = row.mailings,
            MailingStatus::Finished => by_state.finished = row.mailings,
            MailingStatus::Cancelled => by_state.cancelled = row.mailings,
        }
    }
    Ok(overview)
}

/// A started mailing whose counts are not final: the engine has work to do for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenMailing {
    /// The mailing's id.
    pub id: MailingId,
    /// The status.
    pub status: MailingStatus,
    /// The end of its window.
    pub ends_at: Timestamp,
    /// True if its audience is exhausted: all its clients are planned.
    pub walked: bool,
    /// The mailing's own limit in messages per second.
    pub rate_per_second: Option<f64>,
}

/// Returns the mailings that have started and whose counts are not final.
///
/// # Errors
/// Database errors.
pub fn open(c: &mut AnyConnection) -> Result<Vec<OpenMailing>> {
    let rows: Vec<(MailingId, i16, Timestamp, bool, Option<f64>)> = mailing::table
        .filter(mailing::settled.eq(false))
        .filter(mailing::started_at.is_not_null())
        .select((mailing::id, mailing::status, mailing::ends_at, mailing::walked, mailing::rate_per_second))
        .order(mailing::id)
        .load(c)?;
    rows.into_iter()
        .map(|(id, status, ends_at, walked, rate_per_second)| {
            Ok(OpenMailing {
                id,
                status: MailingStatus::from_code(status)?,
                ends_at,
                walked,
                rate_per_second,
            })
        })
        .collect()
}

/// Returns the progress of all mailings that are not finalized, that have the id `since` or a later one, or that are
/// listed in `open` because they were not finalized before.
///
/// # Errors
/// Database errors.
pub fn progress(c: &mut AnyConnection, since: MailingId, open: &[MailingId]) -> Result<Vec<MailingProgress>> {
    let sums = (mailing::total, mailing::sent, mailing::failed, mailing::expired, mailing::cancelled);
    let columns = (mailing::id, mailing::channel, mailing::status, mailing::settled, sums, sending!());
    let of_row = |(mailing_id, channel, status, settled, sums, sending): ProgressRow| {
        let (total, sent, failed, expired, cancelled) = sums;
        Ok(MailingProgress {
            mailing_id,
            channel: ChannelKind::from_code(channel)?,
            status: MailingStatus::from_code(status)?,
            counts: Counts::balanced(total, sending, [sent, failed, expired, cancelled]),
            settled,
        })
    };
    let not_settled = mailing::settled.eq(false).or(mailing::id.ge(since));
    let rows: Vec<ProgressRow> =
        mailing::table.filter(not_settled).select(columns).order(mailing::id).load(c)?;
    let mut found: Vec<MailingProgress> = rows.into_iter().map(of_row).collect::<Result<_>>()?;
    let seen: BTreeSet<MailingId> = found.iter().map(|progress| progress.mailing_id).collect();
    // only the few mailings that were finalized between two polls; a deleted mailing is not found
    for id in open.iter().filter(|id| !seen.contains(id)) {
        let row: Option<ProgressRow> = mailing::table.find(id).select(columns).first(c).optional()?;
        found.extend(row.map(of_row).transpose()?);
    }
    Ok(found)
}

/// The id, the channel, the status, `settled`, the total and the outcomes, and the number of messages being sent.
type ProgressRow = (MailingId, i16, i16, bool, (i64, i64, i64, i64, i64), i64);

/// Finalizes the counts of a mailing without remaining messages. Returns false if some remain.
///
/// # Errors
/// Database errors.
pub fn finalize(c: &mut AnyConnection, id: MailingId, now: Timestamp) -> Result<bool> {
    lock(c, id)?;
    // one statement, so one snapshot: between two statements a claim could move a message from the table that the
    // second one reads to the table that the first one has read
    let open: bool = diesel::select(
        exists(page::table.filter(page::mailing_id.eq(id)))
            .or(exists(due::table.filter(due::mailing_id.eq(id)))),
    )
    .get_result(c)?;
    if open {
        return Ok(false);
    }
    let settled = diesel::update(
        mailing::table.find(id).filter(mailing::settled.eq(false)).filter(mailing::walked.eq(true)),
    )
    .set((
        mailing::settled.eq(true),
        mailing::finished_at.eq(Some(now)),
        mailing::updated_at.eq(now),
        // clients that left the audience while it was read do not count
        mailing::total.eq(mailing::sent + mailing::failed + mailing::expired + mailing::cancelled),
    ))
    .execute(c)?;
    diesel::update(
        mailing::table
            .find(id)
            .filter(mailing::settled.eq(true))
            .filter(mailing::status.ne(MailingStatus::Cancelled.code())),
    )
    .set(mailing::status.eq(MailingStatus::Finished.code()))
    .execute(c)?;
    failpoint::reach("settle-before-commit");
    Ok(settled > 0)
}

/// Returns the status of a mailing and the end of its window, or `None` if it does not exist.
///
/// # Errors
/// Database errors.
pub fn status_and_end(c: &mut AnyConnection, id: MailingId) -> Result<Option<(MailingStatus, Timestamp)>> {
    let found: Option<(i16, Timestamp)> =
        mailing::table.find(id).select((mailing::status, mailing::ends_at)).first(c).optional()?;
    found.map(|(status, ends_at)| Ok((MailingStatus::from_code(status)?, ends_at))).transpose()
}

/// Moves `count` messages of a mailing from failed back to queued. Its counts are not final any more, and a finished
/// mailing runs again. The caller has locked its row.
///
/// # Errors
/// Database errors.
pub fn take_back_failed(c: &mut AnyConnection, id: MailingId, count: i64, now: Timestamp) -> Result<()> {
    diesel::update(mailing::table.find(id))
        .set((
            mailing::failed.eq(mailing::failed - count),
            mailing::settled.eq(false),
            mailing::finished_at.eq(None::<Timestamp>),
            mailing::updated_at.eq(now),
        ))
        .execute(c)?;
    let finished = mailing::table.find(id).filter(mailing::status.eq(MailingStatus::Finished.code()));
    diesel::update(finished).set(mailing::status.eq(MailingStatus::Running.code())).execute(c)?;
    Ok(())
}
