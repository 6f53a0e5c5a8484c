//! Claims due messages in bulk, as leases.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt};

use super::{Member, NewLease, insert_lease};
use crate::db::AnyConnection;
use crate::db::schema::message;
use crate::db::types::{Id, Instant, LeaseId, MailingId, MessageId, NodeId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::mailings::recipient::Recipient;
use crate::mailings::repo::audience::{self, ClientFields};
use crate::messages::repo::{MessageRow, cancellation, replayed};
use crate::notifications;
use crate::notifications::repo::StoredContent;
use crate::preferences::repo::PreferenceLookup;
use crate::requests;
use crate::requests::repo::StoredRequest;

/// A lease of claimed messages, with the data to send them.
#[derive(Debug)]
pub struct Claimed {
    /// The lease.
    pub lease: NewLease,
    /// Its messages.
    pub rows: Vec<MessageRow>,
    /// The number of attempts before the last replay, of the replayed messages.
    pub attempts_before: HashMap<MessageId, i16>,
    /// The mailing's clients that still exist.
    pub recipients: Vec<Recipient>,
    /// The contents of standalone messages.
    pub contents: HashMap<MessageId, StoredContent>,
    /// The stored requests.
    pub requests: HashMap<MessageId, StoredRequest>,
    /// The recipients' preferences, read after the claim, so that a change that was confirmed before applies.
    pub preferences: PreferenceLookup,
    /// The messages that were cancelled while a node held them before.
    pub cancelled: HashSet<MessageId>,
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(sql_type = Id)]
    message_id: MessageId,
    #[diesel(sql_type = Nullable<Id>)]
    mailing_id: Option<MailingId>,
}

/// The batch to claim or take over in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct LaneBatch {
    /// The node that claims.
    pub node: NodeId,
    /// The channel.
    pub channel: ChannelKind,
    /// The priority.
    pub priority: Priority,
    /// The largest number of messages, or of leases for a takeover.
    pub limit: usize,
}

/// Claims due messages, the longest due first, and stores them as leases of this node, one for each mailing.
///
/// # Errors
/// Database errors.
pub fn claim(c: &mut AnyConnection, lot: LaneBatch, now: Timestamp) -> Result<Vec<Claimed>> {
    let limit = i64::try_from(lot.limit).unwrap_or(i64::MAX);
    macro_rules! take {
        ($c:expr, $sql:literal) => {
            diesel::sql_query(include_str!($sql))
                .bind::<SmallInt, _>(lot.channel.code())
                .bind::<SmallInt, _>(lot.priority.code())
                .bind::<Instant, _>(now)
                .bind::<BigInt, _>(limit)
                .load::<ClaimedRow>($c)?
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
    lot: LaneBatch,
    mailing: Option<MailingId>,
    rows: Vec<MessageRow>,
    now: Timestamp,
) -> Result<Claimed> {
    let lease = NewLease {
        id: LeaseId::new(),
        node: lot.node,
        mailing,
        channel: lot.channel,
        priority: lot.priority,
    };
    let members: Vec<Member> = rows
        .iter()
        .map(|row| Member { message: row.id, client: row.client_id, revision: row.revision })
        .collect();
    insert_lease(c, &lease, &members, now)?;
    failpoint::reach("claim-before-commit");
    let attempts_before = replayed::attempts_before(c, rows.iter())?;
    let mut claimed = Claimed {
        lease,
        rows,
        attempts_before,
        recipients: Vec::new(),
        contents: HashMap::new(),
        requests: HashMap::new(),
        preferences: PreferenceLookup::default(),
        cancelled: HashSet::new(),
    };
    let ids: Vec<MessageId> = claimed.rows.iter().map(|row| row.id).collect();
    if mailing.is_none() {
        claimed.cancelled = cancellation::among(c, &ids)?;
    }
    match mailing {
        Some(_) => claimed.recipients = recipients_of(c, &members, lot.channel)?,
        None if lot.channel == ChannelKind::Request => {
            // requests have no recipients, and so no preferences
            claimed.requests = requests::repo::stored_requests(c, &ids)?;
            return Ok(claimed);
        }
        None => claimed.contents = notifications::repo::contents(c, &ids)?,
    }
    let recipients = claimed.rows.iter().map(|row| (row.client_id, Some(row.recipient.as_str())));
    claimed.preferences = PreferenceLookup::load(c, lot.channel, recipients)?;
    Ok(claimed)
}

/// Returns the clients of these members that still exist.
pub(super) fn recipients_of(
    c: &mut AnyConnection,
    members: &[Member],
    channel: ChannelKind,
) -> Result<Vec<Recipient>> {
    let ids: Vec<_> = members.iter().filter_map(|member| member.client).collect();
    if ids.is_empty() {
        Ok(Vec::new())
    } else {
        audience::by_ids(c, &ids, ClientFields { profile: true, ..ClientFields::of(channel) })
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

/// Looks into the index once for each lane, in one statement: a `GROUP BY` would read all waiting messages.
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

/// Returns the time at which the next message of each lane is due, for the lanes with waiting messages.
///
/// # Errors
/// Database errors.
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
