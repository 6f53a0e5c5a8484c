//! Replaying letters: the messages wait again, or are refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use diesel::prelude::*;

use super::hold;
use crate::db::AnyConnection;
use crate::db::schema::{dead_letter, message, notification};
use crate::db::types::{BatchId, ClientId, MailingId, MessageId, ReplayId, Timestamp};
use crate::dead_letters::model::{DeadLetter, Refusal};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, ErrorClass, MessageStatus, NotificationStatus};
use crate::live::Change;
use crate::mailings;
use crate::mailings::model::MailingStatus;
use crate::mailings::repo::audience::{self, Needs};
use crate::messages::repo::replayed::{self, ReplayedRow};
use crate::messages::repo::{DueRow, MessageRow, cancellation, insert_due};

/// What came of replaying.
#[derive(Debug, Default)]
pub struct Done {
    /// The messages that wait again, with their channels.
    pub replayed: Vec<(MessageId, ChannelKind)>,
    /// Those that stay, and why.
    pub refused: Vec<(MessageId, Refusal)>,
    /// What there is to tell of notifications.
    pub changes: Vec<Change>,
    /// Whether there are mailings' messages among them.
    pub has_mailings: bool,
}

/// Replays letters of messages. One that somebody else replayed or dropped meanwhile is in neither list.
///
/// Whoever deletes the letter has it: however many ask, a message is replayed once. Mailings are locked first and in the
/// order of their ids, as everywhere.
///
/// # Errors
/// Those of the database.
pub fn replay(
    c: &mut AnyConnection,
    letters: &[DeadLetter],
    replay: Option<ReplayId>,
    now: Timestamp,
) -> Result<Done> {
    let refusals = mailings_that_refuse(c, letters, now)?;
    let held: HashSet<MessageId> =
        hold(c, &letters.iter().map(|letter| letter.id).collect::<Vec<_>>())?.into_iter().collect();
    let letters: HashMap<MessageId, &DeadLetter> =
        letters.iter().filter(|l| held.contains(&l.id)).map(|letter| (letter.id, letter)).collect();
    let mut rows: Vec<MessageRow> = message::table
        .filter(message::id.eq_any(letters.keys()))
        .filter(message::status.eq(MessageStatus::Failed.code()))
        .order(message::id)
        .select(MessageRow::as_select())
        .load(c)?;
    let addresses = addresses(c, &letters, &rows)?;
    let mut done = Done::default();
    rows.retain(|row| {
        let letter = letters.get(&row.id);
        let of_mailing = letter.and_then(|letter| refusals.get(&letter.mailing_id?).copied());
        let is_unreachable = letter.is_some_and(|letter| letter.class == ErrorClass::Unreachable);
        let refusal = if row.expires_at.is_some_and(|end| end <= now) {
            Some(Refusal::Expired)
        } else if is_unreachable && !addresses.contains_key(&row.id) {
            Some(Refusal::Unreachable)
        } else {
            of_mailing
        };
        done.refused.extend(refusal.map(|why| (row.id, why)));
        refusal.is_none()
    });
    requeue(c, &rows, &letters, now)?;
    for (id, address) in addresses {
        diesel::update(message::table.find(id)).set(message::recipient.eq(address)).execute(c)?;
    }
    note(c, &rows, replay, now)?;
    let books = rows.iter().filter_map(|row| letters.get(&row.id)?.mailing_id);
    let mut reopened: BTreeMap<MailingId, i64> = BTreeMap::new();
    books.for_each(|id| *reopened.entry(id).or_default() += 1);
    for (id, count) in &reopened {
        mailings::repo::take_back_failed(c, *id, *count, now)?;
    }
    done.has_mailings = !reopened.is_empty();
    done.changes = touch_notifications(c, &rows, now)?;
    for row in &rows {
        done.replayed.push((row.id, ChannelKind::from_code(row.channel)?));
    }
    failpoint::reach("replay-before-commit");
    Ok(done)
}

/// Holds the letters' mailings; answers those of which nothing may be sent.
fn mailings_that_refuse(
    c: &mut AnyConnection,
    letters: &[DeadLetter],
    now: Timestamp,
) -> Result<HashMap<MailingId, Refusal>> {
    let ids: BTreeSet<MailingId> = letters.iter().filter_map(|letter| letter.mailing_id).collect();
    let mut refusals = HashMap::new();
    for id in ids {
        mailings::repo::lock(c, id)?;
        match mailings::repo::standing(c, id)? {
            Some((MailingStatus::Cancelled, _)) | None => {
                refusals.insert(id, Refusal::Cancelled);
            }
            Some((_, ends_at)) if ends_at <= now => {
                refusals.insert(id, Refusal::WindowClosed);
            }
            Some(_) => {}
        }
    }
    Ok(refusals)
}

