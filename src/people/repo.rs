//! The SQL of people.

use std::collections::BTreeSet;

use diesel::prelude::*;

use super::model::{Erased, ExportedInboxMessage, MessageRef};
use crate::db::AnyConnection;
use crate::db::schema::{attempt, dead_letter, erased_client, event, inbox, mailing, message, notification};
use crate::db::types::{ClientId, EventId, MessageId, Timestamp};
use crate::error::Result;
use crate::idempotency;
use crate::kinds::{ChannelKind, MessageStatus};
use crate::{address, clients, preferences, suppressions};

/// The number of messages that one statement changes.
const AT_ONCE: usize = 500;

/// Returns the messages to a client, and the messages without a client to one of these addresses in either form, the
/// oldest first.
///
/// # Errors
/// Database errors.
pub fn messages(
    c: &mut AnyConnection,
    id: ClientId,
    addresses: &[(ChannelKind, String)],
) -> Result<Vec<MessageRef>> {
    type Found = (MessageId, i16, i16, String);
    let columns = (message::id, message::status, message::channel, message::recipient);
    // the index begins with the mailing, and there are few mailings
    let of_mailings: Vec<Found> = mailing::table
        .inner_join(message::table.on(message::mailing_number.eq(mailing::number.nullable())))
        .filter(message::client_id.eq(id))
        .select(columns)
        .load(c)?;
    let single = message::table.filter(message::mailing_number.is_null()).select(columns);
    let of_client: Vec<Found> = single.filter(message::client_id.eq(id)).load(c)?;
    let forms = forms(addresses);
    let texts: Vec<&str> = forms.iter().map(|(_, text)| text.as_str()).collect();
    let mut of_addresses: Vec<Found> =
        single.filter(message::client_id.is_null()).filter(message::recipient.eq_any(texts)).load(c)?;
    of_addresses.retain(|(_, _, channel, recipient)| {
        forms.iter().any(|(known, text)| known.code() == *channel && text == recipient)
    });
    let sent = |(id, status, ..): &Found, is_of_mailing| -> Result<MessageRef> {
        Ok(MessageRef { id: *id, is_of_mailing, is_final: MessageStatus::from_code(*status)?.is_final() })
    };
    let single = of_client.iter().chain(&of_addresses).map(|found| sent(found, false));
    let mut all =
        of_mailings.iter().map(|found| sent(found, true)).chain(single).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|sent| sent.id);
    Ok(all)
}

/// Returns these addresses and their normal forms: a message may have either.
fn forms(addresses: &[(ChannelKind, String)]) -> Vec<(ChannelKind, String)> {
    let normal =
        |(channel, text): &(ChannelKind, String)| (*channel, address::normal(*channel, text).into_owned());
    addresses.iter().cloned().chain(addresses.iter().map(normal)).collect()
}

/// Returns the events that caused these messages.
///
/// # Errors
/// Database errors.
pub fn events(c: &mut AnyConnection, messages: &[MessageId]) -> Result<BTreeSet<EventId>> {
    let mut all = BTreeSet::new();
    for ids in messages.chunks(AT_ONCE) {
        let found: Vec<Option<EventId>> = notification::table
            .filter(notification::message_id.eq_any(ids))
            .filter(notification::event_id.is_not_null())
            .select(notification::event_id)
            .load(c)?;
        all.extend(found.into_iter().flatten());
    }
    Ok(all)
}

/// Returns the state of the messages in a user's inbox.
///
/// # Errors
/// Database errors.
pub fn inbox_of(c: &mut AnyConnection, user: &str) -> Result<Vec<ExportedInboxMessage>> {
    let rows: Vec<(MessageId, Option<Timestamp>, Option<Timestamp>)> = inbox::table
        .filter(inbox::user_id.eq(user))
        .order(inbox::message_id)
        .select((inbox::message_id, inbox::read_at, inbox::archived_at))
        .load(c)?;
    let shown =
        |(message_id, read_at, archived_at)| ExportedInboxMessage { message_id, read_at, archived_at };
    Ok(rows.into_iter().map(shown).collect())
}

