//! Records outcomes: one group commit for many messages of several leases and mailings.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::delete_leases;
use crate::db::schema::{attempt, client, dead_letter, mailing, notification, page};
use crate::db::types::{ClientId, EventId, LeaseId, MailingId, MessageId, NodeId, Timestamp};
use crate::db::{AnyConnection, insert_rows};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, ClientAddress, ErrorClass, MessageStatus, OutcomeKind};
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_messages, update_messages};
use crate::requests;
use crate::requests::repo::RequestResult;

/// A message after its outcome, with its lease.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The lease, which is the fence.
    pub lease: LeaseId,
    /// The mailing of the message and the lease.
    pub mailing: Option<MailingId>,
    /// The new row; its revision is one more than before.
    pub row: MessageRow,
    /// The kind of outcome.
    pub outcome: OutcomeKind,
    /// The time of the outcome.
    pub at: Timestamp,
    /// True if there was an attempt, unlike for a message that expired in a lane, or whose text could not be rendered.
    pub tried: bool,
    /// The class of the error, if it failed.
    pub class: Option<ErrorClass>,
    /// The event that caused the message.
    pub event: Option<EventId>,
    /// The stored details of a request's attempt.
    pub ran: Option<RequestResult>,
}

/// The result of recording outcomes.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The messages that were recorded by this call.
    pub messages: HashSet<MessageId>,
    /// The leases that another node holds; their outcomes were not recorded.
    pub lost: Vec<LeaseId>,
    /// The number of new reports of requests' results.
    pub reports: usize,
}

/// Records outcomes: messages, attempts, due retries, dead letters, the number of messages that each lease still holds,
/// and the mailings' counts.
///
/// Recording is idempotent, because a commit whose response was lost may be repeated. It writes no outcome of a lease
/// that this node does not hold any more.
///
/// # Errors
/// Database errors.
pub fn record(c: &mut AnyConnection, node: NodeId, entries: &[Entry]) -> Result<Recorded> {
    let leases: HashSet<LeaseId> = entries.iter().map(|entry| entry.lease).collect();
    let held = lock_held_leases(c, node, &leases)?;
    let lost = leases.iter().filter(|id| !held.contains(id)).copied().collect();
    let entries: Vec<&Entry> = entries.iter().filter(|entry| held.contains(&entry.lease)).collect();

    let (new, known): (Vec<&MessageRow>, Vec<&MessageRow>) =
        entries.iter().map(|entry| &entry.row).partition(|row| row.revision == 1);
    let mut messages = insert_messages(c, &new)?;
    messages.extend(update_messages(c, &known)?);
    let entries: Vec<&Entry> = entries.into_iter().filter(|entry| messages.contains(&entry.row.id)).collect();

    write_attempts(c, &entries)?;
    write_due(c, &entries)?;
    touch_notifications(c, &entries)?;
    write_dead_letters(c, &entries)?;
    take_dead_tokens(c, &entries)?;
    let reports = write_requests(c, &entries)?;
    subtract_from_leases(c, &entries)?;
    add_to_counts(c, &entries)?;
    failpoint::reach("record-before-commit");
    Ok(Recorded { messages, lost, reports })
}

