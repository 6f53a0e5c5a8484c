//! The HTTP handlers of inboxes: the paths below `/api/v1/inbox/{user_id}`, and the custom element for web pages.

pub mod auth;
mod element;
mod stream;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use self::auth::{InboxCaller, UserPath};
use super::model::{InboxFilter, Mark};
use super::usecase::{Inbox, TOKEN_SECONDS};
use super::views::{InboxCountView, InboxMessageView, InboxReadView, InboxTokenView};
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::http::access::unauthorized;
use crate::http::json::Query;
use crate::http::operations::{Operations, operations};
use crate::http::problem::Problem;
use crate::http::routing::{get, method_not_allowed};
use crate::http::{events, problem};
use crate::lifecycle::Shutdown;
use crate::paging::{self, Page};

/// The prefix of the paths of one inbox.
const INBOX: &str = "/api/v1/inbox/{user_id}";
/// The default lifetime of a token, in seconds.
const DEFAULT_SECONDS: u32 = 60 * 60;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_inbox: InboxRead,
        get_inbox_count: InboxRead,
        get_inbox_stream: InboxRead,
        create_inbox_token: InboxWrite,
        mark_inbox_read: InboxWrite,
        mark_inbox_message_read: InboxWrite,
        mark_inbox_message_unread: InboxWrite,
        archive_inbox_message: InboxWrite,
    ]
}

/// Registers the operations behind the authentication with API keys and inbox tokens.
pub fn routes(cfg: &mut web::ServiceConfig) {
    let scope = web::scope(INBOX).wrap(from_fn(auth::check));
    let scope = scope.configure(|cfg| operations().register(cfg, INBOX));
    cfg.service(scope.default_service(web::route().to(problem::not_found)));
}

/// Registers the custom element at the root.
pub fn element_route(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/inbox.js")
            .route(get().to(element::get_element))
            .default_service(method_not_allowed("GET, HEAD")),
    );
}

/// The query parameters of the list of an inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Lists only this part; by default unread and read messages.
    #[param(value_type = Option<InboxFilter>, inline, nullable = false)]
    status: Option<String>,
    /// The largest number of items to return, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// A token of this user, for callers that cannot set headers.
    #[param(nullable = false)]
    #[expect(dead_code, reason = "the authentication reads it")]
    token: Option<String>,
}

/// List the messages of a user's inbox
///
/// Lists unread messages first, then read ones, each the newest first. Archived messages are listed only on request,
/// expired messages never. The request needs the API key or a token of this user.
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}", operation_id = "list_inbox", tag = "inbox",
    params(UserPath, ListQuery),
    responses(
        (status = 200, description = "A page of messages", body = Page<InboxMessageView>),
    ))]
pub async fn list_inbox(
    service: web::Data<Inbox>,
    visitor: InboxCaller,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let shown: Option<InboxFilter> = query
        .status
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Error::invalid("status", why))?;
    let limit = paging::limit(query.limit.as_deref())?;
    let after = paging::cursor(query.cursor.as_deref())?;
    let (items, next) = service.list(visitor.user, shown, after, limit).await?;
    let page = Page { items, next_cursor: next.map(|place| place.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<InboxMessageView<'_>>()))
}

/// Count the unread messages of a user's inbox
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}/count", operation_id = "get_inbox_count", tag = "inbox",
    params(UserPath, TokenInQuery),
    responses(
        (status = 200, description = "The number of unread messages", body = InboxCountView),
    ))]
pub async fn get_inbox_count(service: web::Data<Inbox>, visitor: InboxCaller) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(InboxCountView::from(&service.count(visitor.user).await?)))
}

/// The path of a message in a user's inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MessagePath {
    /// The user.
    #[param(min_length = 1, max_length = 200, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$")]
    #[expect(dead_code, reason = "the authentication reads it")]
    user_id: String,
    /// The message.
    #[param(format = Uuid)]
    message_id: String,
}

async fn mark(
    service: &Inbox,
    visitor: InboxCaller,
    MessagePath { message_id: id, .. }: &MessagePath,
    mark: Mark,
) -> Result<HttpResponse> {
    let wrong = |_| Error::invalid("message_id", format!("`{id}` is not a UUID"));
    let id: MessageId = id.parse().map_err(wrong)?;
    let message = service.mark(visitor.user, id, mark).await?;
    Ok(HttpResponse::Ok().json(InboxMessageView::from(&message)))
}

