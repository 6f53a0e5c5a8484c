//! Notifications and batches as the API shows them, and what may be asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::repo::{Addresses, NotificationRow};
use crate::clients::reach;
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::{Error, Result};
pub use crate::kinds::NotificationStatus as Status;
use crate::kinds::{ChannelKind, MessageStatus, Priority};
use crate::locale::Locale;
use crate::messages::model::{Attempt, Counts};
use crate::messages::repo::MessageRow;
use crate::templates::{Variant, Variants, WithLink};

/// JSON that the caller gave, shown as it came.
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
    /// What this service wrote.
    ///
    /// # Errors
    /// An internal error for what is no JSON.
    pub fn read(text: String) -> Result<Self> {
        RawValue::from_string(text).map(Self).map_err(|e| Error::Internal(e.into()))
    }

    /// What the database holds.
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
    /// Also its `Idempotency-Key` at the provider.
    pub id: MessageId,
    /// The batch that it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batch_id: Option<BatchId>,
    /// The event that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event_id: Option<EventId>,
    /// How it goes out.
    pub channel: ChannelKind,
    /// The address on the channel.
    #[schema(example = "+905551234567")]
    pub recipient: String,
    /// The client that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<ClientId>,
    /// What stands above the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// The text.
    #[schema(example = "Your order has shipped.")]
    pub content: String,
    /// The same as HTML, of an e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub html: Option<String>,
    /// The name of the template that the texts were filled from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order.shipped")]
    pub template: Option<String>,
    /// Which version of it that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template_version: Option<i32>,
    /// In which of its languages; absent: the one that the others fall back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Locale>, nullable = false)]
    pub template_locale: Option<String>,
    /// An object for the recipient's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Raw>,
    /// How urgent it is.
    pub priority: Priority,
    /// What has become of it.
    pub status: Status,
    /// How many times it was tried again.
    pub retry_count: i16,
    /// How many times it is tried again at most.
    pub max_retries: u16,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub scheduled_at: Option<Timestamp>,
    /// Never at this time or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub expires_at: Option<Timestamp>,
    /// When it is tried again, while it waits for that or for the end of its client's quiet hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub next_retry_at: Option<Timestamp>,
    /// When it came to its final state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub finished_at: Option<Timestamp>,
    /// The provider's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub provider_id: Option<String>,
    /// Why it is not delivered (yet).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// What the caller keeps with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub metadata: Option<Raw>,
    /// What its recipient may opt out of, beside the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order")]
    pub group: Option<String>,
    /// True if nobody may opt out of it; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub transactional: bool,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// The last attempt, for its place in the list of attempts.
    #[serde(skip)]
    pub last: LastAttempt,
}

/// What a message's row keeps of its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAttempt {
    /// Attempts made by now.
    pub number: i16,
    /// The provider's HTTP status.
    pub status_code: Option<i16>,
    /// From request to answer.
    pub duration_ms: Option<i32>,
}

impl Notification {
    /// From its rows. `max_retries` is its own policy's; one that has none has its channel's, which is not stored.
    ///
    /// # Errors
    /// For what no version of this program stored.
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
        // one that waits for its time and says why was put off
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
            group: content.group,
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

    /// With the number of retries that its channel grants one which has no policy of its own.
    pub fn with_default_retries(mut self, retries: &HashMap<ChannelKind, usize>) -> Self {
        if self.max_retries == OF_THE_CHANNEL {
            let retries = retries.get(&self.channel).copied().unwrap_or_default();
            self.max_retries = u16::try_from(retries).unwrap_or(u16::MAX);
        }
        self
    }
}

/// Stands for the channel's own number of retries until that is put in.
const OF_THE_CHANNEL: u16 = u16::MAX;

/// A notification with everything that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NotificationWithAttempts {
    /// The notification.
    #[serde(flatten)]
    pub notification: Notification,
    /// Its attempts, the first one first.
    pub attempts: Vec<Attempt>,
}

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// An address that fits the channel.
    Address(String),
    /// A client, who has one.
    Client(ClientId),
    /// A client, at an address that was read or given before.
    Reached {
        /// Whose it is.
        client: ClientId,
        /// One that fits the channel.
        address: String,
    },
}

/// A template that is to be filled.
#[derive(Debug, Clone)]
pub struct Fill {
    /// Its name.
    pub template: String,
    /// What its placeholders are filled from.
    pub values: Map<String, Json>,
    /// In which language; none: the client's.
    pub locale: Option<Locale>,
}