/// Checks the fence: returns the leases that this node still holds, locked until the transaction ends.
fn lock_held_leases(
    c: &mut AnyConnection,
    node: NodeId,
    leases: &HashSet<LeaseId>,
) -> Result<HashSet<LeaseId>> {
    match c {
        AnyConnection::Postgres(c) => {
            let held: Vec<LeaseId> = page::table
                .filter(page::id.eq_any(leases.iter().copied().collect::<Vec<_>>()))
                .filter(page::node_id.eq(node))
                .select(page::id)
                .order(page::id)
                .for_update()
                .load(c)?;
            Ok(held.into_iter().collect())
        }
        // one by one, as a prepared statement: a statement with a list is prepared each time
        AnyConnection::Sqlite(c) => {
            let mut held = HashSet::with_capacity(leases.len());
            for id in leases {
                let holder = page::table.find(*id).select(page::node_id).first(c).optional()?;
                if holder == Some(Some(node)) {
                    held.insert(*id);
                }
            }
            Ok(held)
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = attempt, treat_none_as_default_value = false)]
struct AttemptRow {
    message_id: MessageId,
    number: i16,
    at: Timestamp,
    outcome: i16,
    status_code: Option<i32>,
    duration_ms: i32,
    error: Option<String>,
}

/// Writes the attempts that did not deliver; the delivering attempt is stored in the message.
fn write_attempts(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let rows: Vec<AttemptRow> = entries
        .iter()
        .filter(|entry| entry.tried && entry.outcome != OutcomeKind::Delivered)
        .map(|entry| AttemptRow {
            message_id: entry.row.id,
            number: entry.row.attempts,
            at: entry.at,
            outcome: entry.outcome.code(),
            status_code: entry.row.status_code.map(i32::from),
            duration_ms: entry.row.duration_ms.unwrap_or_default(),
            error: entry.row.error.clone(),
        })
        .collect();
    insert_rows!(c, attempt::table, &rows)
}

fn write_due(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let rows: Vec<DueRow> = entries
        .iter()
        .filter(|entry| entry.row.status == MessageStatus::Queued.code())
        .filter_map(|entry| Some(DueRow::new(&entry.row, entry.mailing, entry.row.due_at?)))
        .collect();
    insert_due(c, &rows)
}

#[derive(Insertable)]
#[diesel(table_name = dead_letter, treat_none_as_default_value = false)]
struct DeadLetterRow {
    id: MessageId,
    mailing_id: Option<MailingId>,
    channel: Option<i16>,
    class: i16,
    failed_at: Timestamp,
    event_id: Option<EventId>,
    error: String,
}

fn write_dead_letters(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let rows: Vec<DeadLetterRow> = entries
        .iter()
        .filter(|entry| entry.row.status == MessageStatus::Failed.code())
        .map(|entry| DeadLetterRow {
            id: entry.row.id,
            mailing_id: entry.mailing,
            channel: Some(entry.row.channel),
            class: entry.class.unwrap_or(ErrorClass::Rejected).code(),
            failed_at: entry.at,
            event_id: entry.event,
            error: entry.row.error.clone().unwrap_or_default(),
        })
        .collect();
    insert_rows!(c, dead_letter::table, &rows)
}

/// Removes the push tokens that the provider reported as gone, unless the client has another token by now. It locks in
/// the order of the clients' ids, so that two nodes never deadlock.
fn take_dead_tokens(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let is_token = |code: i16| {
        ChannelKind::from_code(code).is_ok_and(|kind| kind.spec().client == ClientAddress::PushToken)
    };
    let is_dead = |e: &&Entry| e.class == Some(ErrorClass::Gone) && is_token(e.row.channel);
    let dead = entries.iter().copied().filter(is_dead);
    let mut dead: Vec<(ClientId, &Entry)> = dead.filter_map(|e| Some((e.row.client_id?, e))).collect();
    dead.sort_by_key(|(id, _)| *id);
    for (id, entry) in dead {
        diesel::update(client::table.find(id).filter(client::push_token.eq(&entry.row.recipient)))
            .set((client::push_token.eq(None::<String>), client::updated_at.eq(entry.at)))
            .execute(c)?;
    }
    Ok(())
}

/// Updates `updated_at` of the notifications that wait for a retry. For ended notifications, the end is the last
/// change.
fn touch_notifications(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let waits = |entry: &&&Entry| {
        let is_notification = entry.mailing.is_none() && entry.row.channel != ChannelKind::Request.code();
        is_notification && entry.outcome == OutcomeKind::Retry
    };
    for entry in entries.iter().filter(waits) {
        diesel::update(notification::table.find(entry.row.id))
            .set(notification::updated_at.eq(entry.at))
            .execute(c)?;
    }
    Ok(())
}

/// Stores the responses to requests, and queues the reports of ended requests. Returns the number of reports.
fn write_requests(c: &mut AnyConnection, entries: &[&Entry]) -> Result<usize> {
    let of_requests = entries.iter().filter(|entry| entry.row.channel == ChannelKind::Request.code());
    let ran = of_requests.clone().filter_map(|entry| Some((entry.row.id, entry.ran.as_ref()?, entry.at)));
    requests::repo::record_attempts(c, &ran.collect::<Vec<_>>())?;
    let ended = of_requests.filter(|entry| entry.row.status != MessageStatus::Queued.code());
    let ended: Vec<_> = ended.map(|entry| (&entry.row, entry.at)).collect();
    requests::repo::report(c, &ended)
}

/// Subtracts the recorded outcomes from the leases, and deletes the leases without remaining messages.
fn subtract_from_leases(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let mut recorded: HashMap<LeaseId, i32> = HashMap::new();
    entries.iter().for_each(|entry| *recorded.entry(entry.lease).or_default() += 1);
    let mut done = Vec::new();
    for (id, count) in recorded {
        let remaining: i32 = diesel::update(page::table.find(id))
            .set(page::remaining.eq(page::remaining - count))
            .returning(page::remaining)
            .get_result(c)?;
        if remaining <= 0 {
            done.push(id);
        }
    }
    delete_leases(c, &done)
}

/// Adds the outcomes to the mailings' counts, in the order of the mailings' ids, so that two nodes never deadlock.
fn add_to_counts(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let mut books: std::collections::BTreeMap<MailingId, [i64; 4]> = std::collections::BTreeMap::new();
    for entry in entries {
        let Some(id) = entry.mailing else { continue };
        let [sent, failed, expired, cancelled] = books.entry(id).or_default();
        match MessageStatus::from_code(entry.row.status)? {
            MessageStatus::Sent => *sent += 1,
            MessageStatus::Failed => *failed += 1,
            MessageStatus::Expired => *expired += 1,
            MessageStatus::Cancelled => *cancelled += 1,
            MessageStatus::Queued | MessageStatus::Sending => {}
        }
    }
    for (id, [sent, failed, expired, cancelled]) in books {
        diesel::update(mailing::table.find(id))
            .set((
                mailing::sent.eq(mailing::sent + sent),
                mailing::failed.eq(mailing::failed + failed),
                mailing::expired.eq(mailing::expired + expired),
                mailing::cancelled.eq(mailing::cancelled + cancelled),
            ))
            .execute(c)?;
    }
    Ok(())
}
