//! Response bodies of notifications and batches.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Batch, Notification, NotificationWithAttempts, Raw, Status, TemplateUsed};
use super::usecase::{AcceptedBatch, BatchEntry};
use crate::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use crate::error::FieldError;
use crate::kinds::{ChannelKind, Priority};
use crate::locale::Locale;
use crate::messages::model::{Attempt, Counts};
use crate::paging::{PageItem, json_length};

/// One message to one recipient.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationView<'m> {
    /// The notification's id, which is also its `Idempotency-Key` at the provider.
    id: MessageId,
    /// The batch that contained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    batch_id: Option<BatchId>,
    /// The event that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    event_id: Option<EventId>,
    /// The channel.
    channel: ChannelKind,
    /// The address on the channel.
    #[schema(example = "+905551234567")]
    recipient: &'m str,
    /// The client that receives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_id: Option<ClientId>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    subject: Option<&'m str>,
    /// The text.
    #[schema(example = "Your order has shipped.")]
    content: &'m str,
    /// The text of an e-mail as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    html: Option<&'m str>,
    /// The name of the template from which the texts were rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order.shipped")]
    template: Option<&'m str>,
    /// The version of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    template_version: Option<i32>,
    /// The language of the template; absent for the default variant, which has no language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Locale>, nullable = false)]
    template_locale: Option<&'m str>,
    /// An object for the recipient's application.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    data: Option<&'m Raw>,
    /// The priority.
    priority: Priority,
    /// The status.
    status: Status,
    /// The number of retries so far.
    retry_count: i16,
    /// The maximum number of retries.
    max_retries: u16,
    /// The time before which it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    scheduled_at: Option<Timestamp>,
    /// The time from which it is not sent any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    expires_at: Option<Timestamp>,
    /// The time of the next attempt, while it waits for a retry or for the end of its client's quiet hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    next_retry_at: Option<Timestamp>,
    /// The time at which it got its final status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    finished_at: Option<Timestamp>,
    /// The provider's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    provider_id: Option<&'m str>,
    /// The reason why it is not delivered, or not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'m str>,
    /// The caller's own data, returned unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<&'m Raw>,
    /// The group that its recipient may opt out of, besides the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "order")]
    group: Option<&'m str>,
    /// True if recipients cannot opt out of it; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    transactional: bool,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of its last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl<'m> From<&'m Notification> for NotificationView<'m> {
    fn from(notification: &'m Notification) -> Self {
        Self {
            id: notification.id,
            batch_id: notification.batch_id,
            event_id: notification.event_id,
            channel: notification.channel,
            recipient: &notification.recipient,
            client_id: notification.client_id,
            subject: notification.subject.as_deref(),
            content: &notification.content,
            html: notification.html.as_deref(),
            template: notification.template.as_deref(),
            template_version: notification.template_version,
            template_locale: notification.template_locale.as_deref(),
            data: notification.data.as_ref(),
            priority: notification.priority,
            status: notification.status,
            retry_count: notification.retry_count,
            max_retries: notification.max_retries,
            scheduled_at: notification.scheduled_at,
            expires_at: notification.expires_at,
            next_retry_at: notification.next_retry_at,
            finished_at: notification.finished_at,
            provider_id: notification.provider_id.as_deref(),
            error: notification.error.as_deref(),
            metadata: notification.metadata.as_ref(),
            group: notification.group.as_deref(),
            transactional: notification.transactional,
            created_at: notification.created_at,
            updated_at: notification.updated_at,
        }
    }
}

impl PageItem for Notification {
    fn length(&self) -> usize {
        json_length(&NotificationView::from(self))
    }
}

/// A notification with its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotificationWithAttempts)]
pub struct NotificationWithAttemptsView<'m> {
    /// The notification.
    #[serde(flatten)]
    notification: NotificationView<'m>,
    /// Its attempts, the first one first.
    attempts: &'m [Attempt],
}

impl<'m> From<&'m NotificationWithAttempts> for NotificationWithAttemptsView<'m> {
    fn from(found: &'m NotificationWithAttempts) -> Self {
        Self { notification: (&found.notification).into(), attempts: &found.attempts }
    }
}

/// A template that was rendered. It is stored as its name, its version and its locale, if it has one, separated by
/// spaces.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateUsed, description = "The template from which a message was rendered.")]
pub struct TemplateUsedView<'m> {
    /// The template's name.
    name: &'m str,
    /// The language; absent for the default variant, which has no language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    locale: Option<&'m str>,
    /// The version.
    version: i32,
}

impl<'m> From<&'m TemplateUsed> for TemplateUsedView<'m> {
    fn from(used: &'m TemplateUsed) -> Self {
        Self { name: &used.name, locale: used.locale.as_deref(), version: used.version }
    }
}

/// A batch and its counts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchView {
    /// The batch's id.
    batch_id: BatchId,
    /// The time at which it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The number of its notifications in each status; scheduled ones count as queued.
    counts: Counts,
}

impl From<&Batch> for BatchView {
    fn from(batch: &Batch) -> Self {
        Self { batch_id: batch.batch_id, created_at: batch.created_at, counts: batch.counts }
    }
}

/// The result of posting a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAccepted<'m> {
    /// The batch's id, for `/api/v1/batches/{id}`.
    batch_id: BatchId,
    /// The number of notifications in the request.
    total: usize,
    /// The number of accepted notifications.
    accepted: usize,
    /// The number of rejected notifications.
    rejected: usize,
    /// The result for each notification, in the order of the request.
    items: Vec<BatchItem<'m>>,
}

/// The decision on one notification of a batch.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Verdict)]
pub enum BatchItemStatus {
    /// It is on disk.
    Accepted,
    /// It is invalid.
    Rejected,
}

/// The result for one notification of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchItem<'m> {
    /// Its index in the request, from 0.
    index: usize,
    /// `accepted` or `rejected`.
    status: BatchItemStatus,
    /// Its id, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<MessageId>,
    /// The reasons for which it was rejected.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'m [FieldError],
}

impl<'m> From<&'m AcceptedBatch> for BatchAccepted<'m> {
    fn from(taken: &'m AcceptedBatch) -> Self {
        let items: Vec<BatchItem<'m>> = taken
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| match item {
                BatchEntry::Accepted(id) => {
                    BatchItem { index, status: BatchItemStatus::Accepted, id: Some(*id), errors: &[] }
                }
                BatchEntry::Rejected(errors) => {
                    BatchItem { index, status: BatchItemStatus::Rejected, id: None, errors }
                }
            })
            .collect();
        let accepted = items.iter().filter(|item| item.id.is_some()).count();
        Self { batch_id: taken.id, total: items.len(), accepted, rejected: items.len() - accepted, items }
    }
}
