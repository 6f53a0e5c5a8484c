//! Cancellation requests for messages that a node holds. They are recorded here and acknowledged by that node, and a
//! claim of a message that waits again applies them.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::in_flight::members_held_by;
use crate::db::schema::{cancellation, due, message};
use crate::db::types::{MessageId, NodeId, Timestamp};
use crate::db::{AnyConnection, insert_rows};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::MessageStatus;

#[derive(Insertable)]
#[diesel(table_name = cancellation, treat_none_as_default_value = false)]
struct CancellationRow {
    message_id: MessageId,
    holds: bool,
    in_flight: Option<bool>,
    asked_at: Timestamp,
}

/// The state of a message that is being cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancellationState {
    /// The message has ended with this status.
    Ended(MessageStatus),
    /// The message waits in the database again.
    Waits,
    /// An attempt is in flight.
    InFlight,
    /// No new attempt can begin: the next claim cancels the message.
    SetAside,
    /// The node that holds the message has not responded.
    Unanswered,
}

/// Requests the cancellation of the messages that a node holds, and returns their ids. Called after
/// [`super::end_waiting`], in its transaction. With `holds`, an attempt in flight is the last one.
///
/// # Errors
/// Database errors.
pub fn note(c: &mut AnyConnection, ids: &[MessageId], holds: bool, now: Timestamp) -> Result<Vec<MessageId>> {
    let states = came(c, ids)?;
    let in_hand: Vec<MessageId> = ids
        .iter()
        .filter(|id| !matches!(states.get(id), None | Some(CancellationState::Ended(_))))
        .copied()
        .collect();
    let held: Vec<MessageId> = cancellation::table
        .filter(cancellation::message_id.eq_any(&in_hand))
        .filter(cancellation::holds)
        .select(cancellation::message_id)
        .load(c)?;
    forget(c, &in_hand)?;
    let row = |id: &MessageId| CancellationRow {
        message_id: *id,
        holds: holds || held.contains(id),
        in_flight: None,
        asked_at: now,
    };
    let rows: Vec<CancellationRow> = in_hand.iter().map(row).collect();
    insert(c, &rows)?;
    failpoint::reach("cancellation-before-commit");
    Ok(in_hand)
}

fn insert(c: &mut AnyConnection, rows: &[CancellationRow]) -> Result<()> {
    insert_rows!(c, cancellation::table, rows)
}

/// Returns the messages whose cancellation was requested and not yet acknowledged by a node. The value is true if the
/// request also holds for a message whose attempt is in flight.
///
/// # Errors
/// Database errors.
pub fn asked(c: &mut AnyConnection) -> Result<HashMap<MessageId, bool>> {
    let rows: Vec<(MessageId, bool)> = cancellation::table
        .filter(cancellation::in_flight.is_null())
        .select((cancellation::message_id, cancellation::holds))
        .load(c)?;
    Ok(rows.into_iter().collect())
}

/// Acknowledges the cancellation of the messages that are members of this node's leases. Attempts at those in
/// `in_flight` are in flight; no new attempt at the others can begin.
///
/// # Errors
/// Database errors.
pub fn answer(
    c: &mut AnyConnection,
    node: NodeId,
    ids: &HashSet<MessageId>,
    in_flight: &[MessageId],
) -> Result<()> {
    let held = members_held_by(c, node)?;
    let aside: Vec<MessageId> =
        held.into_iter().filter(|id| ids.contains(id) && !in_flight.contains(id)).collect();
    for (ids, is_in_flight) in [(in_flight, true), (&aside, false)] {
        if !ids.is_empty() {
            diesel::update(cancellation::table.filter(cancellation::message_id.eq_any(ids)))
                .set(cancellation::in_flight.eq(Some(is_in_flight)))
                .execute(c)?;
        }
    }
    Ok(())
}

