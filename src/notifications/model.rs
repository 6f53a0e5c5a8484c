//! Notifications and batches, as the API returns them and as callers request them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::repo::{NotificationRow, RecipientAddresses};
use crate::clients::reach;
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::{Error, Result};
pub use crate::kinds::NotificationStatus as Status;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::locale::Locale;
use crate::messages::model::{Attempt, Counts};
use crate::messages::repo::MessageRow;
use crate::templates::{Variant, Variants, WithLink};

/// JSON from the caller, returned unchanged.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Raw(Box<RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.get())
    }
}

impl Raw {
    /// Parses JSON that this service wrote.
    ///
    /// # Errors
    /// An internal error for text that is not JSON.
    pub fn read(text: String) -> Result<Self> {
        RawValue::from_string(text).map(Self).map_err(|e| Error::Internal(e.into()))
    }

    /// Parses the value of a nullable column.
    ///
    /// # Errors
    /// As [`Raw::read`].
    pub fn stored(text: Option<String>) -> Result<Option<Self>> {
        text.map(Self::read).transpose()
    }
}

/// One message to one recipient.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Notification {
    /// The notification's id, which is also its `Idempotency-Key` at the provider.
    pub id: MessageId,
    /// The batch that contained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batch_id: Option<BatchId>,
    /// The event that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<EventId>,
    /// The channel.
    pub channel: ChannelKind,
    /// The address on the channel.
    #[schema(example = "+905551234567")]
    pub recipient: String,
    /// The client that receives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<ClientId>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// The text.
    #[schema(example = "Your order has shipped.")]
    pub content: String,
    /// The text of an e-mail as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub html: Option<String>,
    /// The name of the template from which the texts were rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order.shipped")]
    pub template: Option<String>,
    /// The version of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template_version: Option<i32>,
    /// The language of the template; absent for the default variant, which has no language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Locale>, nullable = false)]
    pub template_locale: Option<String>,
    /// An object for the recipient's application.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Raw>,
    /// The priority.
    pub priority: Priority,
    /// The status.
    pub status: Status,
    /// The number of retries so far.
    pub retry_count: i16,
    /// The maximum number of retries.
    pub max_retries: u16,
    /// The time before which it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub expires_at: Option<Timestamp>,
    /// The time of the next attempt, while it waits for a retry or for the end of its client's quiet hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub next_retry_at: Option<Timestamp>,
    /// The time at which it got its final status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub finished_at: Option<Timestamp>,
    /// The provider's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub provider_id: Option<String>,
    /// The reason why it is not delivered, or not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// The caller's own data, returned unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<Raw>,
    /// The group that its recipient may opt out of, besides the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order")]
    pub group: Option<String>,
    /// True if recipients cannot opt out of it; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub transactional: bool,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of its last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// The last attempt, for the list of attempts.
    #[serde(skip)]
    pub last: LastAttempt,
}

/// The last attempt, as stored in the message's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAttempt {
    /// The number of attempts so far.
    pub number: i16,
    /// The provider's HTTP status.
    pub status_code: Option<i16>,
    /// The time from request to response, in milliseconds.
    pub duration_ms: Option<i32>,
}

impl Notification {
    /// Creates a notification from its rows. `max_retries` comes from its own retry policy. Without one it comes from
    /// the channel, which is not stored.
    ///
    /// # Errors
    /// An internal error for values that no version of this program stored.
    pub fn of_rows(
        message: MessageRow,
        content: NotificationRow,
        status: Status,
        due_at: Option<Timestamp>,
    ) -> Result<Self> {
        let own = content.retry.as_deref().map(serde_json::from_str::<Vec<u64>>).transpose();
        let own = own.map_err(|e| Error::Internal(e.into()))?;
        let template = content.template.as_deref().map(TemplateUsed::stored).transpose()?;
        let (version, locale) =
            template.as_ref().map_or((None, None), |used| (Some(used.version), used.locale.clone()));
        // a scheduled message with a reason was deferred
        let is_put_off = status == Status::Scheduled && message.error.is_some();
        let waits_again = is_put_off || (status == Status::Queued && message.attempts > 0);
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

    /// Sets the channel's number of retries, unless the notification has its own retry policy.
    pub fn with_default_retries(mut self, retries: &HashMap<ChannelKind, usize>) -> Self {
        if self.max_retries == OF_THE_CHANNEL {
            let retries = retries.get(&self.channel).copied().unwrap_or_default();
            self.max_retries = u16::try_from(retries).unwrap_or(u16::MAX);
        }
        self
    }
}

/// A placeholder for the channel's number of retries, until that is set.
const OF_THE_CHANNEL: u16 = u16::MAX;

/// A notification with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NotificationWithAttempts {
    /// The notification.
    #[serde(flatten)]
    pub notification: Notification,
    /// Its attempts, the first one first.
    pub attempts: Vec<Attempt>,
}

/// The recipient of a new notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// An address that is valid on the channel.
    Address(String),
    /// A client, which has an address.
    Client(ClientId),
    /// A client with an address that is already known.
    Reached {
        /// The client's id.
        client: ClientId,
        /// An address that is valid on the channel.
        address: String,
    },
}