/// Mark a message as read
///
/// Marks a message as read. The operation is idempotent: the message keeps the time at which it was first read.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/read", operation_id = "mark_inbox_message_read", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The changed message", body = InboxMessageView),
    ))]
pub async fn mark_inbox_message_read(
    service: web::Data<Inbox>,
    visitor: InboxCaller,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Read).await
}

/// Mark a message as unread
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/unread", operation_id = "mark_inbox_message_unread", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The changed message", body = InboxMessageView),
    ))]
pub async fn mark_inbox_message_unread(
    service: web::Data<Inbox>,
    visitor: InboxCaller,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Unread).await
}

/// Archive a message
///
/// Archives a message. It is then listed only among archived messages, and no longer counts as unread.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/archive", operation_id = "archive_inbox_message", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The changed message", body = InboxMessageView),
    ))]
pub async fn archive_inbox_message(
    service: web::Data<Inbox>,
    visitor: InboxCaller,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Archived).await
}

/// Mark all messages of a user's inbox as read
///
/// Marks all present messages as read. Messages that arrive meanwhile stay unread.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/read-all", operation_id = "mark_inbox_read", tag = "inbox",
    params(UserPath, TokenInQuery),
    responses(
        (status = 200, description = "The number of messages that were unread", body = InboxReadView),
    ))]
pub async fn mark_inbox_read(service: web::Data<Inbox>, visitor: InboxCaller) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(InboxReadView::from(&service.read_all(visitor.user).await?)))
}

/// The query parameters of a new token.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// The lifetime of the token, in seconds.
    #[param(default = 3600, minimum = 60, maximum = 86400, value_type = Option<u32>, nullable = false)]
    expires_in: Option<String>,
}

/// Create a token for a user's page
///
/// Creates a token, so that a user's page does not need the API key. Only the API key may create tokens. A token gives
/// access to all operations on this user's inbox except the creation of tokens.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/token", operation_id = "create_inbox_token", tag = "inbox",
    params(UserPath, TokenQuery),
    responses(
        (status = 201, description = "The token", body = InboxTokenView),
    ))]
pub async fn create_inbox_token(
    service: web::Data<Inbox>,
    visitor: InboxCaller,
    Query(query): Query<TokenQuery>,
) -> Result<HttpResponse> {
    if visitor.left.is_some() {
        let what_to_do = "a token cannot create tokens; send Authorization: Bearer <the API key>";
        return Ok(unauthorized("Unauthorized", what_to_do));
    }
    let asked = query.expires_in.as_deref().map_or(Some(DEFAULT_SECONDS), |text| text.parse().ok());
    let seconds = asked.filter(|seconds| TOKEN_SECONDS.contains(seconds)).ok_or_else(|| {
        let (least, most) = (TOKEN_SECONDS.start(), TOKEN_SECONDS.end());
        Error::invalid("expires_in", format!("must be a whole number of seconds from {least} to {most}"))
    })?;
    Ok(HttpResponse::Created().json(InboxTokenView::from(&service.issue(&visitor.user, seconds))))
}

/// The query parameter with the token of a request whose sender cannot set headers.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenInQuery {
    /// A token of this user, for callers that cannot set headers, like `EventSource`.
    #[param(nullable = false)]
    #[expect(dead_code, reason = "the authentication reads it")]
    token: Option<String>,
}

/// Watch a user's inbox
///
/// Streams server-sent events. `message`: a message was delivered (`InboxMessage`). `read`, `unread`, `archived`: the
/// state of a message changed (`{"id", "at"}`). `all_read`: all messages delivered until `before` were marked as read.
/// `count`: the number of unread messages (`InboxCount`), at the beginning and after each of these. `reset`: events
/// were missed, so read the list again. Open the stream first and then read the list. A stream ends when its token
/// expires. A node allows at most 20 streams for one user.
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}/stream", operation_id = "get_inbox_stream", tag = "inbox",
    params(UserPath, TokenInQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last received event, to resume after it")),
    responses(
        (status = 200, description = "Events until either side closes the stream", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open, or the database is unavailable", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_inbox_stream(
    service: web::Data<Inbox>,
    shutdown: web::Data<Shutdown>,
    request: HttpRequest,
    visitor: InboxCaller,
) -> Result<HttpResponse> {
    if request.method() == Method::HEAD {
        return Ok(events::head().finish());
    }
    stream::open(&request, service, (visitor.user, visitor.left), &shutdown).await
}
