//! The stored form of a message.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;

use crate::db::AnyConnection;
use crate::db::bulk::table_row;
use crate::db::schema::{mailing, message};
use crate::db::types::{ClientId, MailingId, MessageId, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, MessageStatus, NotificationStatus, Priority};
use crate::messages::model::Message;

/// Stores a recipient that is an integer, for example a phone number, as an integer.
pub(super) const RECIPIENT: [&str; 2] =
    ["iif(CAST(CAST(", " AS INTEGER) AS TEXT) = ?1, CAST(?1 AS INTEGER), ?1)"];

// A message that exists already, after a commit whose response was lost, stays as it is and is not returned, so that it is
// counted once.
table_row! {
    /// A row of `message`.
    #[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
    #[diesel(table_name = message)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct MessageRow in message {
        pub recipient: String as RECIPIENT,
        pub id: MessageId,
        pub client_id: Option<ClientId>,
        pub due_at: Option<Timestamp>,
        pub expires_at: Option<Timestamp>,
        pub finished_at: Option<Timestamp>,
        pub mailing_number: Option<i32>,
        pub duration_ms: Option<i32>,
        pub status_code: Option<i16>,
        pub channel: i16,
        pub priority: i16,
        pub status: i16,
        pub attempts: i16,
        pub revision: i16,
        pub provider_id: Option<String>,
        pub error: Option<String>,
    }
    insert pub(super) InsertOutcomes "ON CONFLICT DO NOTHING" returning id: MessageId
}

impl MessageRow {
    /// Returns the status at `now` of a message that waits until `due_at`, or does not wait.
    ///
    /// # Errors
    /// The stored code is unknown.
    pub fn status_at(&self, due_at: Option<Timestamp>, now: Timestamp) -> Result<NotificationStatus> {
        Ok(match (MessageStatus::from_code(self.status)?, due_at) {
            (MessageStatus::Queued, Some(at)) if at > now && self.attempts == 0 => {
                NotificationStatus::Scheduled
            }
            (MessageStatus::Queued, Some(_)) => NotificationStatus::Queued,
            (MessageStatus::Queued, None) => NotificationStatus::Processing,
            (
                status @ (MessageStatus::Sending
                | MessageStatus::Sent
                | MessageStatus::Failed
                | MessageStatus::Expired
                | MessageStatus::Cancelled),
                _,
            ) => status.into(),
        })
    }

    /// Converts the row to a message; `mailing` is the id and the end of its mailing.
    fn into_model(self, mailing: Option<(MailingId, Timestamp)>) -> Result<Message> {
        Ok(Message {
            id: self.id,
            mailing_id: mailing.map(|(id, _)| id),
            client_id: self.client_id,
            recipient: self.recipient,
            channel: ChannelKind::from_code(self.channel)?,
            priority: Priority::from_code(self.priority)?,
            status: MessageStatus::from_code(self.status)?,
            attempts: self.attempts,
            created_at: self.id.created_at(),
            due_at: self.due_at,
            expires_at: self.expires_at.or(mailing.map(|(_, ends_at)| ends_at)),
            finished_at: self.finished_at,
            provider_id: self.provider_id,
            error: self.error,
            status_code: self.status_code.map(i32::from),
            duration_ms: self.duration_ms,
        })
    }
}

/// Converts rows to messages. Their mailings are read separately, each once: a join would repeat the mailing in each
/// row, and would let the planner choose the order of the rows.
pub(super) fn into_models(c: &mut AnyConnection, rows: Vec<MessageRow>) -> Result<Vec<Message>> {
    let numbers: BTreeSet<i32> = rows.iter().filter_map(|row| row.mailing_number).collect();
    let mailings: HashMap<i32, (MailingId, Timestamp)> = mailing::table
        .filter(mailing::number.eq_any(numbers))
        .select((mailing::number, (mailing::id, mailing::ends_at)))
        .load::<(i32, (MailingId, Timestamp))>(c)?
        .into_iter()
        .collect();
    rows.into_iter()
        .map(|row| {
            let mailing = row.mailing_number.and_then(|number| mailings.get(&number).copied());
            row.into_model(mailing)
        })
        .collect()
}
