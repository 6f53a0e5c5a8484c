//! Endpoints over HTTP: `/api/v1/webhook-endpoints`.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::model::WebhookEndpoint;
use super::usecase::{Answering, Changes, Endpoints};
use crate::channels::webhook::Secret;
use crate::db::types::EndpointId;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::json::{Json, Query, given, path_id, present};
use crate::http::once::{KeyHeader, Keyed, Posted, respond};
use crate::http::routing::{get, others};
use crate::idempotency::{Answer, Mode};
use crate::paging::{self, Page};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/webhook-endpoints")
            .route(get().to(list_webhook_endpoints))
            .route(web::post().to(create_webhook_endpoint))
            .default_service(others("GET, HEAD, POST")),
    )
    .service(
        web::resource("/webhook-endpoints/{id}")
            .route(get().to(get_webhook_endpoint))
            .route(web::patch().to(patch_webhook_endpoint))
            .route(web::delete().to(delete_webhook_endpoint))
            .default_service(others("GET, HEAD, PATCH, DELETE")),
    )
    .service(
        web::resource("/webhook-endpoints/{id}/secret/rotate")
            .route(web::post().to(rotate_webhook_secret))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/webhook-endpoints/{id}/enable")
            .route(web::post().to(enable_webhook_endpoint))
            .default_service(others("POST")),
    )
    .service(
        web::resource("/webhook-endpoints/{id}/disable")
            .route(web::post().to(disable_webhook_endpoint))
            .default_service(others("POST")),
    );
}

/// An endpoint to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/hooks/fanfare", "description": "orders"}))]
pub struct WebhookEndpointBody {
    /// Where messages are posted to, as recipients name it. `https`, and not of a private network.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// Words for people.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<String>,
    /// `whsec_` and 24 to 64 bytes in base64. Without one a new one is made. It is never shown again.
    #[schema(write_only)]
    secret: Option<String>,
}

/// What to change of an endpoint; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"description": "orders and returns"}))]
pub struct WebhookEndpointPatch {
    /// As in a new endpoint. Another one has not failed.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 2048)]
    url: Option<String>,
    /// As in a new endpoint; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<Option<String>>,
    /// A new secret. The old one signs as well for a while.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, write_only)]
    secret: Option<String>,
}

/// An endpoint and its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct WebhookEndpointWithSecret {
    #[serde(flatten)]
    endpoint: WebhookEndpoint,
    /// To verify the signatures with.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
}

impl WebhookEndpointWithSecret {
    fn new(endpoint: &WebhookEndpoint, secret: &Secret) -> Self {
        Self { endpoint: endpoint.clone(), secret: secret.expose().to_owned() }
    }
}

/// Register an endpoint of webhooks
///
/// Messages to its URL are signed with its own secret (Standard Webhooks). The answer shows it, for the only time.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints",
    operation_id = "create_webhook_endpoint",
    tag = "webhooks",
    request_body = WebhookEndpointBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "For a dry run: the endpoint as it would be, with a secret that is not kept", body = WebhookEndpointWithSecret),
        (status = 201, description = "The endpoint with its secret, and its address in `Location`",
            body = WebhookEndpointWithSecret,
            headers(("Location" = String, description = "The path of the endpoint"))),
        (status = 409, description = "The URL is registered"),
    )
)]
pub async fn create_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    dry_run: DryRun,
    posted: Posted<WebhookEndpointBody>,
) -> Result<HttpResponse> {
    let WebhookEndpointBody { url, description, secret } = posted.value;
    let new = Changes { url: Some(url), description: Some(description), secret };
    let answer: Answering = |endpoint, secret| {
        let location = format!("/api/v1/webhook-endpoints/{}", endpoint.id);
        Answer::created(location, &WebhookEndpointWithSecret::new(endpoint, secret))
    };
    Ok(respond(endpoints.create(new, dry_run.mode(posted.key), answer).await?))
}

/// Read an endpoint
#[utoipa::path(
    get,
    path = "/api/v1/webhook-endpoints/{id}",
    operation_id = "get_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 200, description = "The endpoint", body = WebhookEndpoint))
)]
pub async fn get_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(endpoints.get(path_id(&id)?).await?))
}

/// Which endpoints to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// How many to answer, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<EndpointId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List endpoints
///
/// Those that were registered and those that fail, in the order of their making, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/webhook-endpoints",
    operation_id = "list_webhook_endpoints",
    tag = "webhooks",
    params(ListQuery),
    responses((status = 200, description = "A page of endpoints", body = Page<WebhookEndpoint>))
)]
pub async fn list_webhook_endpoints(
    endpoints: web::Data<Endpoints>,
    query: Query<ListQuery>,
) -> Result<HttpResponse> {
    let cursor = paging::cursor(query.0.cursor.as_deref())?;
    let (items, next) = endpoints.list(cursor, paging::limit(query.0.limit.as_deref())?).await?;
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// Change an endpoint
///
/// A field that is absent stays, a description that is null is cleared.
#[utoipa::path(
    patch,
    path = "/api/v1/webhook-endpoints/{id}",
    operation_id = "patch_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    request_body = WebhookEndpointPatch,
    responses(
        (status = 200, description = "The endpoint as it is now", body = WebhookEndpoint),
        (status = 409, description = "Another endpoint has the URL"),
    )
)]
pub async fn patch_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
    body: Json<WebhookEndpointPatch>,
) -> Result<HttpResponse> {
    let id = path_id(&id)?;
    let WebhookEndpointPatch { url, description, secret } = body.0;
    Ok(HttpResponse::Ok().json(endpoints.patch(id, Changes { url, description, secret }).await?))
}

/// Delete an endpoint
///
/// Messages to its URL are signed with the default secret from then on.
#[utoipa::path(
    delete,
    path = "/api/v1/webhook-endpoints/{id}",
    operation_id = "delete_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 204, description = "It is gone"))
)]
pub async fn delete_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    endpoints.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Give an endpoint a new secret
///
/// The answer shows it, for the only time. The old one signs as well for a while (a day by default).
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints/{id}/secret/rotate",
    operation_id = "rotate_webhook_secret",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint"), KeyHeader),
    responses((status = 200, description = "The endpoint with its new secret", body = WebhookEndpointWithSecret))
)]
pub async fn rotate_webhook_secret(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
    Keyed(key): Keyed,
) -> Result<HttpResponse> {
    let answer: Answering =
        |endpoint, secret| Answer::new(200, None, &WebhookEndpointWithSecret::new(endpoint, secret));
    Ok(respond(endpoints.rotate_secret(path_id(&id)?, Mode::Commit(key), answer).await?))
}

/// Enable an endpoint
///
/// It is sent to again, as if it had never failed. Messages that failed meanwhile stay failed.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints/{id}/enable",
    operation_id = "enable_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 200, description = "The endpoint as it is now", body = WebhookEndpoint))
)]
pub async fn enable_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(endpoints.enable(path_id(&id)?).await?))
}

/// Disable an endpoint
///
/// Messages to it fail until it is enabled.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints/{id}/disable",
    operation_id = "disable_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 200, description = "The endpoint as it is now", body = WebhookEndpoint))
)]
pub async fn disable_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(endpoints.disable(path_id(&id)?).await?))
}
