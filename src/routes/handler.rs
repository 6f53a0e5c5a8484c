//! Routes over HTTP: `/api/v1/routes`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::model::{Changes, DeliveryDraft, Route};
use super::usecase::Routes;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, given, path_id, present};
use crate::http::once::{KeyHeader, Posted, respond};
use crate::http::routing::{get, others};
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/routes")
            .route(get().to(list_routes))
            .route(web::post().to(create_route))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/routes/{id}")
            .route(get().to(get_route))
            .route(web::patch().to(patch_route))
            .route(web::delete().to(delete_route))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    );
}

/// A new route.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"event": "order.purchased", "deliveries": [
    {"channel": "email", "target": "seller", "template": "order.purchased"},
    {"channel": "push", "target": "seller", "template": "order.purchased"}
]}))]
pub struct RouteBody {
    /// The events that it is for: a name, in which `*` stands for a word, or at the end for all that follow. No two routes
    /// are for the same; an event is held against all.
    #[schema(min_length = 1, max_length = 100, pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$")]
    pub event: String,
    /// Words for people.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<String>,
    /// What clients may opt out of; the event's first word unless it is given.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<String>,
    /// Nobody may opt out of it, and quiet hours do not hold it back. False by default.
    #[serde(default)]
    pub transactional: bool,
    /// Whether it causes messages. True by default.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
    /// The messages, 1 to 20.
    #[schema(min_items = 1, max_items = 20)]
    pub deliveries: Vec<DeliveryDraft>,
}

fn yes() -> bool {
    true
}

/// What to change of a route; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"enabled": false}))]
pub struct RoutePatch {
    /// As in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$"
    )]
    pub event: Option<String>,
    /// As in a new route; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<Option<String>>,
    /// As in a new route; null: the event's first word.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<Option<String>>,
    /// As in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub transactional: Option<bool>,
    /// Whether it causes messages.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// All of them anew, 1 to 20.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1, max_items = 20)]
    pub deliveries: Option<Vec<DeliveryDraft>>,
}

impl From<RouteBody> for Changes {
    fn from(body: RouteBody) -> Self {
        Self {
            event: Some(body.event),
            description: Some(body.description),
            group: Some(body.group),
            transactional: Some(body.transactional),
            enabled: Some(body.enabled),
            deliveries: Some(body.deliveries),
        }
    }
}

impl From<RoutePatch> for Changes {
    fn from(patch: RoutePatch) -> Self {
        let RoutePatch { event, description, group, transactional, enabled, deliveries } = patch;
        Self { event, description, group, transactional, enabled, deliveries }
    }
}

/// Which routes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// 1 to 1000, by default 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<String>,
    /// The last list's `next_cursor`.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Make a route
///
/// The messages that it causes are checked here: their templates must exist.
#[utoipa::path(post, path = "/api/v1/routes", operation_id = "create_route", tag = "events",
    request_body = RouteBody, params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the route as it would be", body = Route),
        (status = 201, description = "The route, and its address in `Location`", body = Route,
            headers(("Location" = String, description = "The path of the route"))),
        (status = 409, description = "Another route is for the same events, or an equal request with this key is in work"),
    ))]
pub async fn create_route(
    routes: web::Data<Routes>,
    dry_run: DryRun,
    posted: Posted<RouteBody>,
) -> Result<HttpResponse> {
    Ok(respond(routes.create(posted.value.into(), dry_run.mode(posted.key)).await?))
}

/// List routes
///
/// In the order in which they were made.
#[utoipa::path(get, path = "/api/v1/routes", operation_id = "list_routes", tag = "events",
    params(ListQuery), responses((status = 200, description = "One page", body = Page<Route>)))]
pub async fn list_routes(routes: web::Data<Routes>, Query(query): Query<ListQuery>) -> Result<HttpResponse> {
    let (limit, cursor) = (paging::limit(query.limit.as_deref())?, paging::cursor(query.cursor.as_deref())?);
    let (items, next) = routes.list(cursor, limit).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Read a route
#[utoipa::path(get, path = "/api/v1/routes/{id}", operation_id = "get_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")),
    responses((status = 200, description = "The route", body = Route)))]
pub async fn get_route(routes: web::Data<Routes>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(routes.get(path_id(&id)?).await?))
}

/// Change a route
///
/// Events that were taken before are not touched.
#[utoipa::path(patch, path = "/api/v1/routes/{id}", operation_id = "patch_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")), request_body = RoutePatch,
    responses(
        (status = 200, description = "The route as it is now", body = Route),
        (status = 409, description = "Another route is for the same events"),
    ))]
pub async fn patch_route(
    routes: web::Data<Routes>,
    id: web::Path<String>,
    body: Json<RoutePatch>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(routes.patch(path_id(&id)?, body.0.into()).await?))
}

/// Delete a route
///
/// Events that were taken before are not touched.
#[utoipa::path(delete, path = "/api/v1/routes/{id}", operation_id = "delete_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_route(routes: web::Data<Routes>, id: web::Path<String>) -> Result<HttpResponse> {
    routes.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