/// Returns those of these messages, which were just claimed, whose cancellation was requested.
///
/// # Errors
/// Database errors.
pub fn among(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
    // usually the table is empty
    if !any(c)? {
        return Ok(HashSet::new());
    }
    let found = cancellation::table.filter(cancellation::message_id.eq_any(ids));
    let found: Vec<MessageId> = found.select(cancellation::message_id).load(c)?;
    Ok(found.into_iter().collect())
}

/// Returns true if there is a cancellation request.
///
/// # Errors
/// Database errors.
pub fn any(c: &mut AnyConnection) -> Result<bool> {
    let first: Option<MessageId> =
        cancellation::table.select(cancellation::message_id).limit(1).first(c).optional()?;
    Ok(first.is_some())
}

/// Returns the state of each of these messages that exist.
///
/// # Errors
/// Database errors.
pub fn came(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, CancellationState>> {
    let rows: Vec<(MessageId, i16, Option<MessageId>, Option<bool>)> = message::table
        .left_join(due::table.on(due::message_id.eq(message::id)))
        .left_join(cancellation::table.on(cancellation::message_id.eq(message::id)))
        .filter(message::id.eq_any(ids))
        .select((
            message::id,
            message::status,
            due::message_id.nullable(),
            cancellation::in_flight.nullable(),
        ))
        .load(c)?;
    rows.into_iter()
        .map(|(id, status, waits, in_flight)| {
            let came = match (MessageStatus::from_code(status)?, waits, in_flight) {
                (MessageStatus::Queued | MessageStatus::Sending, Some(_), _) => CancellationState::Waits,
                (MessageStatus::Queued | MessageStatus::Sending, None, Some(true)) => {
                    CancellationState::InFlight
                }
                (MessageStatus::Queued | MessageStatus::Sending, None, Some(false)) => {
                    CancellationState::SetAside
                }
                (MessageStatus::Queued | MessageStatus::Sending, None, None) => CancellationState::Unanswered,
                (
                    status @ (MessageStatus::Sent
                    | MessageStatus::Failed
                    | MessageStatus::Expired
                    | MessageStatus::Cancelled),
                    _,
                    _,
                ) => CancellationState::Ended(status),
            };
            Ok((id, came))
        })
        .collect()
}

/// Closes the cancellation of these messages. The requests for ended messages are deleted, and so are those for
/// messages in flight, unless `holds`. Requests for messages that were set aside hold from now on. Returns the state of
/// each message.
///
/// # Errors
/// Database errors.
pub fn close(
    c: &mut AnyConnection,
    ids: &[MessageId],
    holds: bool,
) -> Result<HashMap<MessageId, CancellationState>> {
    let states = came(c, ids)?;
    let of = |wanted: &dyn Fn(CancellationState) -> bool| -> Vec<MessageId> {
        states.iter().filter(|(_, came)| wanted(**came)).map(|(id, _)| *id).collect()
    };
    let over = of(&|came| {
        matches!(came, CancellationState::Ended(_)) || (came == CancellationState::InFlight && !holds)
    });
    forget(c, &over)?;
    let aside = of(&|came| came == CancellationState::SetAside);
    if !aside.is_empty() {
        diesel::update(cancellation::table.filter(cancellation::message_id.eq_any(&aside)))
            .set(cancellation::holds.eq(true))
            .execute(c)?;
    }
    Ok(states)
}

/// Deletes the requests for these messages.
///
/// # Errors
/// Database errors.
pub fn forget(c: &mut AnyConnection, ids: &[MessageId]) -> Result<()> {
    if !ids.is_empty() {
        diesel::delete(cancellation::table.filter(cancellation::message_id.eq_any(ids))).execute(c)?;
    }
    Ok(())
}

/// Deletes the requests for messages that have ended.
///
/// # Errors
/// Database errors.
pub fn forget_ended(c: &mut AnyConnection) -> Result<()> {
    let is_queued = message::table
        .filter(message::id.eq(cancellation::message_id))
        .filter(message::status.eq(MessageStatus::Queued.code()));
    diesel::delete(cancellation::table.filter(diesel::dsl::not(diesel::dsl::exists(is_queued))))
        .execute(c)?;
    Ok(())
}
