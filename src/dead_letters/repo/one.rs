//! Replays given dead letters: their messages are queued again, or refused.

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
use crate::mailings::repo::audience::{self, ClientFields};
use crate::messages::repo::replayed::{self, ReplayedRow};
use crate::messages::repo::{DueRow, MessageRow, cancellation, insert_due};

/// The result of replaying dead letters.
#[derive(Debug, Default)]
pub struct ReplayOutcome {
    /// The messages that are queued again, with their channels.
    pub replayed: Vec<(MessageId, ChannelKind)>,
    /// The dead letters that remain, with the reasons.
    pub refused: Vec<(MessageId, Refusal)>,
    /// The status changes of notifications, to publish after the commit.
    pub changes: Vec<Change>,
    /// True if a replayed message belongs to a mailing.
    pub has_mailings: bool,
}

/// Replays dead letters of messages. A dead letter that was replayed or dropped concurrently is in neither list.
///
/// The transaction that deletes the dead letter replays it, so that concurrent calls replay a message once. Mailings
/// are locked first and in the order of their ids, as in all transactions.
///
/// # Errors
/// Database errors.
pub fn replay(
    c: &mut AnyConnection,
    letters: &[DeadLetter],
    replay: Option<ReplayId>,
    now: Timestamp,
) -> Result<ReplayOutcome> {
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
    let mut done = ReplayOutcome::default();
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

/// Locks the mailings of the dead letters, and returns those whose messages must not be sent.
fn mailings_that_refuse(
    c: &mut AnyConnection,
    letters: &[DeadLetter],
    now: Timestamp,
) -> Result<HashMap<MailingId, Refusal>> {
    let ids: BTreeSet<MailingId> = letters.iter().filter_map(|letter| letter.mailing_id).collect();
    let mut refusals = HashMap::new();
    for id in ids {
        mailings::repo::lock(c, id)?;
        match mailings::repo::status_and_end(c, id)? {
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

/// Returns the addresses of messages whose clients had none when they failed, and have one now.
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
        for recipient in audience::by_ids(c, &clients, ClientFields::of(channel))? {
            let Ok(address) = recipient.address(channel) else { continue };
            let of_client = messages.get(&recipient.client_id).into_iter().flatten();
            found.extend(of_client.map(|id| (*id, address.clone())));
        }
    }
    Ok(found)
}

/// Queues the messages again, and deletes their dead letters.
fn requeue(
    c: &mut AnyConnection,
    rows: &[MessageRow],
    letters: &HashMap<MessageId, &DeadLetter>,
    now: Timestamp,
) -> Result<()> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    diesel::delete(dead_letter::table.filter(dead_letter::id.eq_any(&ids))).execute(c)?;
    // the error of the last attempt stays until the next one
    diesel::update(message::table.filter(message::id.eq_any(&ids)))
        .set((
            message::status.eq(MessageStatus::Queued.code()),
            message::revision.eq(message::revision + 1_i16),
            message::due_at.eq(Some(now)),
            message::finished_at.eq(None::<Timestamp>),
        ))
        .execute(c)?;
    let mailing = |row: &MessageRow| letters.get(&row.id).and_then(|letter| letter.mailing_id);
    let due: Vec<DueRow> = rows.iter().map(|row| DueRow::new(row, mailing(row), now)).collect();
    insert_due(c, &due)
}

/// Records the replays and the number of attempts so far, after which each schedule of retries starts again.
fn note(c: &mut AnyConnection, rows: &[MessageRow], replay: Option<ReplayId>, now: Timestamp) -> Result<()> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    // a cancellation that came too late for the failed attempt does not apply to the replay
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

/// Updates the times of the replayed notifications, and returns their status changes.
fn touch_notifications(c: &mut AnyConnection, rows: &[MessageRow], now: Timestamp) -> Result<Vec<Change>> {
    // changes of requests are not published
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
