//! Cancellations of messages that a node has in hand: noted here, answered by that node, and heeded by whoever claims one
//! that waits again.

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
pub enum Came {
    /// It has ended, as this.
    Ended(MessageStatus),
    /// It waits in the database again.
    Waits,
    /// An attempt is in flight.
    InFlight,
    /// No attempt can begin any more: who claims it cancels it.
    SetAside,
    /// The node that has it has not answered.
    Unanswered,
}

/// Notes that those of these messages that a node has in hand are to be cancelled; answers which. Called after
/// [`super::end_waiting`], in its transaction. With `holds` an attempt that is in flight is the last.
///
/// # Errors
/// Those of the database.
pub fn note(c: &mut AnyConnection, ids: &[MessageId], holds: bool, now: Timestamp) -> Result<Vec<MessageId>> {
    let states = came(c, ids)?;
    let in_hand: Vec<MessageId> =
        ids.iter().filter(|id| !matches!(states.get(id), None | Some(Came::Ended(_)))).copied().collect();
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

/// The messages that are to be cancelled and of which no node has said anything yet, and whether that holds also for one
/// whose attempt is in flight.
///
/// # Errors
/// Those of the database.
pub fn asked(c: &mut AnyConnection) -> Result<HashMap<MessageId, bool>> {
    let rows: Vec<(MessageId, bool)> = cancellation::table
        .filter(cancellation::in_flight.is_null())
        .select((cancellation::message_id, cancellation::holds))
        .load(c)?;
    Ok(rows.into_iter().collect())
}

/// The answer of `node` for those of these messages that stand on its pages: an attempt at those `in_flight` is, and at the
/// others none can begin.
///
/// # Errors
/// Those of the database.
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

/// Those of these messages, which were just claimed, that are to be cancelled.
///
/// # Errors
/// Those of the database.
pub fn among(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
    // usually there is none at all
    if !any(c)? {
        return Ok(HashSet::new());
    }
    let found = cancellation::table.filter(cancellation::message_id.eq_any(ids));
    let found: Vec<MessageId> = found.select(cancellation::message_id).load(c)?;
    Ok(found.into_iter().collect())
}

/// Returns whether any is noted.
///
/// # Errors
/// Those of the database.
pub fn any(c: &mut AnyConnection) -> Result<bool> {
    let first: Option<MessageId> =
        cancellation::table.select(cancellation::message_id).limit(1).first(c).optional()?;
    Ok(first.is_some())
}

/// Returns the state of each of these messages that exist.
///
/// # Errors
/// Those of the database.
pub fn came(c: &mut AnyConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, Came>> {
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
                (MessageStatus::Queued | MessageStatus::Sending, Some(_), _) => Came::Waits,
                (MessageStatus::Queued | MessageStatus::Sending, None, Some(true)) => Came::InFlight,
                (MessageStatus::Queued | MessageStatus::Sending, None, Some(false)) => Came::SetAside,
                (MessageStatus::Queued | MessageStatus::Sending, None, None) => Came::Unanswered,
                (status, _, _) => Came::Ended(status),
            };
            Ok((id, came))
        })
        .collect()
}

/// Ends the cancelling of these messages: what has ended is forgotten, and so is what is in flight, unless it `holds`. What
/// was set aside holds from now on. Answers what came of each.
///
/// # Errors
/// Those of the database.
pub fn close(c: &mut AnyConnection, ids: &[MessageId], holds: bool) -> Result<HashMap<MessageId, Came>> {
    let states = came(c, ids)?;
    let of = |wanted: &dyn Fn(Came) -> bool| -> Vec<MessageId> {
        states.iter().filter(|(_, came)| wanted(**came)).map(|(id, _)| *id).collect()
    };
    let over = of(&|came| matches!(came, Came::Ended(_)) || (came == Came::InFlight && !holds));
    forget(c, &over)?;
    let aside = of(&|came| came == Came::SetAside);
    if !aside.is_empty() {
        diesel::update(cancellation::table.filter(cancellation::message_id.eq_any(&aside)))
            .set(cancellation::holds.eq(true))
            .execute(c)?;
    }
    Ok(states)
}

/// Forgets what was noted of these messages.
///
/// # Errors
/// Those of the database.
pub fn forget(c: &mut AnyConnection, ids: &[MessageId]) -> Result<()> {
    if !ids.is_empty() {
        diesel::delete(cancellation::table.filter(cancellation::message_id.eq_any(ids))).execute(c)?;
    }
    Ok(())
}

/// Forgets what was noted of messages that have ended.
///
/// # Errors
/// Those of the database.
pub fn forget_ended(c: &mut AnyConnection) -> Result<()> {
    let is_queued = message::table
        .filter(message::id.eq(cancellation::message_id))
        .filter(message::status.eq(MessageStatus::Queued.code()));
    diesel::delete(cancellation::table.filter(diesel::dsl::not(diesel::dsl::exists(is_queued))))
        .execute(c)?;
    Ok(())
}