/// Where those are reached by now whose clients had no address.
fn addresses(
    c: &mut AnyConnection,
    letters: &HashMap<MessageId, &DeadLetter>,
    rows: &[MessageRow],
) -> Result<HashMap<MessageId, String>> {
    let is_unreachable = |row: &&MessageRow| {
        letters.get(&row.id).is_some_and(|letter| letter.class == ErrorClass::Unreachable)
    };
    let mut by_channel: BTreeMap<ChannelKind, HashMap<ClientId, Vec<MessageId>>> = BTreeMap::new();
    for row in rows.iter().filter(is_unreachable) {
        let Some(client) = row.client_id else { continue };
        let of_channel = by_channel.entry(ChannelKind::from_code(row.channel)?).or_default();
        of_channel.entry(client).or_default().push(row.id);
    }
    let mut found = HashMap::new();
    for (channel, messages) in by_channel {
        let clients: Vec<ClientId> = messages.keys().copied().collect();
        for recipient in audience::by_ids(c, &clients, Needs::of(channel))? {
            let Ok(address) = recipient.address(channel) else { continue };
            let of_client = messages.get(&recipient.client_id).into_iter().flatten();
            found.extend(of_client.map(|id| (*id, address.clone())));
        }
    }
    Ok(found)
}

/// The messages wait again, and their letters go.
fn requeue(
    c: &mut AnyConnection,
    rows: &[MessageRow],
    letters: &HashMap<MessageId, &DeadLetter>,
    now: Timestamp,
) -> Result<()> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    diesel::delete(dead_letter::table.filter(dead_letter::id.eq_any(&ids))).execute(c)?;
    // why the last attempt failed stays until the next one
    diesel::update(message::table.filter(message::id.eq_any(&ids)))
        .set((
            message::status.eq(MessageStatus::Queued.code()),
            message::revision.eq(message::revision + 1_i16),
            message::due_at.eq(Some(now)),
            message::finished_at.eq(None::<Timestamp>),
        ))
        .execute(c)?;
    let mailing = |row: &MessageRow| letters.get(&row.id).and_then(|letter| letter.mailing_id);
    let due: Vec<DueRow> = rows.iter().map(|row| DueRow::of(row, mailing(row), now)).collect();
    insert_due(c, &due)
}

/// Notes who was replayed, and how many attempts had been made: their schedules begin anew behind them.
fn note(c: &mut AnyConnection, rows: &[MessageRow], replay: Option<ReplayId>, now: Timestamp) -> Result<()> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    // a cancellation that came too late for the attempt that failed is not one of what is replayed
    cancellation::forget(c, &ids)?;
    let mut before: HashMap<MessageId, i16> = HashMap::new();
    for row in replayed::of_each(c, &ids)? {
        let last = before.entry(row.message_id).or_default();
        *last = row.number.max(*last);
    }
    let notes: Vec<ReplayedRow> = rows
        .iter()
        .map(|row| ReplayedRow {
            message_id: row.id,
            number: before.get(&row.id).copied().unwrap_or_default().saturating_add(1),
            at: now,
            attempts: row.attempts,
            replay_id: replay,
        })
        .collect();
    replayed::insert(c, &notes)
}

/// Notifications were changed by it, and whoever watches is told.
fn touch_notifications(c: &mut AnyConnection, rows: &[MessageRow], now: Timestamp) -> Result<Vec<Change>> {
    // nobody watches requests
    let is_notification =
        |row: &&MessageRow| row.mailing_number.is_none() && row.channel != ChannelKind::Request.code();
    let singles: Vec<&MessageRow> = rows.iter().filter(is_notification).collect();
    if singles.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<MessageId> = singles.iter().map(|row| row.id).collect();
    let of_them = notification::table.filter(notification::message_id.eq_any(&ids));
    diesel::update(of_them.clone()).set(notification::updated_at.eq(now)).execute(c)?;
    let batches: HashMap<MessageId, Option<BatchId>> = of_them
        .select((notification::message_id, notification::batch_id))
        .load::<(MessageId, Option<BatchId>)>(c)?
        .into_iter()
        .collect();
    let change = |row: &&MessageRow| {
        Ok(Change {
            id: row.id,
            batch: batches.get(&row.id).copied().flatten(),
            channel: ChannelKind::from_code(row.channel)?,
            status: NotificationStatus::Queued,
            attempts: row.attempts,
            at: now,
        })
    };
    singles.iter().map(change).collect()
}
