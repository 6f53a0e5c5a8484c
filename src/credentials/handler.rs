//! Credentials over HTTP: `/api/v1/credentials`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{CredentialBody, CredentialPatch, NewCredential};
use super::model::Credential;
use super::usecase::Credentials;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Discreet, Json, Query};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/credentials")
            .route(get().to(list_credentials))
            .route(web::post().to(create_credential))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/credentials/{name}")
            .route(get().to(get_credential))
            .route(web::patch().to(patch_credential))
            .route(web::delete().to(delete_credential))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    );
}

/// Which credentials to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// 1 to 1000, by default 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<String>,
    /// The last list's `next_cursor`.
    #[param(nullable = false, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    cursor: Option<String>,
}

/// Keep a credential
///
/// It is encrypted, and what of it is secret is never shown again. Requests name it.
#[utoipa::path(post, path = "/api/v1/credentials", operation_id = "create_credential", tag = "requests",
    request_body = NewCredential, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the credential as it would be", body = Credential),
        (status = 201, description = "The credential without its secrets, and its address in `Location`", body = Credential,
            headers(("Location" = String, description = "The path of the credential"))),
        (status = 409, description = "Another credential has the name, the service has no key to encrypt it with, or an \
            equal request with this key is in work"),
    ))]
pub async fn create_credential(
    credentials: web::Data<Credentials>,
    dry_run: DryRun,
    posted: Posted<Discreet<CredentialBody>>,
) -> Result<HttpResponse> {
    let (name, kind, changes) = posted.value.0?.parts();
    Ok(respond(credentials.create(&name, kind, changes, dry_run.mode(posted.key)).await?))
}

/// List credentials
///
/// In the order of their names, without their secrets.
#[utoipa::path(get, path = "/api/v1/credentials", operation_id = "list_credentials", tag = "requests",
    params(ListQuery), responses((status = 200, description = "One page", body = Page<Credential>)))]
pub async fn list_credentials(
    credentials: web::Data<Credentials>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse> {
    let (limit, cursor) = (paging::limit(query.limit.as_deref())?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = credentials.list(cursor, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|name| name.to_string()) }))
}

/// Read a credential
///
/// Without its secrets.
#[utoipa::path(get, path = "/api/v1/credentials/{name}", operation_id = "get_credential", tag = "requests",
    params(("name" = super::model::Name, Path, description = "The credential")),
    responses((status = 200, description = "The credential", body = Credential)))]
pub async fn get_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(credentials.get(&name).await?))
}

/// Change a credential
///
/// A new secret holds for every attempt from then on, also of requests that wait. A field that is absent stays; `scope`,
/// `audience` and `description` are cleared by null. Fields are those of its kind.
#[utoipa::path(patch, path = "/api/v1/credentials/{name}", operation_id = "patch_credential", tag = "requests",
    params(("name" = super::model::Name, Path, description = "The credential")), request_body = CredentialPatch,
    responses(
        (status = 200, description = "The credential as it is now", body = Credential),
        (status = 409, description = "The service has no key that opens it, or none to encrypt it with"),
    ))]
pub async fn patch_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
    body: Json<Discreet<CredentialPatch>>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(credentials.patch(&name, body.0.0?.into()).await?))
}

/// Delete a credential
///
/// Requests that name it fail from then on.
#[utoipa::path(delete, path = "/api/v1/credentials/{name}", operation_id = "delete_credential", tag = "requests",
    params(("name" = super::model::Name, Path, description = "The credential")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    credentials.delete(&name).await?;
    Ok(HttpResponse::NoContent().finish())
}
