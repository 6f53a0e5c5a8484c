//! Closes the rest of a mailing that was cancelled or whose window has closed, in bulk, so that its counts balance.

use diesel::prelude::*;

use super::plan::{Plan, advance};
use crate::db::AnyConnection;
use crate::db::schema::{due, mailing, message};
use crate::db::types::{MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::mailings::model::MailingStatus;
use crate::messages::repo::{MessageRow, insert_messages};

/// The end of the messages that a mailing leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The mailing was cancelled.
    Cancelled,
    /// Its window has closed.
    Expired,
}

impl Ending {
    /// Returns the final status of the messages.
    fn status(self) -> MessageStatus {
        match self {
            Self::Cancelled => MessageStatus::Cancelled,
            Self::Expired => MessageStatus::Expired,
        }
    }
}

/// The parameters of closing the rest of a mailing.
#[derive(Debug, Clone)]
pub struct Closing {
    /// The mailing and its audience.
    pub plan: Plan,
    /// The messages' channel.
    pub channel: ChannelKind,
    /// The messages' priority.
    pub priority: Priority,
    /// The end of the messages.
    pub ending: Ending,
    /// The reason stored with each message.
    pub reason: &'static str,
}

/// The result of a step of closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The number of messages that reached their final state.
    pub messages: usize,
    /// True if there may be more.
    pub more: bool,
}

/// Records the next clients without a planned message as expired or cancelled.
///
/// # Errors
/// Database errors.
pub fn rest_of_audience(c: &mut AnyConnection, closing: &Closing, now: Timestamp) -> Result<Closed> {
    let stretch = advance(c, &closing.plan, |status, ends_at| match closing.ending {
        Ending::Cancelled => status == MailingStatus::Cancelled,
        Ending::Expired => now >= ends_at,
    })?;
    let Some(stretch) = stretch else {
        return Ok(Closed { messages: 0, more: false });
    };
    let mailing = closing.plan.mailing;
    let number = crate::mailings::repo::number(c, mailing)?;
    let rows: Vec<MessageRow> = stretch
        .planned
        .into_iter()
        .map(|(id, recipient)| MessageRow {
            id,
            client_id: Some(recipient.client_id),
            due_at: None,
            expires_at: None,
            finished_at: Some(now),
            mailing_number: Some(number),
            duration_ms: None,
            status_code: None,
            channel: closing.channel.code(),
            priority: closing.priority.code(),
            status: closing.ending.status().code(),
            attempts: 0,
            revision: 1,
            recipient: recipient.address(closing.channel).unwrap_or_default(),
            provider_id: None,
            error: Some(closing.reason.to_owned()),
        })
        .collect();
    let written = insert_messages(c, &rows.iter().collect::<Vec<_>>())?;
    count(c, mailing, closing.ending, written.len())?;
    failpoint::reach("close-before-commit");
    Ok(Closed { messages: written.len(), more: !stretch.walked })
}

/// Records messages that wait for a retry as expired or cancelled.
///
/// # Errors
/// Database errors.
pub fn waiting(c: &mut AnyConnection, closing: &Closing, now: Timestamp) -> Result<Closed> {
    let mailing = closing.plan.mailing;
    crate::mailings::repo::lock(c, mailing)?;
    let limit = i64::try_from(closing.plan.limit).unwrap_or(i64::MAX);
    let ids: Vec<MessageId> =
        due::table.filter(due::mailing_id.eq(mailing)).select(due::message_id).limit(limit).load(c)?;
    if ids.is_empty() {
        return Ok(Closed { messages: 0, more: false });
    }
    // the transaction that deletes the row owns the message: an earlier claim keeps it
    let taken: Vec<MessageId> = diesel::delete(due::table.filter(due::message_id.eq_any(&ids)))
        .returning(due::message_id)
        .get_results(c)?;
    let rows = diesel::update(message::table.filter(message::id.eq_any(&taken)));
    rows.set((
        message::status.eq(closing.ending.status().code()),
        message::revision.eq(message::revision + 1_i16),
        message::due_at.eq(None::<Timestamp>),
        message::finished_at.eq(Some(now)),
    ))
    .execute(c)?;
    count(c, mailing, closing.ending, taken.len())?;
    Ok(Closed { messages: taken.len(), more: ids.len() == closing.plan.limit })
}

fn count(c: &mut AnyConnection, id: MailingId, ending: Ending, messages: usize) -> Result<()> {
    let more = i64::try_from(messages).unwrap_or_default();
    let row = diesel::update(mailing::table.find(id));
    match ending {
        Ending::Cancelled => row.set(mailing::cancelled.eq(mailing::cancelled + more)).execute(c)?,
        Ending::Expired => row.set(mailing::expired.eq(mailing::expired + more)).execute(c)?,
    };
    Ok(())
}
