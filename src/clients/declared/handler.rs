//! Declared attributes over HTTP: `/api/v1/attributes`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::model::DeclaredAttribute;
use super::usecase::{Changes, DeclaredAttributes};
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, given, present};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::Answer;
use crate::kinds::AttributeKind;
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/attributes")
            .route(get().to(list_attributes))
            .route(web::post().to(create_attribute))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/attributes/{name}")
            .route(get().to(get_attribute))
            .route(web::patch().to(patch_attribute))
            .route(web::delete().to(delete_attribute))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    );
}

/// An attribute that is to have a type.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "member", "type": "boolean", "label": "Is a member of the club"}))]
pub struct AttributeBody {
    /// Its name: a letter or `_`, then letters, digits or `_`, and no name of another field of a client.
    #[schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    pub name: String,
    /// The type of its values.
    #[serde(rename = "type")]
    #[schema(value_type = AttributeKind)]
    pub kind: String,
    /// Words for people.
    #[schema(min_length = 1, max_length = 100)]
    pub label: Option<String>,
}

/// Changes to a declared attribute; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"type": "number"}))]
pub struct AttributePatch {
    /// The type of its values. Another one converts the clients again.
    #[serde(rename = "type", default, deserialize_with = "given")]
    #[schema(value_type = Option<AttributeKind>, nullable = false)]
    pub kind: Option<String>,
    /// Words for people; null clears them.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    pub label: Option<Option<String>>,
}

/// The part of the list of declared attributes that is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttributesQuery {
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Declare an attribute
///
/// From now on its values are checked and converted wherever they come in: a value that does not fit is a 422, and in an
/// import it is left out. What clients have already is converted in the background; `conversion` says how far that has come,
/// and how many values do not fit and stay as they are.
#[utoipa::path(post, path = "/api/v1/attributes", operation_id = "create_attribute", tag = "clients",
    request_body = AttributeBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the attribute as it would be", body = DeclaredAttribute),
        (status = 201, description = "The attribute, and its address in `Location`", body = DeclaredAttribute,
            headers(("Location" = String, description = "The path of the attribute"))),
        (status = 409, description = "The name is declared already"),
    ))]
pub async fn create_attribute(
    attributes: web::Data<DeclaredAttributes>,
    dry_run: DryRun,
    posted: Posted<AttributeBody>,
) -> Result<HttpResponse> {
    let AttributeBody { name, kind, label } = posted.value;
    let changes = Changes { kind: Some(kind), label: Some(label) };
    let answer =
        |made: &DeclaredAttribute| Answer::created(format!("/api/v1/attributes/{}", made.name), made);
    Ok(respond(attributes.declare(&name, changes, dry_run.mode(posted.key), answer).await?))
}

/// List declared attributes
///
/// By name. An attribute that is not declared is what it was given as.
#[utoipa::path(get, path = "/api/v1/attributes", operation_id = "list_attributes", tag = "clients", params(AttributesQuery),
    responses((status = 200, description = "A page of attributes", body = Page<DeclaredAttribute>)))]
pub async fn list_attributes(
    attributes: web::Data<DeclaredAttributes>,
    Query(query): Query<AttributesQuery>,
) -> Result<HttpResponse> {
    let cursor = paging::cursor(query.cursor.as_deref())?;
    let (items, next) = attributes.list(cursor, paging::limit(query.limit.as_deref())?).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|name| name.to_string()) }))
}

/// Read a declared attribute
#[utoipa::path(get, path = "/api/v1/attributes/{name}", operation_id = "get_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")),
    responses((status = 200, description = "The attribute", body = DeclaredAttribute)))]
pub async fn get_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(attributes.get(name.into_inner()).await?))
}

/// Change a declared attribute
#[utoipa::path(patch, path = "/api/v1/attributes/{name}", operation_id = "patch_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")), request_body = AttributePatch,
    responses((status = 200, description = "The attribute as it is now", body = DeclaredAttribute)))]
pub async fn patch_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
    body: Json<AttributePatch>,
) -> Result<HttpResponse> {
    let Json(AttributePatch { kind, label }) = body;
    let changed = attributes.patch(name.into_inner(), Changes { kind, label }).await?;
    Ok(HttpResponse::Ok().json(changed))
}

/// Forget the type of an attribute
///
/// The values that clients have stay as they are.
#[utoipa::path(delete, path = "/api/v1/attributes/{name}", operation_id = "delete_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")),
    responses((status = 204, description = "It has no type any more")))]
pub async fn delete_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    attributes.delete(name.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}
