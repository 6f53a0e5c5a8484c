//! The engine's units of work, each one transaction. Hot statements are native, one file per database, in `repo/sql`.

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
use crate::db::types::{ClientId, MailingId, MessageId, NodeId, PageId, Timestamp, pack_ids};
use crate::error::Result;
use crate::kinds::{ChannelKind, Priority};

/// A message's place in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Which message.
    pub message: MessageId,
    /// For which client.
    pub client: Option<ClientId>,
    /// Outcomes recorded when it came into the page; another number later means that the page has its outcome.
    pub revision: i16,
}

/// The durable trace of what is in flight.
#[derive(Debug, Clone)]
pub struct NewPage {
    /// Which page.
    pub id: PageId,
    /// Who holds it.
    pub node: NodeId,
    /// The mailing of all its members.
    pub mailing: Option<MailingId>,
    /// Their channel.
    pub channel: ChannelKind,
    /// Their lane.
    pub priority: Priority,
}

fn insert_page(c: &mut AnyConnection, new: &NewPage, members: &[Member], now: Timestamp) -> Result<()> {
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

fn delete_pages(c: &mut AnyConnection, ids: &[PageId]) -> Result<()> {
    // one by one, as prepared statements: there are few, and on SQLite a list is prepared anew each time
    for id in ids {
        diesel::delete(page::table.find(id)).execute(c)?;
        diesel::delete(page_members::table.find(id)).execute(c)?;
    }
    Ok(())
}

/// Takes pages of this node out of its hands; answers which of them belong to no mailing.
fn free_pages(c: &mut AnyConnection, ids: &[PageId], node: NodeId) -> Result<Vec<PageId>> {
    let mine = page::table.filter(page::id.eq_any(ids)).filter(page::node_id.eq(node));
    let freed: Vec<(PageId, Option<MailingId>)> = diesel::update(mine)
        .set(page::node_id.eq(None::<NodeId>))
        .returning((page::id, page::mailing_id))
        .get_results(c)?;
    Ok(freed.into_iter().filter(|(_, mailing)| mailing.is_none()).map(|(id, _)| id).collect())
}
