//! Reads the checker's evidence from the tables, for tests and for programs.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use fanfare::clients::model::more_of_stored;
use fanfare::db::schema::{attempt, client, dead_letter, due, mailing, message, page, replayed};
use fanfare::db::types::{ClientId, MailingId, MessageId, Timestamp};
use fanfare::db::{AnyConnection, Db, DbOptions};
use fanfare::error::{Error, Result};
use fanfare::kinds::MessageStatus;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingStatus;

use super::checker::{Attempt, Evidence, Interruption, Limits, Mailing, Message, Person, Replayed, Request};

/// The longest wait without progress, and the pause between two polls.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// Opens the database while the service uses it.
///
/// # Errors
/// When [`Db::open`] fails.
pub async fn open(url: &str) -> Result<Db> {
    let options = DbOptions { pool_size: 1, ..DbOptions::new(url) };
    tokio::task::spawn_blocking(|| Db::open(options)).await.map_err(|e| Error::Internal(e.into()))?
}

/// The unfinished work of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Left {
    /// Messages that are not final. They never become final when the two other counts are 0.
    #[diesel(sql_type = BigInt)]
    pub messages: i64,
    /// Messages that wait for their time.
    #[diesel(sql_type = BigInt)]
    pub due: i64,
    /// Leases of messages.
    #[diesel(sql_type = BigInt)]
    pub leases: i64,
}

/// Reads the unfinished work in one statement, and so from one snapshot. Several statements would miss a message that
/// moves from a dead node's lease back to the waiting messages.
const LEFT: &str = "SELECT (SELECT count(*) FROM message WHERE finished_at IS NULL) AS messages, \
    (SELECT count(*) FROM due) AS due, (SELECT count(*) FROM page) AS leases";

