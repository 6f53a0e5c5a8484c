//! Sends a test message over a channel, so that the provider itself confirms the channel's settings.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::after_waiting;
use super::schema::{NotificationBody, RetryBody};
use crate::error::{Error, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::operations::{Operations, operations};
use crate::kinds::{ChannelKind, ChannelToPeople, Priority, SubjectRule};
use crate::notifications::Notifications;
use crate::notifications::usecase::BuildResponse;
use crate::notifications::views::NotificationView;

const CONTENT: &str = "This is a test message. If you can read it, the channel works.";
const SUBJECT: &str = "Test message";

/// A test message: the recipient, and a text if the standard text is not wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChannelTest, example = json!({"recipient": "you@example.com"}))]
pub struct ChannelTestBody {
    /// The address on the channel.
    #[schema(min_length = 1, max_length = 4096)]
    pub recipient: String,
    /// The text, 1 to 20000 characters without NUL.
    #[schema(min_length = 1, max_length = 20000, pattern = r"^[^\u0000]*$")]
    pub content: Option<String>,
    /// The subject, one line, for channels that show one.
    #[schema(min_length = 1, max_length = 998, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub subject: Option<String>,
}

impl ChannelTestBody {
    fn into_body(self, channel: ChannelKind) -> NotificationBody {
        let has_subject = channel.spec().subject != SubjectRule::Forbidden;
        NotificationBody {
            channel: channel.as_str().to_owned(),
            recipient: Some(self.recipient),
            client_id: None,
            content: Some(self.content.unwrap_or_else(|| CONTENT.to_owned())),
            subject: self.subject.or_else(|| has_subject.then(|| SUBJECT.to_owned())),
            html: None,
            template: None,
            values: None,
            locale: None,
            data: None,
            priority: Some(Priority::High.as_str().to_owned()),
            scheduled_at: None,
            expires_at: None,
            retry: Some(RetryBody { delays: Vec::new() }),
            metadata: None,
            group: None,
            // a test must reach the provider even if the recipient has opted out or has quiet hours
            transactional: Some(true),
        }
    }
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        test_channel: NotificationsWrite,
    ]
}

/// Send a test message
///
/// Sends one notification of high priority with a single attempt, and waits for its final status. If it failed, the
/// response has its error.
#[utoipa::path(post, path = "/api/v1/channels/{name}/test", operation_id = "test_channel", tag = "channels",
    params(("name" = ChannelToPeople, Path, description = "The channel"), DryRunQuery, KeyHeader),
    request_body = ChannelTestBody,
    responses(
        (status = 200, description = "The notification with its final status. For a dry run: the notification that \
            would be accepted", body = NotificationView),
        (status = 202, description = "Accepted, without a final status at the end of the wait", body = NotificationView),
        (status = 409, description = "An equal request with this key is running"),
    ))]
pub async fn test_channel(
    service: web::Data<Notifications>,
    name: web::Path<String>,
    dry_run: DryRun,
    posted: Posted<ChannelTestBody>,
) -> Result<HttpResponse> {
    let channel: ChannelKind =
        ChannelKind::to_people(&name).map_err(|_| Error::not_found("channel", name.as_str()))?;
    let new = posted.value.into_body(channel).into_new()?;
    if dry_run.0 {
        let notification = service.rehearse(new).await?;
        return Ok(HttpResponse::Ok().json(NotificationView::from(&notification)));
    }
    let waiting = (service.patience(), after_waiting as BuildResponse);
    Ok(respond(service.create_and_wait(new, posted.key, waiting).await?))
}
