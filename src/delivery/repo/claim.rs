//! Claiming due messages, in bulk, as pages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt};

use super::{Member, NewPage, insert_page};
use crate::db::AnyConnection;
use crate::db::schema::message;
use crate::db::types::{Id, Instant, MailingId, MessageId, NodeId, PageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::{self, Needs};
use crate::messages::repo::{MessageRow, cancellation, replayed};
use crate::notifications;
use crate::notifications::repo::Content;
use crate::preferences::repo::Known;
use crate::requests;
use crate::requests::repo::Asking;

/// A page of messages that have rows, with what it takes to send them.
#[derive(Debug)]
pub struct Claimed {
    /// The page.
    pub page: NewPage,
    /// Its messages.
    pub rows: Vec<MessageRow>,
    /// How many attempts were made at those that were replayed, before that.
    pub attempts_before: HashMap<MessageId, i16>,
    /// A mailing's clients, as far as they still exist.
    pub recipients: Vec<Recipient>,
    /// What messages of no mailing say.
    pub contents: HashMap<MessageId, Content>,
    /// What requests are.
    pub requests: HashMap<MessageId, Asking>,
    /// What the recipients wish, as it is after the claim: what was answered before holds.
    pub wishes: Known,
    /// Those that were cancelled while they were in hand before.
    pub cancelled: HashSet<MessageId>,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Id)]
    message_id: MessageId,
    #[diesel(sql_type = Nullable<Id>)]
    mailing_id: Option<MailingId>,
}

/// Whose messages are claimed.
#[derive(Debug, Clone, Copy)]
pub struct Lot {
    /// For which node.
    pub node: NodeId,
    /// On which channel.
    pub channel: ChannelKind,
    /// In which lane.
    pub priority: Priority,
    /// How many at most.
    pub limit: usize,
}

/// Takes messages that are due, the longest due first, and stores them as pages of this node, one for each mailing.
///
/// # Errors
/// Those of the database.
pub fn claim(c: &mut AnyConnection, lot: Lot, now: Timestamp) -> Result<Vec<Claimed>> {
    let limit = i64::try_from(lot.limit).unwrap_or(i64::MAX);
    macro_rules! take {
        ($c:expr, $sql:literal) => {
            diesel::sql_query(include_str!($sql))
                .bind::<SmallInt, _>(lot.channel.code())
                .bind::<SmallInt, _>(lot.priority.code())
                .bind::<Instant, _>(now)
                .bind::<BigInt, _>(limit)
                .load::<Taken>($c)?
        };
    }
    let taken = match c {
        AnyConnection::Postgres(c) => take!(c, "sql/claim.postgres.sql"),
        AnyConnection::Sqlite(c) => take!(c, "sql/claim.sqlite.sql"),
    };
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let mailings: HashMap<MessageId, Option<MailingId>> =
        taken.into_iter().map(|row| (row.message_id, row.mailing_id)).collect();
    let rows: Vec<MessageRow> = message::table
        .filter(message::id.eq_any(mailings.keys()))
        .filter(message::status.eq(MessageStatus::Queued.code()))
        .order((message::due_at, message::id))
        .select(MessageRow::as_select())
        .load(c)?;
    let mut by_mailing: BTreeMap<Option<MailingId>, Vec<MessageRow>> = BTreeMap::new();
    for row in rows {
        by_mailing.entry(mailings.get(&row.id).copied().flatten()).or_default().push(row);
    }
    by_mailing.into_iter().map(|(mailing, rows)| store(c, lot, mailing, rows, now)).collect()
}

fn store(
    c: &mut AnyConnection,
    lot: Lot,
    mailing: Option<MailingId>,
    rows: Vec<MessageRow>,
    now: Timestamp,
) -> Result<Claimed> {
    let page =
        NewPage { id: PageId::new(), node: lot.node, mailing, channel: lot.channel, priority: lot.priority };
    let members: Vec<Member> = rows
        .iter()
        .map(|row| Member { message: row.id, client: row.client_id, revision: row.revision })
        .collect();
    insert_page(c, &page, &members, now)?;
    failpoint::reach("claim-before-commit");
    let attempts_before = replayed::attempts_before(c, rows.iter())?;
    let mut claimed = Claimed {
        page,
        rows,
        attempts_before,
        recipients: Vec::new(),
        contents: HashMap::new(),
        requests: HashMap::new(),
        wishes: Known::default(),
        cancelled: HashSet::new(),
    };
    let ids: Vec<MessageId> = claimed.rows.iter().map(|row| row.id).collect();
    if mailing.is_none() {
        claimed.cancelled = cancellation::among(c, &ids)?;
    }
    match mailing {
        Some(_) => claimed.recipients = recipients_of(c, &members, lot.channel)?,
        None if lot.channel == ChannelKind::Request => {
            // nobody is written to, so nobody wishes anything
            claimed.requests = requests::repo::asking(c, &ids)?;
            return Ok(claimed);
        }
        None => claimed.contents = notifications::repo::contents(c, &ids)?,
    }
    let heard = claimed.rows.iter().map(|row| (row.client_id, Some(row.recipient.as_str())));
    claimed.wishes = Known::of(c, lot.channel, heard)?;
    Ok(claimed)
}

/// The clients of these members, as far as they still exist.
pub(super) fn recipients_of(
    c: &mut AnyConnection,
    members: &[Member],
    channel: ChannelKind,
) -> Result<Vec<Recipient>> {
    let ids: Vec<_> = members.iter().filter_map(|member| member.client).collect();
    if ids.is_empty() {
        Ok(Vec::new())
    } else {
        audience::by_ids(c, &ids, Needs { profile: true, ..Needs::of(channel) })
    }
}

/// The first due time of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
struct First {
    #[diesel(sql_type = SmallInt)]
    channel: i16,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Nullable<Instant>)]
    due_at: Option<Timestamp>,
}

/// One look into the index for each lane, in one statement: a `GROUP BY` would read all that waits.
static FIRSTS: LazyLock<String> = LazyLock::new(|| {
    let lanes: Vec<String> = ChannelKind::ALL
        .iter()
        .flat_map(|channel| Priority::ALL.iter().map(|priority| (channel.code(), priority.code())))
        .map(|(channel, priority)| {
            format!("SELECT CAST({channel} AS smallint) AS channel, CAST({priority} AS smallint) AS priority")
        })
        .collect();
    format!(
        "SELECT l.channel, l.priority, (SELECT min(d.due_at) FROM due d \
         WHERE d.channel = l.channel AND d.priority = l.priority) AS due_at FROM ({}) l",
        lanes.join(" UNION ALL ")
    )
});

/// When the next message of each lane becomes due, of those in which any waits.
///
/// # Errors
/// Those of the database.
pub fn next_due(c: &mut AnyConnection) -> Result<Vec<(ChannelKind, Priority, Timestamp)>> {
    let firsts: Vec<First> = match c {
        AnyConnection::Postgres(c) => diesel::sql_query(FIRSTS.as_str()).load(c)?,
        AnyConnection::Sqlite(c) => diesel::sql_query(FIRSTS.as_str()).load(c)?,
    };
    firsts
        .into_iter()
        .filter_map(|first| first.due_at.map(|at| (first, at)))
        .map(|(first, at)| {
            Ok((ChannelKind::from_code(first.channel)?, Priority::from_code(first.priority)?, at))
        })
        .collect()
}
