//! Taking over pages that nobody holds: a dead node's, a stopped node's, those of a mailing that goes on after a pause.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text};

use super::claim::{Lot, recipients_of};
use super::plan::wishes_of;
use super::{Member, NewPage, delete_pages};
use crate::db::AnyConnection;
use crate::db::schema::{due, message, node, page, page_members};
use crate::db::types::{ClientId, Id, Instant, MailingId, MessageId, NodeId, PageId, Timestamp, unpack_ids};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::mailings::model::MailingStatus;
use crate::mailings::recipient::Recipient;
use crate::messages::repo::{MessageRow, replayed};
use crate::preferences::model::Wishes;

/// What is left of a page.
#[derive(Debug)]
pub struct TakenOver {
    /// The page, this node's by now.
    pub page: NewPage,
    /// Its members that have no outcome; with their row, if they have one.
    pub open: Vec<(Member, Option<MessageRow>)>,
    /// How many attempts were made at those that were replayed, before that.
    pub attempts_before: HashMap<MessageId, i16>,
    /// Their clients, as far as they still exist.
    pub recipients: Vec<Recipient>,
    /// What they wish.
    pub wishes: HashMap<ClientId, Arc<Wishes>>,
}

#[derive(QueryableByName)]
struct Adopted {
    #[diesel(sql_type = Id)]
    id: PageId,
}

/// Takes over up to `lot.limit` pages of mailings in a lane that nobody holds, the oldest first.
///
/// Nobody holds a page without a node, one of a node that is not known any more, and one of this node that is not among
/// `held`: its commit's answer was lost. With `only`, pages of these mailings alone are taken. A paused mailing's pages stay where they are until its window closes.
///
/// # Errors
/// Those of the database.
pub fn take_over(
    c: &mut AnyConnection,
    lot: Lot,
    (held, only): (&[PageId], Option<&[MailingId]>),
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
    let mut pages = Vec::new();
    for Adopted { id } in adopted {
        pages.extend(open_page(c, id, this, now)?);
    }
    Ok(pages)
}

/// Pages that may be nobody's.
#[derive(Debug, Default)]
pub struct LeftOver {
    /// The lanes of mailings' pages.
    pub lanes: BTreeSet<(ChannelKind, Priority)>,
    /// Whether there are pages of no mailing among them.
    pub single: bool,
}

/// Where there may be pages that nobody holds: reading all pages, a few for each node, costs less than asking for them
/// lane by lane.
///
/// # Errors
/// Those of the database.
pub fn left_over(c: &mut AnyConnection, this: NodeId, held: &HashSet<PageId>) -> Result<LeftOver> {
    let nodes: HashSet<NodeId> = node::table.select(node::id).load(c)?.into_iter().collect();
    type Row = (PageId, Option<NodeId>, Option<MailingId>, i16, i16);
    let pages: Vec<Row> = page::table
        .select((page::id, page::node_id, page::mailing_id, page::channel, page::priority))
        .load(c)?;
    let is_left = |id: PageId, holder: Option<NodeId>| match holder {
        Some(holder) if holder == this => !held.contains(&id),
        Some(holder) => !nodes.contains(&holder),
        None => true,
    };
    let mut left = LeftOver::default();
    for (.., mailing, channel, priority) in pages.into_iter().filter(|(id, holder, ..)| is_left(*id, *holder))
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

/// A JSON array of hexadecimal ids.
pub(super) fn json_of(ids: impl Iterator<Item = uuid::Uuid>) -> String {
    let ids: Vec<String> = ids.map(|id| format!("\"{}\"", id.simple())).collect();
    format!("[{}]", ids.join(","))
}

/// Reads what is left of a page, and corrects its remainder; a page with nothing left goes.
fn open_page(c: &mut AnyConnection, id: PageId, this: NodeId, now: Timestamp) -> Result<Option<TakenOver>> {
    let (mailing, channel, priority) = page::table
        .find(id)
        .select((page::mailing_id, page::channel, page::priority))
        .first::<(Option<MailingId>, i16, i16)>(c)?;
    let members = members_of(c, id)?;
    let mut open = without_outcome(c, members)?;
    if let Some(id) = mailing {
        forget_served(c, id, &mut open)?;
    }
    if open.is_empty() {
        delete_pages(c, &[id])?;
        return Ok(None);
    }
    let remaining = i32::try_from(open.len()).unwrap_or(i32::MAX);
    diesel::update(page::table.find(id)).set(page::remaining.eq(remaining)).execute(c)?;
    let channel = ChannelKind::from_code(channel)?;
    let left: Vec<Member> = open.iter().map(|(member, _)| *member).collect();
    let recipients = recipients_of(c, &left, channel)?;
    let attempts_before = replayed::attempts_before(c, open.iter().filter_map(|(_, row)| row.as_ref()))?;
    let wishes = match mailing {
        Some(mailing) => wishes_of(c, (mailing, channel), recipients.iter(), now)?,
        None => HashMap::new(),
    };
    failpoint::reach("take-over-before-commit");
    let page = NewPage { id, node: this, mailing, channel, priority: Priority::from_code(priority)? };
    Ok(Some(TakenOver { page, open, attempts_before, recipients, wishes }))
}

/// The members of a page.
pub(super) fn members_of(c: &mut AnyConnection, id: PageId) -> Result<Vec<Member>> {
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

/// A member has its outcome when its message is at another revision than when it came into the page, is in a final
/// state, or waits to be claimed.
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

/// Takes out members whose client has a message of this mailing under another id: theirs can never be recorded, and the
/// page would come back for ever, sent each time.
fn forget_served(
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
