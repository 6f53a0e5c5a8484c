//! The HTTP handlers of credentials: `/api/v1/credentials`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{CredentialBody, CredentialPatch, NewCredential};
use super::model::Credential;
use super::usecase::Credentials;
use super::views::CredentialView;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, Redacted};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_credentials: CredentialsWrite,
        create_credential: CredentialsWrite,
        get_credential: CredentialsWrite,
        patch_credential: CredentialsWrite,
        delete_credential: CredentialsWrite,
    ]
}

/// The query parameters of the list of credentials.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CredentialsQuery {
    /// The largest number of items to return, 1 to 1000, by default 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(nullable = false, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    cursor: Option<String>,
}

/// Create a credential
///
/// Stores a credential, encrypted. Its secrets are never shown again. Requests refer to it by its name.
#[utoipa::path(post, path = "/api/v1/credentials", operation_id = "create_credential", tag = "requests",
    request_body = NewCredential, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the credential that would be created", body = CredentialView),
        (status = 201, description = "The credential without its secrets, with its path in `Location`",
            body = CredentialView,
            headers(("Location" = String, description = "The path of the credential"))),
        (status = 409, description = "Another credential has the name, the service has no key to encrypt it with, or \
            an equal request with this key is running"),
    ))]
pub async fn create_credential(
    credentials: web::Data<Credentials>,
    dry_run: DryRun,
    posted: Posted<Redacted<CredentialBody>>,
) -> Result<HttpResponse> {
    let (name, kind, changes) = posted.value.0?.parts();
    let answer = |made: &Credential| {
        let path = format!("/api/v1/credentials/{}", made.name);
        IdempotentResponse::created(path, &CredentialView::from(made.clone()))
    };
    Ok(respond(credentials.create(&name, kind, changes, dry_run.mode(posted.key), answer).await?))
}

/// List credentials
///
/// Lists credentials in the order of their names, without their secrets.
#[utoipa::path(get, path = "/api/v1/credentials", operation_id = "list_credentials", tag = "requests",
    params(CredentialsQuery), responses((status = 200, description = "A page of credentials", body = Page<CredentialView>)))]
pub async fn list_credentials(
    credentials: web::Data<Credentials>,
    Query(query): Query<CredentialsQuery>,
) -> Result<HttpResponse> {
    let (limit, cursor) = (paging::limit(query.limit.as_deref())?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = credentials.list(cursor, limit, CredentialView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|name| name.to_string()) }))
}

/// Read a credential
///
/// Returns a credential without its secrets.
#[utoipa::path(get, path = "/api/v1/credentials/{name}", operation_id = "get_credential", tag = "requests",
    params(("name" = super::model::CredentialName, Path, description = "The name of the credential")),
    responses((status = 200, description = "The credential", body = CredentialView)))]
pub async fn get_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(CredentialView::from(credentials.get(&name).await?)))
}

/// Change a credential
///
/// Changes fields of a credential, which must be fields of its kind. A new secret is used for every later attempt, also
/// of waiting requests. An absent field keeps its value. Null clears `scope`, `audience` and `description`.
#[utoipa::path(patch, path = "/api/v1/credentials/{name}", operation_id = "patch_credential", tag = "requests",
    params(("name" = super::model::CredentialName, Path, description = "The name of the credential")),
    request_body = CredentialPatch,
    responses(
        (status = 200, description = "The changed credential", body = CredentialView),
        (status = 409, description = "The service lacks the key to decrypt or encrypt it"),
    ))]
pub async fn patch_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
    body: Json<Redacted<CredentialPatch>>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(CredentialView::from(credentials.patch(&name, body.0.0?.into()).await?)))
}

/// Delete a credential
///
/// Deletes a credential. Requests that use it fail from then on.
#[utoipa::path(delete, path = "/api/v1/credentials/{name}", operation_id = "delete_credential", tag = "requests",
    params(("name" = super::model::CredentialName, Path, description = "The name of the credential")),
    responses((status = 204, description = "The credential was deleted")))]
pub async fn delete_credential(
    credentials: web::Data<Credentials>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    credentials.delete(&name).await?;
    Ok(HttpResponse::NoContent().finish())
}