/// Erases a client and all of the person's data. Returns `None` if the client does not exist.
///
/// # Errors
/// Database errors; nothing is erased then.
pub fn erase(c: &mut AnyConnection, id: ClientId, now: Timestamp) -> Result<Option<Erased>> {
    if !preferences::repo::lock_client(c, id)? {
        return Ok(None);
    }
    let addresses = preferences::repo::addresses_of(c, id)?;
    let messages: Vec<MessageId> = messages(c, id, &addresses)?.into_iter().map(|sent| sent.id).collect();
    let mut erased = Erased { suppressions: suppressions::repo::erase(c, &addresses)?, ..Erased::default() };
    for (_, user) in addresses.iter().filter(|(channel, _)| *channel == ChannelKind::InApp) {
        erased.inbox += diesel::delete(inbox::table.filter(inbox::user_id.eq(user))).execute(c)?;
    }
    erase_messages(c, &messages, &mut erased)?;
    erased.answers += idempotency::forget_answers(c, &[id.0])?;
    clients::repo::delete(c, id)?;
    let note = (erased_client::client_id.eq(id), erased_client::erased_at.eq(now));
    diesel::insert_into(erased_client::table).values(note).execute(c)?;
    Ok(Some(erased))
}

/// Erases the content of these messages and of the events that caused them.
fn erase_messages(c: &mut AnyConnection, messages: &[MessageId], erased: &mut Erased) -> Result<()> {
    let events: Vec<EventId> = events(c, messages)?.into_iter().collect();
    for ids in messages.chunks(AT_ONCE) {
        let nothing = (
            message::recipient.eq(""),
            message::error.eq(None::<String>),
            message::provider_id.eq(None::<String>),
        );
        erased.messages +=
            diesel::update(message::table.filter(message::id.eq_any(ids))).set(nothing).execute(c)?;
        let nothing = (
            notification::text.eq(""),
            notification::subject.eq(None::<String>),
            notification::html.eq(None::<String>),
            notification::data.eq(None::<String>),
            notification::metadata.eq(None::<String>),
        );
        let of_them = notification::table.filter(notification::message_id.eq_any(ids));
        diesel::update(of_them).set(nothing).execute(c)?;
        let of_them = attempt::table.filter(attempt::message_id.eq_any(ids));
        diesel::update(of_them).set(attempt::error.eq(None::<String>)).execute(c)?;
        let of_them = dead_letter::table.filter(dead_letter::id.eq_any(ids));
        diesel::update(of_them).set(dead_letter::error.eq("")).execute(c)?;
        erased.inbox += diesel::delete(inbox::table.filter(inbox::message_id.eq_any(ids))).execute(c)?;
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        erased.answers += idempotency::forget_answers(c, &ids)?;
    }
    for ids in events.chunks(AT_ONCE) {
        let nothing = (
            event::user_target.eq(None::<String>),
            event::targets.eq(None::<String>),
            event::payload.eq("{}"),
        );
        erased.events +=
            diesel::update(event::table.filter(event::id.eq_any(ids))).set(nothing).execute(c)?;
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        erased.answers += idempotency::forget_answers(c, &ids)?;
    }
    Ok(())
}

/// Erases records that nodes wrote after the erasure, because they had the client in memory. Deletes the notes of
/// clients that were erased before `until`.
///
/// # Errors
/// Database errors.
pub fn erase_again(c: &mut AnyConnection, until: Timestamp) -> Result<()> {
    let clients: Vec<ClientId> = erased_client::table.select(erased_client::client_id).load(c)?;
    for id in clients {
        let messages: Vec<MessageId> = messages(c, id, &[])?.into_iter().map(|sent| sent.id).collect();
        for ids in messages.chunks(AT_ONCE) {
            let anew: Vec<MessageId> = message::table
                .filter(message::id.eq_any(ids))
                .filter(message::recipient.ne("").or(message::error.is_not_null()))
                .select(message::id)
                .load(c)?;
            if !anew.is_empty() {
                erase_messages(c, &anew, &mut Erased::default())?;
            }
        }
    }
    diesel::delete(erased_client::table.filter(erased_client::erased_at.lt(until))).execute(c)?;
    Ok(())
}
