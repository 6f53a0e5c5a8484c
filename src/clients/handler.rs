//! The HTTP handlers of clients: `/api/v1/clients`.

mod file;
mod gunzip;
mod import_query;
mod schema;
mod spool;
mod upload;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

pub use self::schema::{ClientBody, ClientChanges};
pub use self::upload::*;
use super::model::{Client, ClientPatch, ListFilter, OperatorCode, Tag};
use super::usecase::Clients;
use super::views::ClientView;
use crate::db::types::ClientId;
use crate::error::{Complaints, Result};
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::export;
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_clients: ClientsRead,
        create_client: ClientsWrite,
        import_clients: ClientsWrite,
        get_client: ClientsRead,
        replace_client: ClientsWrite,
        patch_client: ClientsWrite,
    ]
}

/// Create a client
///
/// Creates a client. It needs at least one address: a phone number, an e-mail address, a push token or an external id.
/// The operator code of a Russian number is derived from the number.
#[utoipa::path(
    post,
    path = "/api/v1/clients",
    operation_id = "create_client",
    tag = "clients",
    request_body = ClientBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the client that would be created", body = ClientView),
        (status = 201, description = "The client, with its path in `Location`", body = ClientView,
            headers(("Location" = String, description = "The path of the client"))),
        (status = 409, description = "Another client has the number or the external id"),
    )
)]
pub async fn create_client(
    clients: web::Data<Clients>,
    dry_run: DryRun,
    posted: Posted<Map<String, Value>>,
) -> Result<HttpResponse> {
    let patch = ClientPatch::from_json(posted.value)?;
    let mode = dry_run.mode(posted.key);
    let answer = |made: &Client| {
        let path = format!("/api/v1/clients/{}", made.id);
        IdempotentResponse::created(path, &ClientView::from(made.clone()))
    };
    Ok(respond(clients.create(patch, mode, answer).await?))
}

/// Read a client
#[utoipa::path(
    get,
    path = "/api/v1/clients/{id}",
    operation_id = "get_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    responses(
        (status = 200, description = "The client", body = ClientView),
    )
)]
pub async fn get_client(clients: web::Data<Clients>, id: web::Path<String>) -> Result<HttpResponse> {
    let client = clients.get(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(ClientView::from(client)))
}

/// The query parameters of the list of clients.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientsQuery {
    /// Lists only clients with this operator code.
    #[param(value_type = Option<OperatorCode>, inline, nullable = false)]
    mobile_operator_code: Option<String>,
    /// Lists only clients with this tag.
    #[param(value_type = Option<Tag>, inline, nullable = false)]
    tag: Option<String>,
    /// The largest number of items to return, 1 to 1000; for a CSV file the largest number of rows, unlimited if
    /// absent.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<ClientId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List clients
///
/// Lists clients in the order of creation, a page at a time. With `Accept: text/csv` it returns all of them as a file
/// that can be imported again, with a column for each field and each attribute.
#[utoipa::path(
    get,
    path = "/api/v1/clients",
    operation_id = "list_clients",
    tag = "clients",
    params(ClientsQuery),
    responses(
        (status = 200, description = "A page of clients, or all of them as CSV", content(
            (Page<ClientView> = "application/json"), (String = "text/csv"))),
    )
)]
pub async fn list_clients(
    clients: web::Data<Clients>,
    request: HttpRequest,
    query: Query<ClientsQuery>,
) -> Result<HttpResponse> {
    let query = query.0;
    let mut wrong = Complaints::default();
    let code = query.mobile_operator_code.map(|text| text.parse()).transpose();
    let tag = query.tag.map(|text| text.parse()).transpose();
    let filter = ListFilter {
        mobile_operator_code: wrong.check("mobile_operator_code", code).flatten(),
        tag: wrong.check("tag", tag).flatten(),
    };
    wrong.finish()?;
    let cursor = paging::cursor(query.cursor.as_deref())?;
    if export::is_wanted(&request) {
        let most = export::limit(query.limit.as_deref())?;
        return file::export(&request, clients.get_ref().clone(), filter, (cursor, most)).await;
    }
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = clients.list(filter, cursor, limit, ClientView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Replace a client
///
/// Replaces a client. Fields that are absent from the body are cleared; the id and the time of creation stay.
#[utoipa::path(
    put,
    path = "/api/v1/clients/{id}",
    operation_id = "replace_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    request_body = ClientBody,
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        (status = 409, description = "Another client has the number or the external id"),
    )
)]
pub async fn replace_client(
    clients: web::Data<Clients>,
    id: web::Path<String>,
    body: Json<Map<String, Value>>,
) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let patch = ClientPatch::from_json(body.0)?;
    Ok(HttpResponse::Ok().json(ClientView::from(clients.replace(id, patch).await?)))
}

/// Change a client
///
/// Changes a client. An absent field stays, a null field is cleared. Attributes are merged (RFC 7396): null removes an
/// attribute. A new Russian number brings its own operator code, unless the body has one.
#[utoipa::path(
    patch,
    path = "/api/v1/clients/{id}",
    operation_id = "patch_client",
    tag = "clients",
    params(("id" = uuid::Uuid, Path, description = "The id of the client")),
    request_body = ClientChanges,
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        (status = 409, description = "Another client has the number or the external id"),
    )
)]
pub async fn patch_client(
    clients: web::Data<Clients>,
    id: web::Path<String>,
    body: Json<Map<String, Value>>,
) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let patch = ClientPatch::from_json(body.0)?;
    Ok(HttpResponse::Ok().json(ClientView::from(clients.patch(id, patch).await?)))
}
