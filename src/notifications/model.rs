//! Notifications and batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::clients::reach::{self, ClientAddresses};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::{Error, Result};
pub use crate::kinds::NotificationStatus as Status;
use crate::kinds::{ChannelKind, Priority};
use crate::locale::Locale;
use crate::messages::model::{Attempt, Counts};
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
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The notification's id, which is also its `Idempotency-Key` at the provider.
    pub id: MessageId,
    /// The batch that contained it.
    pub batch_id: Option<BatchId>,
    /// The event that caused it.
    pub event_id: Option<EventId>,
    /// The channel.
    pub channel: ChannelKind,
    /// The address on the channel.
    pub recipient: String,
    /// The client that receives it.
    pub client_id: Option<ClientId>,
    /// The subject.
    pub subject: Option<String>,
    /// The text.
    pub content: String,
    /// The text of an e-mail as HTML.
    pub html: Option<String>,
    /// The name of the template from which the texts were rendered.
    pub template: Option<String>,
    /// The version of the template.
    pub template_version: Option<i32>,
    /// The language of the template; absent for the default variant, which has no language.
    pub template_locale: Option<String>,
    /// An object for the recipient's application.
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
    pub scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    pub expires_at: Option<Timestamp>,
    /// The time of the next attempt, while it waits for a retry or for the end of its client's quiet hours.
    pub next_retry_at: Option<Timestamp>,
    /// The time at which it got its final status.
    pub finished_at: Option<Timestamp>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// The reason why it is not delivered, or not yet.
    pub error: Option<String>,
    /// The caller's own data, returned unchanged.
    pub metadata: Option<Raw>,
    /// The group that its recipient may opt out of, besides the channel.
    pub group: Option<String>,
    /// True if recipients cannot opt out of it; absent otherwise.
    pub transactional: bool,
    /// The time at which it was accepted.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
    /// The last attempt, for the list of attempts.
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
pub const OF_THE_CHANNEL: u16 = u16::MAX;

/// A notification with its attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationWithAttempts {
    /// The notification.
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

impl To {
    /// Returns the address on the channel, and the client that has it. `find` returns the addresses of a client.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a client that does not exist or cannot be reached on the channel.
    pub fn resolve<'c>(
        self,
        channel: ChannelKind,
        find: impl FnOnce(ClientId) -> Option<ClientAddresses<'c>>,
    ) -> Result<(String, Option<ClientId>)> {
        match self {
            Self::Address(address) => Ok((address, None)),
            Self::Reached { client, address } => Ok((address, Some(client))),
            Self::Client(client) => {
                let missing = || Error::invalid("client_id", "the client does not exist");
                let address = find(client).ok_or_else(missing)?.on(channel);
                let lacks = || Error::invalid("client_id", reach::lacks(channel));
                Ok((address.ok_or_else(lacks)?, Some(client)))
            }
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUsed {
    /// The template's name.
    pub name: String,
    /// The language; absent for the default variant, which has no language.
    pub locale: Option<String>,
    /// The version.
    pub version: i32,
}

impl TemplateUsed {
    /// Creates it for a variant of the template with this name.
    pub fn new(name: &str, variant: &Variant) -> Self {
        Self { name: name.to_owned(), version: variant.version, locale: variant.locale.clone() }
    }

    /// Parses its stored form.
    ///
    /// # Errors
    /// An internal error for a text that no version of this program stored.
    pub fn stored(text: &str) -> Result<Self> {
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
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The batch's id.
    pub batch_id: BatchId,
    /// The time at which it was accepted.
    pub created_at: Timestamp,
    /// The number of its notifications in each status; scheduled ones count as queued.
    pub counts: Counts,
}
