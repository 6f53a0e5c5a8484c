//! Counts what waits to be sent and could be sent now, for the metrics.

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

/// Due messages counted in one lane at most: the count must not cost more the longer the backlog is.
pub const MOST_COUNTED: i64 = 10_000;

/// The same in both dialects: SQLite numbers `$1`, `$2`, … in the order in which they come.
const COUNT_DUE: &str = "SELECT count(*) AS count FROM (SELECT 1 FROM due \
    WHERE channel = $1 AND priority = $2 AND due_at <= $3 LIMIT $4) AS counted";

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Returns the backlog of each channel that has one: what is due and waits ([`MOST_COUNTED`] of a lane at most), what nodes
/// hold without an outcome, and what is left of the audiences of mailings that run inside their windows. What waits for a
/// later time (quiet hours, a retry, a schedule) is not part of it, and neither is what belongs to a paused mailing.
///
/// # Errors
/// Those of the database.
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
    // few: those that are not settled have an index of their own
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
    let pages: Vec<(Option<MailingId>, i16, i32)> =
        page::table.select((page::mailing_id, page::channel, page::remaining)).load(c)?;
    for (of_mailing, channel, remaining) in pages {
        if of_mailing.is_none_or(|id| running.contains_key(&id)) {
            add(ChannelKind::from_code(channel)?, i64::from(remaining));
        }
    }
    Ok(found)
}
