//! Response bodies of inboxes.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{InboxCount, InboxMessage, InboxRead, InboxToken};
use crate::db::types::{MessageId, Timestamp};
use crate::notifications::model::Raw;
use crate::paging::{PageItem, json_length};

/// A message in a user's inbox.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxMessage)]
pub struct InboxMessageView<'m> {
    /// The id of the notification, or of the mailing's message.
    id: MessageId,
    /// The heading of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    subject: Option<&'m str>,
    /// The plain text of the message, to be displayed as text and not as markup.
    #[schema(example = "Your order has shipped.")]
    text: &'m str,
    /// An object for the code of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    data: Option<&'m Raw>,
    /// The time of delivery.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time at which it was read; null while it is unread.
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at: Option<Timestamp>,
    /// The time at which it was archived; null if it is not archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    archived_at: Option<Timestamp>,
}

impl<'m> From<&'m InboxMessage> for InboxMessageView<'m> {
    fn from(message: &'m InboxMessage) -> Self {
        Self {
            id: message.id,
            subject: message.subject.as_deref(),
            text: &message.text,
            data: message.data.as_ref(),
            created_at: message.created_at,
            read_at: message.read_at,
            archived_at: message.archived_at,
        }
    }
}

impl PageItem for InboxMessage {
    fn length(&self) -> usize {
        json_length(&InboxMessageView::from(self))
    }
}

/// The number of unread messages of an inbox.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxCount)]
pub struct InboxCountView {
    /// The number of messages that are neither read nor archived.
    unread: i64,
}

impl From<&InboxCount> for InboxCountView {
    fn from(count: &InboxCount) -> Self {
        Self { unread: count.unread }
    }
}

/// The result of marking all messages as read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxRead)]
pub struct InboxReadView {
    /// The number of messages that were unread before.
    read: i64,
}

impl From<&InboxRead> for InboxReadView {
    fn from(marked: &InboxRead) -> Self {
        Self { read: marked.read }
    }
}

/// A token that gives a user's page access to the user's inbox.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboxToken)]
pub struct InboxTokenView<'m> {
    /// The token, for `Authorization: Bearer`, or for `?token=` where a page cannot set headers.
    token: &'m str,
    /// The expiry of the token.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl<'m> From<&'m InboxToken> for InboxTokenView<'m> {
    fn from(token: &'m InboxToken) -> Self {
        Self { token: &token.token, expires_at: token.expires_at }
    }
}
