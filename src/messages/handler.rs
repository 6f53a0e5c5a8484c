//! `/api/v1/messages` and `/api/v1/mailings/{id}/messages`.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{Error, Result};
use crate::http::export;
use crate::http::json::{Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::kinds::MessageStatus;
use crate::messages::Messages;
use crate::messages::model::{Message, MessageFilter, MessageWithAttempts};
use crate::paging::{self, Page};

/// The columns of a CSV file, which are the fields of a message.
const COLUMNS: [&str; 14] = [
    "id",
    "mailing_id",
    "client_id",
    "recipient",
    "channel",
    "priority",
    "status",
    "attempts",
    "created_at",
    "due_at",
    "expires_at",
    "finished_at",
    "provider_id",
    "error",
];

/// The parameters of a list of messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only messages in this state. `created` is accepted for `queued`, and `succeeded` for `sent`.
    #[param(value_type = Option<MessageStatus>, inline, nullable = false)]
    status: Option<String>,
    /// The number of messages per page, 1 to 1000. For a CSV file: the maximum number of rows; all rows if absent.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<MessageFilter> {
        let status = self.status.as_deref().map(MessageStatus::parse).transpose();
        Ok(MessageFilter { mailing: None, status: status.map_err(|why| Error::invalid("status", why))? })
    }
}

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_messages: MailingsRead,
        get_message: MailingsRead,
        list_mailing_messages: MailingsRead,
    ]
}

/// List messages
///
/// A page may contain fewer than `limit` messages and still have a next page: continue until `next_cursor` is null.
/// With `Accept: text/csv`, all matching messages as a file.
#[utoipa::path(get, path = "/api/v1/messages", operation_id = "list_messages", tag = "messages", params(ListQuery),
    responses(
        (status = 200, description = "One page, or all as CSV", content(
            (Page<Message> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_messages(
    service: web::Data<Messages>,
    request: HttpRequest,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let filter = query.filter()?;
    list(&service, &request, filter, query).await
}

async fn list(
    service: &Messages,
    request: &HttpRequest,
    filter: MessageFilter,
    query: ListQuery,
) -> Result<HttpResponse> {
    if !export::is_wanted(request) {
        let page = service.list(filter, paging::limit(query.limit.as_deref())?, query.cursor).await?;
        return Ok(HttpResponse::Ok().json(page));
    }
    let most = export::limit(query.limit.as_deref())?;
    let service = service.clone();
    let read = move |cursor, count| {
        let (service, filter) = (service.clone(), filter.clone());
        async move { service.list(filter, count, cursor).await.map(|page| (page.items, page.next_cursor)) }
    };
    export::file(
        request,
        ("messages", COLUMNS.map(Cow::from).to_vec()),
        (query.cursor, most),
        read,
        |message: &Message| export::cells(message, &COLUMNS).map(Some),
    )
    .await
}

/// List the messages of a mailing
///
/// With `Accept: text/csv`, all matching messages as a file.
#[utoipa::path(get, path = "/api/v1/mailings/{id}/messages", operation_id = "list_mailing_messages", tag = "messages",
    params(("id" = String, Path, format = Uuid, description = "The mailing"), ListQuery),
    responses(
        (status = 200, description = "One page, or all as CSV", content(
            (Page<Message> = "application/json"), (String = "text/csv"))),
    ))]
pub async fn list_mailing_messages(
    service: web::Data<Messages>,
    request: HttpRequest,
    id: web::Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let filter = MessageFilter { mailing: Some(path_id(&id)?), ..query.filter()? };
    list(&service, &request, filter, query).await
}

/// Read a message with its attempts
#[utoipa::path(get, path = "/api/v1/messages/{id}", operation_id = "get_message", tag = "messages",
    params(("id" = String, Path, format = Uuid, description = "The message")),
    responses(
        (status = 200, description = "The message and its attempts", body = MessageWithAttempts),
    ))]
pub async fn get_message(service: web::Data<Messages>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}
