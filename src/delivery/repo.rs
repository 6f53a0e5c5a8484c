//! The engine's units of work, each in one transaction. Hot statements are native SQL, one file per database, in
//! `repo/sql`.

pub mod backlog;
pub mod claim;
pub mod close;
pub mod expire;
pub mod node;
pub mod plan;
pub mod rate;
pub mod record;
pub mod requeue;
pub mod take_over;

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::schema::{page, page_members};
use crate::db::types::{ClientId, LeaseId, MailingId, MessageId, NodeId, Timestamp, pack_ids};
use crate::error::Result;
use crate::kinds::{ChannelKind, Priority};

/// A member of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The message's id.
    pub message: MessageId,
    /// The client's id.
    pub client: Option<ClientId>,
    /// The number of outcomes when the message entered the lease; a different number later means that it has its
    /// outcome.
    pub revision: i16,
}

/// A lease to store: the durable record of messages in flight.
#[derive(Debug, Clone)]
pub struct NewLease {
    /// The lease's id.
    pub id: LeaseId,
    /// The node that holds it.
    pub node: NodeId,
    /// The mailing of all its members.
    pub mailing: Option<MailingId>,
    /// The channel of its members.
    pub channel: ChannelKind,
    /// The priority of its members.
    pub priority: Priority,
}

fn insert_lease(c: &mut AnyConnection, new: &NewLease, members: &[Member], now: Timestamp) -> Result<()> {
    diesel::insert_into(page::table)
        .values((
            page::id.eq(new.id),
            page::node_id.eq(Some(new.node)),
            page::mailing_id.eq(new.mailing),
            page::channel.eq(new.channel.code()),
            page::priority.eq(new.priority.code()),
            page::remaining.eq(i32::try_from(members.len()).unwrap_or(i32::MAX)),
            page::created_at.eq(now),
        ))
        .execute(c)?;
    diesel::insert_into(page_members::table)
        .values((
            page_members::page_id.eq(new.id),
            page_members::message_ids.eq(pack_ids(members.iter().map(|m| m.message.0))),
            page_members::client_ids
                .eq(pack_ids(members.iter().map(|m| m.client.map_or(uuid::Uuid::nil(), |id| id.0)))),
            page_members::revisions
                .eq(members.iter().flat_map(|m| m.revision.to_be_bytes()).collect::<Vec<u8>>()),
        ))
        .execute(c)?;
    Ok(())
}

fn delete_leases(c: &mut AnyConnection, ids: &[LeaseId]) -> Result<()> {
    // one by one, as prepared statements: there are few, and on SQLite a statement with a list is prepared each time
    for id in ids {
        diesel::delete(page::table.find(id)).execute(c)?;
        diesel::delete(page_members::table.find(id)).execute(c)?;
    }
    Ok(())
}

/// Removes the owner of this node's leases. Returns those without a mailing.
fn clear_lease_owner(c: &mut AnyConnection, ids: &[LeaseId], node: NodeId) -> Result<Vec<LeaseId>> {
    let mine = page::table.filter(page::id.eq_any(ids)).filter(page::node_id.eq(node));
    let freed: Vec<(LeaseId, Option<MailingId>)> = diesel::update(mine)
        .set(page::node_id.eq(None::<NodeId>))
        .returning((page::id, page::mailing_id))
        .get_results(c)?;
    Ok(freed.into_iter().filter(|(_, mailing)| mailing.is_none()).map(|(id, _)| id).collect())
}
