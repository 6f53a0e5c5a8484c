//! Inboxes over HTTP: `/api/v1/inbox/{user_id}` and what is under it, and the element for web pages.

pub mod door;
mod element;
mod stream;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use self::door::{UserPath, Visitor};
use super::model::{InboxCount, InboxMessage, InboxRead, InboxToken, Mark, Shown};
use super::usecase::{Inbox, TOKEN_SECONDS};
use crate::db::types::MessageId;
use crate::error::{Error, Result};
use crate::http::access::unauthorized;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::routing::{get, others};
use crate::http::{events, problem};
use crate::lifecycle::Shutdown;
use crate::paging::{self, Page};

/// For how long a token is worth something when nothing is said.
const DEFAULT_SECONDS: u32 = 60 * 60;

/// Registers the routes under `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    let read = |path, handler| web::resource(path).route(handler).default_service(others("GET, HEAD"));
    let act = |path, handler| web::resource(path).route(handler).default_service(others("POST"));
    cfg.service(
        web::scope("/inbox/{user_id}")
            .wrap(from_fn(door::check))
            .service(read("", get().to(list_inbox)))
            .service(read("/count", get().to(get_inbox_count)))
            .service(read("/stream", get().to(get_inbox_stream)))
            .service(act("/token", web::post().to(create_inbox_token)))
            .service(act("/read-all", web::post().to(mark_inbox_read)))
            .service(act("/{message_id}/read", web::post().to(mark_inbox_message_read)))
            .service(act("/{message_id}/unread", web::post().to(mark_inbox_message_unread)))
            .service(act("/{message_id}/archive", web::post().to(archive_inbox_message)))
            .default_service(web::route().to(problem::no_such_path)),
    );
}

/// Registers the element, at the root.
pub fn element_route(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/inbox.js").route(get().to(element::get_element)).default_service(others("GET, HEAD")),
    );
}

/// What a list of an inbox can be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only this part; otherwise what is unread and what was read.
    #[param(value_type = Option<Shown>, inline, nullable = false)]
    status: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// A token of this user, where headers cannot be set.
    #[param(nullable = false)]
    #[expect(dead_code, reason = "the door has read it")]
    token: Option<String>,
}

/// List the messages of a user's inbox
///
/// What is unread first, then what was read, each the newest first. What is archived is shown when it is asked for, what
/// has expired never. The API key's bearer may ask, and who bears a token of this user.
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}", operation_id = "list_inbox", tag = "inbox",
    params(UserPath, ListQuery),
    responses(
        (status = 200, description = "One page", body = Page<InboxMessage>),
    ))]
pub async fn list_inbox(
    service: web::Data<Inbox>,
    visitor: Visitor,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let shown: Option<Shown> = query
        .status
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Error::invalid("status", why))?;
    let limit = paging::limit(query.limit.as_deref())?;
    let after = paging::cursor(query.cursor.as_deref())?;
    let (items, next) = service.list(visitor.user, shown, after, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|place| place.to_string()) }))
}

/// Count the unread messages of a user's inbox
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}/count", operation_id = "get_inbox_count", tag = "inbox",
    params(UserPath, TokenInQuery),
    responses(
        (status = 200, description = "How many are unread", body = InboxCount),
    ))]
pub async fn get_inbox_count(service: web::Data<Inbox>, visitor: Visitor) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.count(visitor.user).await?))
}

/// The path of a message in a user's inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MessagePath {
    /// The user.
    #[param(min_length = 1, max_length = 200, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$")]
    #[expect(dead_code, reason = "the door reads it")]
    user_id: String,
    /// The message.
    #[param(format = Uuid)]
    message_id: String,
}

async fn mark(
    service: &Inbox,
    visitor: Visitor,
    MessagePath { message_id: id, .. }: &MessagePath,
    mark: Mark,
) -> Result<HttpResponse> {
    let wrong = |_| Error::invalid("message_id", format!("`{id}` is not a UUID"));
    let id: MessageId = id.parse().map_err(wrong)?;
    Ok(HttpResponse::Ok().json(service.mark(visitor.user, id, mark).await?))
}

/// Mark a message as read
///
/// Once is enough: it keeps the time at which it was read first.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/read", operation_id = "mark_inbox_message_read", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The message as it is now", body = InboxMessage),
    ))]
