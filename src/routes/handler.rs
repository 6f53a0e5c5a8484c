//! The HTTP handlers of routes: `/api/v1/routes`.

mod schema;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::schema::{DeliveryDraft, RouteBody, RoutePatch};
use super::model::Route;
use super::usecase::Routes;
use super::views::RouteView;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, path_id};
use crate::http::operations::{Operations, operations};
use crate::idempotency::IdempotentResponse;
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_routes: TemplatesRead,
        create_route: TemplatesWrite,
        get_route: TemplatesRead,
        patch_route: TemplatesWrite,
        delete_route: TemplatesWrite,
    ]
}

/// The query parameters of the list of routes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The largest number of items to return, 1 to 1000; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Create a route
///
/// Creates a route. Its messages are validated: their templates must exist.
#[utoipa::path(post, path = "/api/v1/routes", operation_id = "create_route", tag = "events",
    request_body = RouteBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "A dry run: the route that would be created", body = RouteView),
        (status = 201, description = "The route; its path is in `Location`", body = RouteView,
            headers(("Location" = String, description = "The path of the route"))),
        (status = 409, description = "Another route has the `event`, or an equal request with this key is running"),
    ))]
pub async fn create_route(
    routes: web::Data<Routes>,
    dry_run: DryRun,
    posted: Posted<RouteBody>,
) -> Result<HttpResponse> {
    let answer = |route: &Route| {
        IdempotentResponse::created(format!("/api/v1/routes/{}", route.id), &RouteView::from(route))
    };
    Ok(respond(routes.create(posted.value.into(), dry_run.mode(posted.key), answer).await?))
}

/// List routes
///
/// Lists routes in the order of creation.
#[utoipa::path(get, path = "/api/v1/routes", operation_id = "list_routes", tag = "events",
    params(ListQuery), responses((status = 200, description = "A page of routes", body = Page<RouteView>)))]
pub async fn list_routes(routes: web::Data<Routes>, Query(query): Query<ListQuery>) -> Result<HttpResponse> {
    let (limit, cursor) = (paging::limit(query.limit.as_deref())?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = routes.list(cursor, limit).await?;
    let page = Page { items, next_cursor: next.map(|id| id.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<RouteView<'_>>()))
}

/// Read a route
#[utoipa::path(get, path = "/api/v1/routes/{id}", operation_id = "get_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")),
    responses((status = 200, description = "The route", body = RouteView)))]
pub async fn get_route(routes: web::Data<Routes>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RouteView::from(&routes.get(path_id(&id)?).await?)))
}

/// Change a route
///
/// Changes a route. Events that were accepted before are not affected.
#[utoipa::path(patch, path = "/api/v1/routes/{id}", operation_id = "patch_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")), request_body = RoutePatch,
    responses(
        (status = 200, description = "The changed route", body = RouteView),
        (status = 409, description = "Another route has the `event`"),
    ))]
pub async fn patch_route(
    routes: web::Data<Routes>,
    id: web::Path<String>,
    body: Json<RoutePatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(RouteView::from(&routes.patch(path_id(&id)?, body.0.into()).await?)))
}

/// Delete a route
///
/// Deletes a route. Events that were accepted before are not affected.
#[utoipa::path(delete, path = "/api/v1/routes/{id}", operation_id = "delete_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")),
    responses((status = 204, description = "The route is deleted")))]
pub async fn delete_route(routes: web::Data<Routes>, id: web::Path<String>) -> Result<HttpResponse> {
    routes.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