/// Waits until every message is final, and no message is waiting or in flight.
pub async fn all_final(url: &str) {
    let db = open(url).await.expect("a database");
    let (mut seen, mut since) = (None, Instant::now());
    loop {
        let look = db.read(|c| Ok(diesel::sql_query(LEFT).get_result::<Left>(c)?));
        let left = look.await.expect("the work that is left");
        if left == (Left { messages: 0, due: 0, leases: 0 }) {
            return;
        }
        if seen != Some(left) {
            (seen, since) = (Some(left), Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "no progress; last seen: {left:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads all facts about a mailing.
///
/// # Errors
/// When the database fails.
pub fn read(
    c: &mut AnyConnection,
    id: MailingId,
    requests: Vec<Request>,
    interruptions: Vec<Interruption>,
    limits: Limits,
) -> Result<Evidence> {
    Ok(Evidence {
        requests,
        audience: audience(c, id)?,
        mailing: mailing(c, id)?,
        messages: messages(c, id)?,
        attempts: attempts(c, id)?,
        replays: replays(c, id)?,
        dead_letters: dead_letters(c, id)?,
        left_over: left_over(c, id)?,
        interruptions,
        limits,
    })
}

/// The fields of a client that a filter uses: id, phone number, operator code, key of the first tag, further tags.
type ClientFields = (ClientId, i64, Option<String>, Option<String>, Option<String>);

/// Returns the clients that match the stored filter. It reads all clients and does not use the service's queries.
fn audience(c: &mut AnyConnection, id: MailingId) -> Result<Vec<Person>> {
    let (filter, upper_bound): (String, Option<ClientId>) =
        mailing::table.find(id).select((mailing::filter, mailing::upper_bound)).first(c)?;
    let filter: AudienceFilter = serde_json::from_str(&filter).map_err(|e| Error::Internal(e.into()))?;
    let (codes, wanted) = (&filter.mobile_operator_code, filter.keys());
    let rows: Vec<ClientFields> = client::table
        .filter(client::phone_number.is_not_null())
        .select((
            client::id,
            client::phone_number.assume_not_null(),
            client::mobile_operator_code,
            client::tag_key,
            client::more_tags,
        ))
        .load(c)?;
    // ids grow with time, so a client created after the start is not in the audience
    let rows = rows.into_iter().filter(|(id, _, code, key, more)| {
        let mut keys =
            key.iter().cloned().chain(more_of_stored(more.as_deref()).into_iter().map(|(key, _)| key));
        upper_bound.is_some_and(|last| *id <= last)
            && (codes.is_empty() || code.as_ref().is_some_and(|code| codes.contains(code)))
            && (wanted.is_empty() || keys.any(|key| wanted.contains(&key)))
    });
    Ok(rows
        .map(|(id, phone, ..)| Person { id: id.to_string(), phone: phone.try_into().unwrap_or_default() })
        .collect())
}

fn mailing(c: &mut AnyConnection, id: MailingId) -> Result<Mailing> {
    let (starts_at, ends_at, status, is_settled): (Timestamp, Timestamp, i16, bool) = mailing::table
        .find(id)
        .select((mailing::starts_at, mailing::ends_at, mailing::status, mailing::settled))
        .first(c)?;
    let (total, sent, failed, expired, cancelled): (i64, i64, i64, i64, i64) = mailing::table
        .find(id)
        .select((mailing::total, mailing::sent, mailing::failed, mailing::expired, mailing::cancelled))
        .first(c)?;
    Ok(Mailing {
        window: (starts_at.micros(), ends_at.micros()),
        is_cancelled: MailingStatus::from_code(status)? == MailingStatus::Cancelled,
        is_settled,
        total,
        counts: [sent, failed, expired, cancelled],
    })
}

type MessageRow = (MessageId, Option<ClientId>, String, i16, i16, Option<Timestamp>);

fn messages(c: &mut AnyConnection, id: MailingId) -> Result<Vec<Message>> {
    let number: i32 = mailing::table.find(id).select(mailing::number).first(c)?;
    let rows: Vec<MessageRow> = message::table
        .filter(message::mailing_number.eq(number))
        .select((
            message::id,
            message::client_id,
            message::recipient,
            message::status,
            message::attempts,
            message::finished_at,
        ))
        .load(c)?;
    rows.into_iter()
        .map(|(id, client, recipient, status, attempts, finished_at)| {
            Ok(Message {
                id: id.to_string(),
                client: client.map(|id| id.to_string()),
                phone: recipient.parse().ok(),
                status: MessageStatus::from_code(status)?,
                attempts: usize::try_from(attempts).unwrap_or_default(),
                finished_at: finished_at.map(Timestamp::micros),
            })
        })
        .collect()
}

fn attempts(c: &mut AnyConnection, id: MailingId) -> Result<Vec<Attempt>> {
    let number: i32 = mailing::table.find(id).select(mailing::number).first(c)?;
    let rows: Vec<(MessageId, i16, Timestamp)> = attempt::table
        .inner_join(message::table.on(message::id.eq(attempt::message_id)))
        .filter(message::mailing_number.eq(number))
        .select((attempt::message_id, attempt::number, attempt::at))
        .load(c)?;
    let rows = rows.into_iter().map(|(message, number, at)| Attempt {
        message: message.to_string(),
        number: usize::try_from(number).unwrap_or_default(),
        at: at.micros(),
    });
    Ok(rows.collect())
}

fn replays(c: &mut AnyConnection, id: MailingId) -> Result<Vec<Replayed>> {
    let number: i32 = mailing::table.find(id).select(mailing::number).first(c)?;
    let rows: Vec<(MessageId, i16)> = replayed::table
        .inner_join(message::table.on(message::id.eq(replayed::message_id)))
        .filter(message::mailing_number.eq(number))
        .select((replayed::message_id, replayed::attempts))
        .load(c)?;
    let rows = rows.into_iter().map(|(message, attempts)| Replayed {
        message: message.to_string(),
        attempts: usize::try_from(attempts).unwrap_or_default(),
    });
    Ok(rows.collect())
}

fn dead_letters(c: &mut AnyConnection, id: MailingId) -> Result<Vec<String>> {
    let rows: Vec<MessageId> =
        dead_letter::table.filter(dead_letter::mailing_id.eq(id)).select(dead_letter::id).load(c)?;
    Ok(rows.iter().map(MessageId::to_string).collect())
}

fn left_over(c: &mut AnyConnection, id: MailingId) -> Result<usize> {
    let pages: i64 = page::table.filter(page::mailing_id.eq(id)).count().get_result(c)?;
    let waiting: i64 = due::table.filter(due::mailing_id.eq(id)).count().get_result(c)?;
    Ok(usize::try_from(pages + waiting).unwrap_or(usize::MAX))
}
