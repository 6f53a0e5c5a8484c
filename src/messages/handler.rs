//! `/api/v1/messages` and `/api/v1/mailings/{id}/messages`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{Error, Result};
use crate::http::json::{Query, path_id};
use crate::http::routing::{get, others};
use crate::kinds::MessageStatus;
use crate::messages::Messages;
use crate::messages::model::{Message, MessageFilter, MessageWithAttempts};
use crate::paging::{self, Page};

/// What a list of messages can be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those in this state; `created` is taken for `queued`, and `succeeded` for `sent`.
    #[param(value_type = Option<MessageStatus>, inline, nullable = false)]
    status: Option<String>,
    /// How many to answer, 1 to 1000.
    #[param(default = 50, minimum = 1, maximum = 1000, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<MessageFilter> {
        let status = self.status.as_deref().map(MessageStatus::parse).transpose();
        Ok(MessageFilter { mailing: None, status: status.map_err(|why| Error::invalid("status", why))? })
    }
}

/// Adds the routes under the API's root.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/messages").route(get().to(list_messages)).default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/messages/{id}").route(get().to(get_message)).default_service(others("GET, HEAD")),
    )
    .service(
        web::resource("/mailings/{id}/messages")
            .route(get().to(list_mailing_messages))
            .default_service(others("GET, HEAD")),
    );
}

/// List messages
///
/// A page may hold fewer than `limit` and still have a next one: go on until `next_cursor` is null.
#[utoipa::path(get, path = "/api/v1/messages", operation_id = "list_messages", tag = "messages", params(ListQuery),
    responses(
        (status = 200, description = "One page", body = Page<Message>),
    ))]
pub async fn list_messages(
    service: web::Data<Messages>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let page = service.list(query.filter()?, paging::limit(query.limit.as_deref())?, query.cursor).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// List the messages of a mailing
#[utoipa::path(get, path = "/api/v1/mailings/{id}/messages", operation_id = "list_mailing_messages", tag = "messages",
    params(("id" = String, Path, format = Uuid, description = "The mailing"), ListQuery),
    responses(
        (status = 200, description = "One page", body = Page<Message>),
    ))]
pub async fn list_mailing_messages(
    service: web::Data<Messages>,
    id: web::Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let page = service
        .of_mailing(path_id(&id)?, query.filter()?, paging::limit(query.limit.as_deref())?, query.cursor)
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// Read a message with its attempts
#[utoipa::path(get, path = "/api/v1/messages/{id}", operation_id = "get_message", tag = "messages",
    params(("id" = String, Path, format = Uuid, description = "The message")),
    responses(
        (status = 200, description = "The message and everything that was tried", body = MessageWithAttempts),
    ))]
pub async fn get_message(service: web::Data<Messages>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}
