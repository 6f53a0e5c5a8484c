//! Takes over leases without an owner: those of a dead or stopped node, or of a mailing that was resumed after a pause.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text};

use super::claim::{LaneBatch, recipients_of};
use super::plan::preferences_of;
use super::{Member, NewLease, delete_leases};
use crate::db::AnyConnection;
use crate::db::schema::{due, message, node, page, page_members};
use crate::db::types::{ClientId, Id, Instant, LeaseId, MailingId, MessageId, NodeId, Timestamp, unpack_ids};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::mailings::model::MailingStatus;
use crate::mailings::recipient::Recipient;
use crate::messages::repo::{MessageRow, replayed};
use crate::preferences::model::RecipientPreferences;

/// A lease that was taken over, with its remaining messages.
#[derive(Debug)]
pub struct TakenOver {
    /// The lease, which this node holds now.
    pub lease: NewLease,
    /// Its members without an outcome, with their row if they have one.
    pub open: Vec<(Member, Option<MessageRow>)>,
    /// The number of attempts before the last replay, of the replayed messages.
    pub attempts_before: HashMap<MessageId, i16>,
    /// Their clients that still exist.
    pub recipients: Vec<Recipient>,
    /// The clients' preferences.
    pub preferences: HashMap<ClientId, Arc<RecipientPreferences>>,
}

#[derive(QueryableByName)]
struct Adopted {
    #[diesel(sql_type = Id)]
    id: LeaseId,
}

/// Takes over up to `lot.limit` leases of mailings in a lane that have no owner, oldest first.
///
/// A lease has no owner if it has no node, if its node does not exist any more, or if its node is this one and it is
/// not among `held`, because the response to its commit was lost. With `only`, it takes leases of these mailings only.
/// The leases of a paused mailing stay without an owner until its window closes.
///
/// # Errors
/// Database errors.
pub fn take_over(
    c: &mut AnyConnection,
    lot: LaneBatch,
    (held, only): (&[LeaseId], Option<&[MailingId]>),
    now: Timestamp,
) -> Result<Vec<TakenOver>> {
    let this = lot.node;
    let limit = i64::try_from(lot.limit).unwrap_or(i64::MAX);
    let adopted: Vec<Adopted> = match c {
        AnyConnection::Postgres(c) => diesel::sql_query(include_str!("sql/take_over.postgres.sql"))
            .bind::<Id, _>(this)
            .bind::<Array<Id>, _>(held)
            .bind::<SmallInt, _>(MailingStatus::Paused.code())
            .bind::<Instant, _>(now)
            .bind::<BigInt, _>(limit)
            .bind::<SmallInt, _>(lot.channel.code())
            .bind::<SmallInt, _>(lot.priority.code())
            .bind::<Nullable<Array<Id>>, _>(only)
            .load(c)?,
        AnyConnection::Sqlite(c) => {
            let held = json_of(held.iter().map(|id| id.0));
            let only = only.map(|only| json_of(only.iter().map(|id| id.0)));
            diesel::sql_query(include_str!("sql/take_over.sqlite.sql"))
                .bind::<Id, _>(this)
                .bind::<Text, _>(held)
                .bind::<SmallInt, _>(MailingStatus::Paused.code())
                .bind::<Instant, _>(now)
                .bind::<BigInt, _>(limit)
                .bind::<SmallInt, _>(lot.channel.code())
                .bind::<SmallInt, _>(lot.priority.code())
                .bind::<Nullable<Text>, _>(only)
                .load(c)?
        }
    };
    let mut leases = Vec::new();
    for Adopted { id } in adopted {
        leases.extend(read_lease(c, id, this, now)?);
    }
    Ok(leases)
}

/// The places of leases without an owner.
#[derive(Debug, Default)]
pub struct OrphanedLeases {
    /// The lanes of mailings' leases.
    pub lanes: BTreeSet<(ChannelKind, Priority)>,
    /// True if there are leases without a mailing.
    pub single: bool,
}

/// Finds the lanes with leases without an owner. Reading all leases, a few for each node, costs less than a query for
/// each lane.
///
/// # Errors
/// Database errors.
pub fn orphaned_leases(
    c: &mut AnyConnection,
    this: NodeId,
    held: &HashSet<LeaseId>,
) -> Result<OrphanedLeases> {
    let nodes: HashSet<NodeId> = node::table.select(node::id).load(c)?.into_iter().collect();
    type Row = (LeaseId, Option<NodeId>, Option<MailingId>, i16, i16);
    let leases: Vec<Row> = page::table
        .select((page::id, page::node_id, page::mailing_id, page::channel, page::priority))
        .load(c)?;
    let is_left = |id: LeaseId, holder: Option<NodeId>| match holder {
        Some(holder) if holder == this => !held.contains(&id),
        Some(holder) => !nodes.contains(&holder),
        None => true,
    };
    let mut left = OrphanedLeases::default();
    for (.., mailing, channel, priority) in
        leases.into_iter().filter(|(id, holder, ..)| is_left(*id, *holder))
    {
        match mailing {
            Some(_) => {
                left.lanes.insert((ChannelKind::from_code(channel)?, Priority::from_code(priority)?));
            }
            None => left.single = true,
        }
    }
    Ok(left)
}

