//! Recording outcomes: one group commit for many messages of several pages and mailings.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;

use super::delete_pages;
use crate::db::schema::{attempt, client, dead_letter, mailing, notification, page};
use crate::db::types::{ClientId, EventId, MailingId, MessageId, NodeId, PageId, Timestamp};
use crate::db::{AnyConnection, insert_rows};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, ErrorClass, MessageStatus, OutcomeKind};
use crate::messages::repo::{DueRow, MessageRow, insert_due, insert_messages, update_messages};
use crate::requests;
use crate::requests::repo::Ran;

/// A message as its outcome leaves it, with the page that it stood in.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The page that is the fence.
    pub page: PageId,
    /// The mailing of both.
    pub mailing: Option<MailingId>,
    /// The row to be; its revision is one more than before.
    pub row: MessageRow,
    /// What the attempt came to.
    pub outcome: OutcomeKind,
    /// When.
    pub at: Timestamp,
    /// Whether there was an attempt: not when the message expired in a lane, or its text could not be filled.
    pub tried: bool,
    /// Why it failed, if it did.
    pub class: Option<ErrorClass>,
    /// The event that caused it.
    pub event: Option<EventId>,
    /// What is kept of a request's attempt.
    pub ran: Option<Ran>,
}

/// What came of recording.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Which messages were recorded by this call.
    pub messages: HashSet<MessageId>,
    /// Pages that are another node's by now; nothing of them was recorded.
    pub lost: Vec<PageId>,
    /// Reports of requests' results that wait by now.
    pub reports: usize,
}

/// Records outcomes: messages, attempts, what is due again, dead letters, the pages' remainders and the mailings' books.
///
/// Recording the same outcome twice changes nothing: a commit whose answer was lost may be repeated. Nothing of a page
/// that this node does not hold any more is written.
///
/// # Errors
/// Those of the database.
pub fn record(c: &mut AnyConnection, node: NodeId, entries: &[Entry]) -> Result<Recorded> {
    let pages: HashSet<PageId> = entries.iter().map(|entry| entry.page).collect();
    let held = hold(c, node, &pages)?;
    let lost = pages.iter().filter(|id| !held.contains(id)).copied().collect();
    let entries: Vec<&Entry> = entries.iter().filter(|entry| held.contains(&entry.page)).collect();

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
    shrink_pages(c, &entries)?;
    add_to_books(c, &entries)?;
    failpoint::reach("record-before-commit");
    Ok(Recorded { messages, lost, reports })
}

/// The fence: those of the pages that are still this node's, held until the transaction ends.
fn hold(c: &mut AnyConnection, node: NodeId, pages: &HashSet<PageId>) -> Result<HashSet<PageId>> {
    match c {
        AnyConnection::Postgres(c) => {
            let held: Vec<PageId> = page::table
                .filter(page::id.eq_any(pages.iter().copied().collect::<Vec<_>>()))
                .filter(page::node_id.eq(node))
                .select(page::id)
                .order(page::id)
                .for_update()
                .load(c)?;
            Ok(held.into_iter().collect())
        }
        // one by one, as a prepared statement: a list is prepared anew each time
        AnyConnection::Sqlite(c) => {
            let mut held = HashSet::with_capacity(pages.len());
            for id in pages {
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

/// Attempts that did not deliver; the one that did stands in the message.
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
        .filter_map(|entry| Some(DueRow::of(&entry.row, entry.mailing, entry.row.due_at?)))
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

/// A device that is gone is no address of its client any more, unless the client has another one by now.
/// In the order of the clients' ids, so that two nodes never wait for each other.
fn take_dead_tokens(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let is_dead = |e: &&Entry| e.class == Some(ErrorClass::Gone) && e.row.channel == ChannelKind::Push.code();
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

/// A notification that waits for another attempt was changed by it; one that ended says so by its end.
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

/// What requests were answered, and the reports of those that have ended; answers how many.
fn write_requests(c: &mut AnyConnection, entries: &[&Entry]) -> Result<usize> {
    let of_requests = entries.iter().filter(|entry| entry.row.channel == ChannelKind::Request.code());
    let ran = of_requests.clone().filter_map(|entry| Some((entry.row.id, entry.ran.as_ref()?, entry.at)));
    requests::repo::ran(c, &ran.collect::<Vec<_>>())?;
    let ended = of_requests.filter(|entry| entry.row.status != MessageStatus::Queued.code());
    let ended: Vec<_> = ended.map(|entry| (&entry.row, entry.at)).collect();
    requests::repo::report(c, &ended)
}

/// A page goes with its last outcome.
fn shrink_pages(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
    let mut recorded: HashMap<PageId, i32> = HashMap::new();
    entries.iter().for_each(|entry| *recorded.entry(entry.page).or_default() += 1);
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
    delete_pages(c, &done)
}

/// In the order of the mailings' ids, so that two nodes never wait for each other.
fn add_to_books(c: &mut AnyConnection, entries: &[&Entry]) -> Result<()> {
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
