//! Response bodies of exports.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::ExportedMessage;
use crate::messages::model::MessageWithAttempts;
use crate::notifications::views::NotificationWithAttemptsView;

/// An exported message of a person.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ExportedMessage)]
pub enum ExportedMessageView<'m> {
    /// A notification with its texts.
    Notification(Box<NotificationWithAttemptsView<'m>>),
    /// A message of a mailing; the mailing has the text.
    Message(&'m MessageWithAttempts),
}

impl<'m> From<&'m ExportedMessage> for ExportedMessageView<'m> {
    fn from(message: &'m ExportedMessage) -> Self {
        match message {
            ExportedMessage::Notification(found) => Self::Notification(Box::new((&**found).into())),
            ExportedMessage::Message(message) => Self::Message(message),
        }
    }
}
