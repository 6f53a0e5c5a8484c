//! Messages in flight, read from the leases that hold them. They are few and bounded, whatever the size of the
//! audience.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use uuid::Uuid;

use super::row::{MessageRow, into_models};
use crate::db::AnyConnection;
use crate::db::schema::{client, due, mailing, message, page, page_members};
use crate::db::types::{ClientId, MailingId, MessageId, NodeId, Timestamp, unpack_ids};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::messages::model::Message;
use crate::paging::{self, Page};

/// A lease with its members.
struct HeldMessage {
    /// False if it was released, for a pause or a shutdown: its messages are queued then.
    is_held: bool,
    mailing: Option<MailingId>,
    channel: i16,
    priority: i16,
    members: Vec<(MessageId, Option<ClientId>)>,
}

/// Returns the members of the leases without a mailing. They are few, and no other standalone message can be held by a
/// node.
///
/// # Errors
/// Database errors.
pub fn in_hand(c: &mut AnyConnection) -> Result<Vec<MessageId>> {
    let pages: Vec<Vec<u8>> = page::table
        .inner_join(page_members::table.on(page_members::page_id.eq(page::id)))
        .filter(page::mailing_id.is_null())
        .select(page_members::message_ids)
        .load(c)?;
    Ok(pages.iter().flat_map(|members| unpack_ids(members)).map(MessageId).collect())
}

/// Returns the members of the leases without a mailing that this node holds.
///
/// # Errors
/// Database errors.
pub(super) fn members_held_by(c: &mut AnyConnection, node: NodeId) -> Result<Vec<MessageId>> {
    let pages: Vec<Vec<u8>> = page::table
        .inner_join(page_members::table.on(page_members::page_id.eq(page::id)))
        .filter(page::mailing_id.is_null())
        .filter(page::node_id.eq(node))
        .select(page_members::message_ids)
        .load(c)?;
    Ok(pages.iter().flat_map(|members| unpack_ids(members)).map(MessageId).collect())
}

/// Returns the leases, of one mailing if it is given, whether held by a node or released.
fn pages(c: &mut AnyConnection, of: Option<MailingId>) -> Result<Vec<HeldMessage>> {
    let mut query = page::table
        .inner_join(page_members::table.on(page_members::page_id.eq(page::id)))
        .select((
            page::node_id.is_not_null(),
            page::mailing_id,
            page::channel,
            page::priority,
            page_members::message_ids,
            page_members::client_ids,
        ))
        .into_boxed();
    if let Some(id) = of {
        query = query.filter(page::mailing_id.eq(id));
    }
    type Row = (bool, Option<MailingId>, i16, i16, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> = query.load(c)?;
    Ok(rows
        .into_iter()
        .map(|(is_held, mailing, channel, priority, messages, clients)| {
            let mut clients = unpack_ids(&clients);
            let members = unpack_ids(&messages)
                .map(|id| (MessageId(id), clients.next().filter(|id| *id != Uuid::nil()).map(ClientId)))
                .collect();
            HeldMessage { is_held, mailing, channel, priority, members }
        })
        .collect())
}

/// Returns true if a message whose row says *queued* is held by a node.
pub(super) fn is_taken(c: &mut AnyConnection, id: MessageId) -> Result<bool> {
    let waits: Option<MessageId> = due::table.find(id).select(due::message_id).first(c).optional()?;
    if waits.is_some() {
        return Ok(false);
    }
    let has = |page: &HeldMessage| page.is_held && page.members.iter().any(|(member, _)| *member == id);
    Ok(pages(c, None)?.iter().any(has))
}

/// Returns the message of this id if it is planned: without an outcome it has no row.
pub(super) fn planned(c: &mut AnyConnection, id: MessageId) -> Result<Option<Message>> {
    for page in pages(c, None)? {
        if let Some(member) = page.members.iter().find(|(member, _)| *member == id) {
            let member = *member;
            return Ok(describe(c, &page, &[member])?.pop());
        }
    }
    Ok(None)
}

/// Returns one page of the messages in flight, in id order.
pub(super) fn list(
    c: &mut AnyConnection,
    mailing: Option<MailingId>,
    limit: i64,
    after: Option<MessageId>,
) -> Result<Page<Message>> {
    let mut found = Vec::new();
    for page in pages(c, mailing)?.into_iter().filter(|page| page.is_held) {
        let open = without_outcome(c, &page)?;
        let open: Vec<_> = open.into_iter().filter(|(id, _)| after.is_none_or(|after| *id > after)).collect();
        found.extend(describe(c, &page, &open)?);
    }
    found.sort_by_key(|message| message.id);
    let next_cursor = paging::cut(&mut found, limit, |message| message.id.to_string());
    Ok(Page { items: found, next_cursor })
}

fn without_outcome(c: &mut AnyConnection, page: &HeldMessage) -> Result<Vec<(MessageId, Option<ClientId>)>> {
    let ids: Vec<MessageId> = page.members.iter().map(|(id, _)| *id).collect();
    let rows: Vec<(MessageId, i16)> =
        message::table.filter(message::id.eq_any(&ids)).select((message::id, message::status)).load(c)?;
    let waiting: HashSet<MessageId> = due::table
        .filter(due::message_id.eq_any(&ids))
        .select(due::message_id)
        .load(c)?
        .into_iter()
        .collect();
    let closed: HashSet<MessageId> = rows
        .into_iter()
        .filter(|(id, status)| *status != MessageStatus::Queued.code() || waiting.contains(id))
        .map(|(id, _)| id)
        .collect();
    Ok(page.members.iter().filter(|(id, _)| !closed.contains(id)).copied().collect())
}

/// Converts each member to a message without an outcome, from its row if it has one, else from its client.
fn describe(
    c: &mut AnyConnection,
    page: &HeldMessage,
    members: &[(MessageId, Option<ClientId>)],
) -> Result<Vec<Message>> {
    let ids: Vec<MessageId> = members.iter().map(|(id, _)| *id).collect();
    let rows: Vec<MessageRow> =
        message::table.filter(message::id.eq_any(ids)).select(MessageRow::as_select()).load(c)?;
    let mut known: HashMap<MessageId, Message> =
        into_models(c, rows)?.into_iter().map(|message| (message.id, message)).collect();
    let clients: Vec<ClientId> = members.iter().filter_map(|(_, client)| *client).collect();
    let phones: HashMap<ClientId, Option<i64>> = client::table
        .filter(client::id.eq_any(clients))
        .select((client::id, client::phone_number))
        .load::<(ClientId, Option<i64>)>(c)?
        .into_iter()
        .collect();
    let expires_at: Option<Timestamp> = match page.mailing {
        Some(id) => mailing::table.find(id).select(mailing::ends_at).first(c).optional()?,
        None => None,
    };
    let status = if page.is_held { MessageStatus::Sending } else { MessageStatus::Queued };
    members
        .iter()
        .map(|(id, client)| match known.remove(id) {
            Some(message) => Ok(Message { status, ..message }),
            None => Ok(Message {
                id: *id,
                mailing_id: page.mailing,
                client_id: *client,
                recipient: client
                    .and_then(|id| *phones.get(&id)?)
                    .map(|number| number.to_string())
                    .unwrap_or_default(),
                channel: ChannelKind::from_code(page.channel)?,
                priority: Priority::from_code(page.priority)?,
                status,
                attempts: 0,
                created_at: id.created_at(),
                due_at: None,
                expires_at,
                finished_at: None,
                provider_id: None,
                error: None,
                status_code: None,
                duration_ms: None,
            }),
        })
        .collect()
}
