//! The HTTP handlers of declared attributes: `/api/v1/attributes`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::model::DeclaredAttribute;
use super::usecase::{Changes, DeclaredAttributes};
use super::views::DeclaredAttributeView;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, given, present};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::kinds::AttributeKind;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_attributes: ClientsRead,
        create_attribute: ClientsWrite,
        get_attribute: ClientsRead,
        patch_attribute: ClientsWrite,
        delete_attribute: ClientsWrite,
    ]
}

/// The declaration of an attribute.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "member", "type": "boolean", "label": "Is a member of the club"}))]
pub struct AttributeBody {
    /// The name: a letter or `_`, then letters, digits or `_`; not the name of a field of a client.
    #[schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    pub name: String,
    /// The type of its values.
    #[serde(rename = "type")]
    #[schema(value_type = AttributeKind)]
    pub kind: String,
    /// A label for people.
    #[schema(min_length = 1, max_length = 100)]
    pub label: Option<String>,
}

/// Changes to a declared attribute; an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"type": "number"}))]
pub struct AttributePatch {
    /// The type of its values. A different type starts the conversion again.
    #[serde(rename = "type", default, deserialize_with = "given")]
    #[schema(value_type = Option<AttributeKind>, nullable = false)]
    pub kind: Option<String>,
    /// A label for people; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    pub label: Option<Option<String>>,
}

/// The query parameters of the list of declared attributes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttributesQuery {
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Declare an attribute
///
/// Declares an attribute. Its values are then checked and converted by every operation: a value that does not fit is
/// refused with 422, and an import skips it. Existing values are converted in the background; `conversion` shows the
/// progress, and the number of values that do not fit and stay as they are.
#[utoipa::path(post, path = "/api/v1/attributes", operation_id = "create_attribute", tag = "clients",
    request_body = AttributeBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the attribute that would be declared", body = DeclaredAttributeView),
        (status = 201, description = "The attribute, with its path in `Location`", body = DeclaredAttributeView,
            headers(("Location" = String, description = "The path of the attribute"))),
        (status = 409, description = "The name is already declared"),
    ))]
pub async fn create_attribute(
    attributes: web::Data<DeclaredAttributes>,
    dry_run: DryRun,
    posted: Posted<AttributeBody>,
) -> Result<HttpResponse> {
    let AttributeBody { name, kind, label } = posted.value;
    let changes = Changes { kind: Some(kind), label: Some(label) };
    let answer = |made: &DeclaredAttribute| {
        let path = format!("/api/v1/attributes/{}", made.name);
        IdempotentResponse::created(path, &DeclaredAttributeView::from(made.clone()))
    };
    Ok(respond(attributes.declare(&name, changes, dry_run.mode(posted.key), answer).await?))
}

/// List declared attributes
///
/// Lists the declared attributes by name. Attributes without a declaration keep the type in which they were given.
#[utoipa::path(get, path = "/api/v1/attributes", operation_id = "list_attributes", tag = "clients", params(AttributesQuery),
    responses((status = 200, description = "A page of attributes", body = Page<DeclaredAttributeView>)))]
pub async fn list_attributes(
    attributes: web::Data<DeclaredAttributes>,
    Query(query): Query<AttributesQuery>,
) -> Result<HttpResponse> {
    let cursor = paging::cursor(query.cursor.as_deref())?;
    let limit = paging::limit(query.limit.as_deref())?;
    let (items, next) = attributes.list(cursor, limit, DeclaredAttributeView::from).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|name| name.to_string()) }))
}

/// Read a declared attribute
#[utoipa::path(get, path = "/api/v1/attributes/{name}", operation_id = "get_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")),
    responses((status = 200, description = "The attribute", body = DeclaredAttributeView)))]
pub async fn get_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(DeclaredAttributeView::from(attributes.get(name.into_inner()).await?)))
}

/// Change a declared attribute
#[utoipa::path(patch, path = "/api/v1/attributes/{name}", operation_id = "patch_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")), request_body = AttributePatch,
    responses((status = 200, description = "The changed attribute", body = DeclaredAttributeView)))]
pub async fn patch_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
    body: Json<AttributePatch>,
) -> Result<HttpResponse> {
    let Json(AttributePatch { kind, label }) = body;
    let changed = attributes.patch(name.into_inner(), Changes { kind, label }).await?;
    Ok(HttpResponse::Ok().json(DeclaredAttributeView::from(changed)))
}

/// Delete a declared attribute
///
/// Deletes the declaration only: existing values stay as they are.
#[utoipa::path(delete, path = "/api/v1/attributes/{name}", operation_id = "delete_attribute", tag = "clients",
    params(("name" = String, Path, description = "The name of the attribute")),
    responses((status = 204, description = "Deleted")))]
pub async fn delete_attribute(
    attributes: web::Data<DeclaredAttributes>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    attributes.delete(name.into_inner()).await?;
    Ok(HttpResponse::NoContent().finish())
}
