//! Counts the waiting messages that could be sent now, for the metrics.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt};

use super::claim::next_due;
use crate::db::AnyConnection;
use crate::db::schema::{mailing, page};
use crate::db::types::{Instant, MailingId, Timestamp};
use crate::error::Result;
use crate::kinds::ChannelKind;
use crate::mailings::model::MailingStatus;

/// The largest count of due messages in one lane: the cost of the count must not grow with the backlog.
pub const MOST_COUNTED: i64 = 10_000;

/// Counts the due messages of a lane. It is the same in both dialects: SQLite numbers `$1`, `$2`, … in their order.
const COUNT_DUE: &str = "SELECT count(*) AS count FROM (SELECT 1 FROM due \
    WHERE channel = $1 AND priority = $2 AND due_at <= $3 LIMIT $4) AS counted";

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Returns the backlog of each channel that has one. It contains due messages (at most [`MOST_COUNTED`] of a lane),
/// messages that nodes hold without an outcome, and the rest of the audiences of mailings that run inside their
/// windows. It does not contain messages that wait for a later time (quiet hours, a retry, a schedule), nor those of a
/// paused mailing.
///
/// # Errors
/// Database errors.
pub fn backlog(c: &mut AnyConnection, now: Timestamp) -> Result<BTreeMap<ChannelKind, i64>> {
    let mut found: BTreeMap<ChannelKind, i64> = BTreeMap::new();
    let mut add = |channel: ChannelKind, count: i64| {
        if count > 0 {
            *found.entry(channel).or_default() += count;
        }
    };
    for (channel, priority, first) in next_due(c)? {
        if first > now {
            continue;
        }
        macro_rules! count {
            ($c:expr) => {
                diesel::sql_query(COUNT_DUE)
                    .bind::<SmallInt, _>(channel.code())
                    .bind::<SmallInt, _>(priority.code())
                    .bind::<Instant, _>(now)
                    .bind::<BigInt, _>(MOST_COUNTED)
                    .get_result::<Counted>($c)?
            };
        }
        let Counted { count } = match c {
            AnyConnection::Postgres(c) => count!(c),
            AnyConnection::Sqlite(c) => count!(c),
        };
        add(channel, count);
    }
    // few rows: an index covers the mailings whose counts are not finalized
    let running: HashMap<MailingId, (ChannelKind, i64)> = mailing::table
        .filter(mailing::settled.eq(false))
        .filter(mailing::status.eq(MailingStatus::Running.code()))
        .filter(mailing::starts_at.le(now))
        .filter(mailing::ends_at.gt(now))
        .select((mailing::id, mailing::channel, mailing::walked, mailing::total - mailing::planned))
        .load::<(MailingId, i16, bool, i64)>(c)?
        .into_iter()
        .map(|(id, channel, is_walked, left)| {
            Ok((id, (ChannelKind::from_code(channel)?, if is_walked { 0 } else { left })))
        })
        .collect::<Result<_>>()?;
    for (channel, left) in running.values() {
        add(*channel, *left);
    }
    let leases: Vec<(Option<MailingId>, i16, i32)> =
        page::table.select((page::mailing_id, page::channel, page::remaining)).load(c)?;
    for (of_mailing, channel, remaining) in leases {
        if of_mailing.is_none_or(|id| running.contains_key(&id)) {
            add(ChannelKind::from_code(channel)?, i64::from(remaining));
        }
    }
    Ok(found)
}