/// Formats a JSON array of hexadecimal ids.
pub(super) fn json_of(ids: impl Iterator<Item = uuid::Uuid>) -> String {
    let ids: Vec<String> = ids.map(|id| format!("\"{}\"", id.simple())).collect();
    format!("[{}]", ids.join(","))
}

/// Reads the members of a lease without an outcome, and corrects its count. An empty lease is deleted.
fn read_lease(c: &mut AnyConnection, id: LeaseId, this: NodeId, now: Timestamp) -> Result<Option<TakenOver>> {
    let (mailing, channel, priority) = page::table
        .find(id)
        .select((page::mailing_id, page::channel, page::priority))
        .first::<(Option<MailingId>, i16, i16)>(c)?;
    let members = members_of(c, id)?;
    let mut open = without_outcome(c, members)?;
    if let Some(id) = mailing {
        remove_served(c, id, &mut open)?;
    }
    if open.is_empty() {
        delete_leases(c, &[id])?;
        return Ok(None);
    }
    let remaining = i32::try_from(open.len()).unwrap_or(i32::MAX);
    diesel::update(page::table.find(id)).set(page::remaining.eq(remaining)).execute(c)?;
    let channel = ChannelKind::from_code(channel)?;
    let left: Vec<Member> = open.iter().map(|(member, _)| *member).collect();
    let recipients = recipients_of(c, &left, channel)?;
    let attempts_before = replayed::attempts_before(c, open.iter().filter_map(|(_, row)| row.as_ref()))?;
    let preferences = match mailing {
        Some(mailing) => preferences_of(c, (mailing, channel), recipients.iter(), now)?,
        None => HashMap::new(),
    };
    failpoint::reach("take-over-before-commit");
    let lease = NewLease { id, node: this, mailing, channel, priority: Priority::from_code(priority)? };
    Ok(Some(TakenOver { lease, open, attempts_before, recipients, preferences }))
}

/// Returns the members of a lease.
pub(super) fn members_of(c: &mut AnyConnection, id: LeaseId) -> Result<Vec<Member>> {
    let (messages, clients, revisions) = page_members::table
        .find(id)
        .select((page_members::message_ids, page_members::client_ids, page_members::revisions))
        .first::<(Vec<u8>, Vec<u8>, Vec<u8>)>(c)?;
    Ok(unpack_ids(&messages)
        .zip(unpack_ids(&clients))
        .zip(revisions.as_chunks::<2>().0)
        .map(|((message, client), revision)| Member {
            message: MessageId(message),
            client: (client != uuid::Uuid::nil()).then_some(ClientId(client)),
            revision: i16::from_be_bytes(*revision),
        })
        .collect())
}

/// Returns the members without an outcome. A member has its outcome if its message has another revision than when it
/// entered the lease, is in a final state, or waits to be claimed.
pub(super) fn without_outcome(
    c: &mut AnyConnection,
    members: Vec<Member>,
) -> Result<Vec<(Member, Option<MessageRow>)>> {
    let ids: Vec<MessageId> = members.iter().map(|member| member.message).collect();
    let rows: Vec<MessageRow> =
        message::table.filter(message::id.eq_any(&ids)).select(MessageRow::as_select()).load(c)?;
    let mut rows: HashMap<MessageId, MessageRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    let waiting: HashSet<MessageId> = due::table
        .filter(due::message_id.eq_any(&ids))
        .select(due::message_id)
        .load(c)?
        .into_iter()
        .collect();
    Ok(members
        .into_iter()
        .filter_map(|member| {
            let row = rows.remove(&member.message);
            let is_open = match &row {
                None => true,
                Some(row) => {
                    row.revision == member.revision
                        && row.status == MessageStatus::Queued.code()
                        && !waiting.contains(&member.message)
                }
            };
            is_open.then_some((member, row))
        })
        .collect())
}

/// Removes members whose client has a message of this mailing under another id. Their outcome can never be recorded, so
/// the lease would return forever, and its message would be sent each time.
fn remove_served(
    c: &mut AnyConnection,
    mailing: MailingId,
    open: &mut Vec<(Member, Option<MessageRow>)>,
) -> Result<()> {
    let new = open.iter().filter(|(_, row)| row.is_none()).filter_map(|(member, _)| member.client);
    let new: Vec<ClientId> = new.collect();
    let number = crate::mailings::repo::number(c, mailing)?;
    let served: Vec<Option<ClientId>> = message::table
        .filter(message::mailing_number.eq(number))
        .filter(message::client_id.eq_any(&new))
        .select(message::client_id)
        .load(c)?;
    let served: HashSet<ClientId> = served.into_iter().flatten().collect();
    open.retain(|(member, row)| row.is_some() || member.client.is_none_or(|id| !served.contains(&id)));
    Ok(())
}