pub async fn mark_inbox_message_read(
    service: web::Data<Inbox>,
    visitor: Visitor,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Read).await
}

/// Mark a message as unread
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/unread", operation_id = "mark_inbox_message_unread", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The message as it is now", body = InboxMessage),
    ))]
pub async fn mark_inbox_message_unread(
    service: web::Data<Inbox>,
    visitor: Visitor,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Unread).await
}

/// Archive a message
///
/// It is shown only when what is archived is asked for, and counts as unread no more.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/{message_id}/archive", operation_id = "archive_inbox_message", tag = "inbox",
    params(MessagePath, TokenInQuery),
    responses(
        (status = 200, description = "The message as it is now", body = InboxMessage),
    ))]
pub async fn archive_inbox_message(
    service: web::Data<Inbox>,
    visitor: Visitor,
    path: web::Path<MessagePath>,
) -> Result<HttpResponse> {
    mark(&service, visitor, &path, Mark::Archived).await
}

/// Mark all messages of a user's inbox as read
///
/// Those that are there when this is asked; what comes meanwhile stays unread.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/read-all", operation_id = "mark_inbox_read", tag = "inbox",
    params(UserPath, TokenInQuery),
    responses(
        (status = 200, description = "How many were unread", body = InboxRead),
    ))]
pub async fn mark_inbox_read(service: web::Data<Inbox>, visitor: Visitor) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.read_all(visitor.user).await?))
}

/// What a token can be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// For how long it is worth something, in seconds.
    #[param(default = 3600, minimum = 60, maximum = 86400, value_type = Option<u32>, nullable = false)]
    expires_in: Option<String>,
}

/// Make a token for a user's page
///
/// For the bearer of the API key alone: a page of a user must not hold the key. With the token it may do everything with
/// this user's inbox but make tokens.
#[utoipa::path(post, path = "/api/v1/inbox/{user_id}/token", operation_id = "create_inbox_token", tag = "inbox",
    params(UserPath, TokenQuery),
    responses(
        (status = 201, description = "The token", body = InboxToken),
    ))]
pub async fn create_inbox_token(
    service: web::Data<Inbox>,
    visitor: Visitor,
    Query(query): Query<TokenQuery>,
) -> Result<HttpResponse> {
    if visitor.left.is_some() {
        let what_to_do = "a token makes no other tokens: ask with Authorization: Bearer <the API key>";
        return Ok(unauthorized("An API key is needed", what_to_do));
    }
    let asked = query.expires_in.as_deref().map_or(Some(DEFAULT_SECONDS), |text| text.parse().ok());
    let seconds = asked.filter(|seconds| TOKEN_SECONDS.contains(seconds)).ok_or_else(|| {
        let (least, most) = (TOKEN_SECONDS.start(), TOKEN_SECONDS.end());
        Error::invalid("expires_in", format!("must be a whole number of seconds from {least} to {most}"))
    })?;
    Ok(HttpResponse::Created().json(service.issue(&visitor.user, seconds)))
}

/// The token of a request whose sender cannot set headers, for the document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenInQuery {
    /// A token of this user, where headers cannot be set: an `EventSource` cannot.
    #[param(nullable = false)]
    #[expect(dead_code, reason = "the door reads it")]
    token: Option<String>,
}

/// Watch a user's inbox
///
/// Server-sent events. `message`: one came (`InboxMessage`). `read`, `unread`, `archived`: that became of one
/// (`{"id", "at"}`). `all_read`: everything delivered until `before` was read. `count`: how many are unread (`InboxCount`),
/// at the beginning and after each of these. `reset`: events were missed, so read the list anew. Open the stream first and
/// then read the list. A stream ends with the token by which it was opened. At most 20 are open for one user at a node.
#[utoipa::path(get, path = "/api/v1/inbox/{user_id}/stream", operation_id = "get_inbox_stream", tag = "inbox",
    params(UserPath, TokenInQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received, to go on from there")),
    responses(
        (status = 200, description = "Events until one side ends it", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open, or the database cannot be used", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_inbox_stream(
    service: web::Data<Inbox>,
    shutdown: web::Data<Shutdown>,
    request: HttpRequest,
    visitor: Visitor,
) -> Result<HttpResponse> {
    if request.method() == Method::HEAD {
        return Ok(events::head().finish());
    }
    stream::open(&request, service, (visitor.user, visitor.left), &shutdown).await
}
