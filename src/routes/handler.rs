//! The HTTP handlers of routes: `/api/v1/routes`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::model::{DeliveryDraft, Route, RouteChanges};
use super::usecase::Routes;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Posted, respond};
use crate::http::json::{Json, Query, given, path_id, present};
use crate::http::operations::{Operations, operations};
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

/// A new route.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"event": "order.purchased", "deliveries": [
    {"channel": "email", "target": "seller", "template": "order.purchased"},
    {"channel": "push", "target": "seller", "template": "order.purchased"}
]}))]
pub struct RouteBody {
    /// The pattern of the events that it matches: a name in which `*` matches one word, or at the end all remaining
    /// words. It is unique among the routes. An event causes the messages of every matching route.
    #[schema(min_length = 1, max_length = 100, pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$")]
    pub event: String,
    /// A description for people.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<String>,
    /// The group that clients may opt out of; the event's first word if absent.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<String>,
    /// True if clients cannot opt out of it and quiet hours do not defer it. False by default.
    #[serde(default)]
    pub transactional: bool,
    /// False if it causes no messages. True by default.
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

/// Changes to a route: an absent field stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"enabled": false}))]
pub struct RoutePatch {
    /// The same as in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = r"^([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*$"
    )]
    pub event: Option<String>,
    /// The same as in a new route; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub description: Option<Option<String>>,
    /// The same as in a new route; null for the event's first word.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub group: Option<Option<String>>,
    /// The same as in a new route.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub transactional: Option<bool>,
    /// False if it causes no messages.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub enabled: Option<bool>,
    /// The messages, 1 to 20, which replace the present ones.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1, max_items = 20)]
    pub deliveries: Option<Vec<DeliveryDraft>>,
}

impl From<RouteBody> for RouteChanges {
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

impl From<RoutePatch> for RouteChanges {
    fn from(patch: RoutePatch) -> Self {
        let RoutePatch { event, description, group, transactional, enabled, deliveries } = patch;
        Self { event, description, group, transactional, enabled, deliveries }
    }
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
        (status = 200, description = "A dry run: the route that would be created", body = Route),
        (status = 201, description = "The route; its path is in `Location`", body = Route,
            headers(("Location" = String, description = "The path of the route"))),
        (status = 409, description = "Another route has the `event`, or an equal request with this key is running"),
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
/// Lists routes in the order of creation.
#[utoipa::path(get, path = "/api/v1/routes", operation_id = "list_routes", tag = "events",
    params(ListQuery), responses((status = 200, description = "A page of routes", body = Page<Route>)))]
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
/// Changes a route. Events that were accepted before are not affected.
#[utoipa::path(patch, path = "/api/v1/routes/{id}", operation_id = "patch_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")), request_body = RoutePatch,
    responses(
        (status = 200, description = "The changed route", body = Route),
        (status = 409, description = "Another route has the `event`"),
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
/// Deletes a route. Events that were accepted before are not affected.
#[utoipa::path(delete, path = "/api/v1/routes/{id}", operation_id = "delete_route", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The route")),
    responses((status = 204, description = "The route is deleted")))]
pub async fn delete_route(routes: web::Data<Routes>, id: web::Path<String>) -> Result<HttpResponse> {
    routes.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