/// A request to render a template.
#[derive(Debug, Clone)]
pub struct TemplateRequest {
    /// The template's name.
    pub template: String,
    /// The values for its placeholders.
    pub values: Map<String, Json>,
    /// The language; `None` for the client's language.
    pub locale: Option<Locale>,
}

/// A template that was read, with the data to render it.
#[derive(Debug)]
pub struct LoadedTemplate {
    /// The requested values and locale.
    pub fill: TemplateRequest,
    /// The template in all its languages.
    pub variants: Arc<Variants>,
    /// The client's language.
    pub client_locale: Option<String>,
    /// The recipient's unsubscribe link, if there is one.
    pub unsubscribe_url: Option<String>,
}

/// A template that was rendered. It is stored as its name, its version and its locale, if it has one, separated by
/// spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(description = "The template from which a message was rendered.")]
pub struct TemplateUsed {
    /// The template's name.
    pub name: String,
    /// The language; absent for the default variant, which has no language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub locale: Option<String>,
    /// The version.
    pub version: i32,
}

impl TemplateUsed {
    /// Creates it for a variant of the template with this name.
    pub fn new(name: &str, variant: &Variant) -> Self {
        Self { name: name.to_owned(), version: variant.version, locale: variant.locale.clone() }
    }

    fn stored(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let (name, version) = (words.next(), words.next().and_then(|version| version.parse().ok()));
        let (Some(name), Some(version)) = (name, version) else {
            return Err(Error::internal("the stored template of a notification is not valid"));
        };
        Ok(Self { name: name.to_owned(), version, locale: words.next().map(str::to_owned) })
    }
}

impl std::fmt::Display for TemplateUsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        self.locale.iter().try_for_each(|locale| write!(f, " {locale}"))
    }
}

/// A validated new notification.
#[derive(Debug, Clone)]
pub struct NewNotification {
    /// The channel.
    pub channel: ChannelKind,
    /// The recipient.
    pub to: To,
    /// The template that is rendered instead of the texts when it is accepted.
    pub fill: Option<TemplateRequest>,
    /// The template from which the texts were rendered.
    pub template: Option<TemplateUsed>,
    /// The text.
    pub content: String,
    /// The text as HTML.
    pub html: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// A JSON object.
    pub data: Option<String>,
    /// The priority.
    pub priority: Priority,
    /// The time before which it is not sent.
    pub scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    pub expires_at: Option<Timestamp>,
    /// Its own delays before retries.
    pub retry: Option<Vec<Duration>>,
    /// The caller's own data, as JSON.
    pub metadata: Option<String>,
    /// The event that causes it.
    pub event: Option<EventId>,
    /// The group that its recipient may opt out of ([`kinds::group`](crate::kinds::group)).
    pub group: Option<String>,
    /// True if recipients cannot opt out of it and quiet hours do not defer it.
    pub is_transactional: bool,
}

/// The longest time to a schedule: a leap year.
const FARTHEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl NewNotification {
    /// Renders a template, in the client's language if no other is requested.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the values do not fill the template.
    pub fn fill_from(&mut self, filling: &LoadedTemplate) -> Result<()> {
        let LoadedTemplate { fill, variants, client_locale, unsubscribe_url } = filling;
        let variant = variants.of(fill.locale.as_ref().map(Locale::as_str).or(client_locale.as_deref()));
        let filled = variant.content.fill(&WithLink::after(&fill.values, || unsubscribe_url.clone()));
        let filled = filled.map_err(|why| Error::invalid("values", why))?;
        (self.subject, self.content, self.html) = (filled.subject, filled.text, filled.html);
        self.template = Some(TemplateUsed::new(&fill.template, variant));
        Ok(())
    }

    /// Validates its times.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        if self.scheduled_at.is_some_and(|at| at > now.plus(FARTHEST)) {
            return Err(Error::invalid("scheduled_at", "must be within a year from now"));
        }
        let starts = self.scheduled_at.map_or(now, |at| at.max(now));
        if self.expires_at.is_some_and(|end| end <= starts) {
            return Err(Error::invalid("expires_at", "must be after now and after scheduled_at"));
        }
        Ok(())
    }

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
        let (recipient, client_id) = match self.to {
            To::Address(address) => (address, None),
            To::Reached { client, address } => (address, Some(client)),
            To::Client(client) => {
                let addresses = clients.get(&client);
                let addresses =
                    addresses.ok_or_else(|| Error::invalid("client_id", "the client does not exist"))?;
                let address = addresses.reach(client).on(self.channel);
                let lacks = || Error::invalid("client_id", reach::lacks(self.channel));
                (address.ok_or_else(lacks)?, Some(client))
            }
        };
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

/// Changes to a waiting notification.
#[derive(Debug, Clone, Default)]
pub struct NotificationChange {
    /// The new time.
    pub scheduled_at: Option<Timestamp>,
    /// The new priority.
    pub priority: Option<Priority>,
    /// The new expiry; `Some(None)` removes it.
    pub expires_at: Option<Option<Timestamp>>,
}

/// A batch and its counts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Batch {
    /// The batch's id.
    pub batch_id: BatchId,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The number of its notifications in each status; scheduled ones count as queued.
    pub counts: Counts,
}
