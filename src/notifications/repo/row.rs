//! The rows of notifications, and their conversion from and to the model.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;

use crate::clients::reach::ClientAddresses;
use crate::db::bulk::table_row;
use crate::db::schema::{client, notification};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::{ChannelKind, MessageStatus, NotificationStatus, Priority};
use crate::messages::repo::MessageRow;
use crate::notifications::model::{
    LastAttempt, NewNotification, Notification, OF_THE_CHANNEL, Raw, TemplateUsed,
};

table_row! {
    /// A row of `notification`.
    #[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
    #[diesel(table_name = notification)]
    #[expect(missing_docs, reason = "the migration documents the columns")]
    pub struct NotificationRow in notification {
        pub message_id: MessageId,
        pub batch_id: Option<BatchId>,
        pub scheduled_at: Option<Timestamp>,
        pub updated_at: Timestamp,
        pub is_awaited: bool,
        pub text: String,
        pub subject: Option<String>,
        pub html: Option<String>,
        pub data: Option<String>,
        pub metadata: Option<String>,
        pub retry: Option<String>,
        pub event_id: Option<EventId>,
        pub message_group: Option<String>,
        pub is_transactional: bool,
        pub template: Option<String>,
    }
    insert pub(super) InsertNotifications ""
}

impl NotificationRow {
    /// Returns the status right after it was accepted.
    pub fn status_at_first(&self, message: &MessageRow) -> NotificationStatus {
        let is_later = message.due_at.is_some_and(|at| at > self.updated_at);
        if is_later { NotificationStatus::Scheduled } else { NotificationStatus::Queued }
    }
}

/// The addresses and the language of a client.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = client)]
pub struct RecipientAddresses {
    /// The phone number, as E.164 digits.
    pub phone_number: Option<i64>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// The push token of its device.
    pub push_token: Option<String>,
    /// Its id in the user's other systems.
    pub external_id: Option<String>,
    /// Its attributes as JSON.
    pub attributes: String,
    /// Its language.
    pub locale: Option<String>,
}

impl RecipientAddresses {
    /// Returns them as the addresses of the client with this id.
    pub fn reach(&self, id: ClientId) -> ClientAddresses<'_> {
        ClientAddresses {
            id,
            phone_number: self.phone_number,
            email: self.email.as_deref(),
            push_token: self.push_token.as_deref(),
            external_id: self.external_id.as_deref(),
            attributes: &self.attributes,
        }
    }
}

impl Notification {
    /// Creates a notification from its rows. `max_retries` comes from its own retry policy. Without one it comes from
    /// the channel, which is not stored.
    ///
    /// # Errors
    /// An internal error for values that no version of this program stored.
    pub fn from_rows(
        message: MessageRow,
        content: NotificationRow,
        status: NotificationStatus,
        due_at: Option<Timestamp>,
    ) -> Result<Self> {
        let own = content.retry.as_deref().map(serde_json::from_str::<Vec<u64>>).transpose();
        let own = own.map_err(|e| Error::Internal(e.into()))?;
        let template = content.template.as_deref().map(TemplateUsed::stored).transpose()?;
        let (version, locale) =
            template.as_ref().map_or((None, None), |used| (Some(used.version), used.locale.clone()));
        // a scheduled message with a reason was deferred
        let is_put_off = status == NotificationStatus::Scheduled && message.error.is_some();
        let waits_again = is_put_off || (status == NotificationStatus::Queued && message.attempts > 0);
        Ok(Self {
            id: message.id,
            batch_id: content.batch_id,
            event_id: content.event_id,
            channel: ChannelKind::from_code(message.channel)?,
            recipient: message.recipient,
            client_id: message.client_id,
            subject: content.subject,
            content: content.text,
            html: content.html,
            template: template.map(|used| used.name),
            template_version: version,
            template_locale: locale,
            data: Raw::stored(content.data)?,
            priority: Priority::from_code(message.priority)?,
            status,
            retry_count: (message.attempts - 1).max(0),
            max_retries: own.map_or(OF_THE_CHANNEL, |delays| u16::try_from(delays.len()).unwrap_or(u16::MAX)),
            scheduled_at: content.scheduled_at,
            expires_at: message.expires_at,
            next_retry_at: due_at.filter(|_| waits_again),
            finished_at: message.finished_at,
            provider_id: message.provider_id,
            error: message.error,
            metadata: Raw::stored(content.metadata)?,
            group: content.message_group,
            transactional: content.is_transactional,
            created_at: message.id.created_at(),
            updated_at: message.finished_at.map_or(content.updated_at, |at| at.max(content.updated_at)),
            last: LastAttempt {
                number: message.attempts,
                status_code: message.status_code,
                duration_ms: message.duration_ms,
            },
        })
    }
}

impl NewNotification {
    /// Converts it into the rows to store.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a client that does not exist or cannot be reached on the channel.
    pub fn into_rows(
        self,
        id: MessageId,
        batch: Option<BatchId>,
        (clients, is_awaited): (&HashMap<ClientId, RecipientAddresses>, bool),
        now: Timestamp,
    ) -> Result<(MessageRow, NotificationRow)> {
        let find = |client| clients.get(&client).map(|addresses| addresses.reach(client));
        let (recipient, client_id) = self.to.resolve(self.channel, find)?;
        let millis = |delays: Vec<Duration>| delays.iter().map(Duration::as_millis).collect::<Vec<_>>();
        let retry = self.retry.map(|delays| serde_json::to_string(&millis(delays))).transpose();
        let message = MessageRow {
            id,
            client_id,
            due_at: Some(self.scheduled_at.map_or(now, |at| at.max(now))),
            expires_at: self.expires_at,
            finished_at: None,
            mailing_number: None,
            duration_ms: None,
            status_code: None,
            channel: self.channel.code(),
            priority: self.priority.code(),
            status: MessageStatus::Queued.code(),
            attempts: 0,
            // 0 is the revision of a message without a row
            revision: 1,
            recipient,
            provider_id: None,
            error: None,
        };
        let content = NotificationRow {
            message_id: id,
            batch_id: batch,
            event_id: self.event,
            scheduled_at: self.scheduled_at,
            updated_at: now,
            is_awaited,
            text: self.content,
            subject: self.subject,
            html: self.html,
            data: self.data,
            metadata: self.metadata,
            message_group: self.group,
            is_transactional: self.is_transactional,
            retry: retry.map_err(|e| Error::Internal(e.into()))?,
            template: self.template.map(|used| used.to_string()),
        };
        Ok((message, content))
    }
}