/// A template that was found, ready to be filled.
#[derive(Debug)]
pub struct TemplateFill {
    /// The values and the locale that are asked for.
    pub fill: Fill,
    /// The template in all its languages.
    pub variants: Arc<Variants>,
    /// The client's language.
    pub client_locale: Option<String>,
    /// The link to unsubscribe for its recipient, if there is one.
    pub unsubscribe_url: Option<String>,
}

/// A template that was filled. It is stored as its name, its version and, if it has one, its locale, with spaces between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(description = "A template as a message was rendered from it.")]
pub struct TemplateUsed {
    /// Its name.
    pub name: String,
    /// Its language, if it is not the one that others fall back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub locale: Option<String>,
    /// Which version of it.
    pub version: i32,
}

impl TemplateUsed {
    /// This variant of the template of this name.
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

/// What is asked for, checked.
#[derive(Debug, Clone)]
pub struct NewNotification {
    /// How it goes out.
    pub channel: ChannelKind,
    /// To whom.
    pub to: To,
    /// Filled in place of the texts when it is accepted.
    pub fill: Option<Fill>,
    /// The template that the texts were filled from.
    pub template: Option<TemplateUsed>,
    /// The text.
    pub content: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// What stands above it.
    pub subject: Option<String>,
    /// A JSON object.
    pub data: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Not before this time.
    pub scheduled_at: Option<Timestamp>,
    /// Never at this time or after it.
    pub expires_at: Option<Timestamp>,
    /// Its own delays before further attempts.
    pub retry: Option<Vec<Duration>>,
    /// What the caller keeps with it, as JSON.
    pub metadata: Option<String>,
    /// The event that causes it.
    pub event: Option<EventId>,
    /// What its recipient may opt out of ([`kinds::group`](crate::kinds::group)).
    pub group: Option<String>,
    /// Nobody may opt out of it, and quiet hours do not hold it back.
    pub is_transactional: bool,
}

/// A year, and the day that some have more.
const FARTHEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl NewNotification {
    /// Fills this template, for a client of this language if no other is asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that do not fill it.
    pub fn fill_from(&mut self, filling: &TemplateFill) -> Result<()> {
        let TemplateFill { fill, variants, client_locale, unsubscribe_url } = filling;
        let variant = variants.of(fill.locale.as_ref().map(Locale::as_str).or(client_locale.as_deref()));
        let filled = variant.content.fill(&WithLink::after(&fill.values, || unsubscribe_url.clone()));
        let filled = filled.map_err(|why| Error::invalid("values", why))?;
        (self.subject, self.content, self.html) = (filled.subject, filled.text, filled.html);
        self.template = Some(TemplateUsed::new(&fill.template, variant));
        Ok(())
    }

    /// Whether its times can be kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field.
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

    /// The rows to be stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a client that does not exist or cannot be reached on the channel.
    pub fn into_rows(
        self,
        id: MessageId,
        batch: Option<BatchId>,
        (clients, is_awaited): (&HashMap<ClientId, Addresses>, bool),
        now: Timestamp,
    ) -> Result<(MessageRow, NotificationRow)> {
        let (recipient, client_id) = match self.to {
            To::Address(address) => (address, None),
            To::Reached { client, address } => (address, Some(client)),
            To::Client(client) => {
                let addresses = clients.get(&client);
                let addresses =
                    addresses.ok_or_else(|| Error::invalid("client_id", "there is no such client"))?;
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
            // 0 is that of a message without a row
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
            group: self.group,
            is_transactional: self.is_transactional,
            retry: retry.map_err(|e| Error::Internal(e.into()))?,
            template: self.template.map(|used| used.to_string()),
        };
        Ok((message, content))
    }
}

/// What may be changed of a notification that waits.
#[derive(Debug, Clone, Default)]
pub struct Rescheduling {
    /// Another time.
    pub scheduled_at: Option<Timestamp>,
    /// Another urgency.
    pub priority: Option<Priority>,
    /// Another end, or none.
    pub expires_at: Option<Option<Timestamp>>,
}

/// A batch and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Batch {
    /// Which batch.
    pub batch_id: BatchId,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// How many of its notifications are in each state; what is scheduled counts as queued.
    pub counts: Counts,
}
