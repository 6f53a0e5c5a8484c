//! The HTTP handlers of webhook endpoints: `/api/v1/webhook-endpoints`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::usecase::{BuildEndpointResponse, EndpointChanges, Endpoints};
use super::views::{WebhookEndpointView, WebhookEndpointWithSecret};
use crate::db::types::EndpointId;
use crate::error::Result;
use crate::http::dry_run::{DryRun, DryRunQuery};
use crate::http::idempotency_header::{KeyHeader, Keyed, Posted, respond};
use crate::http::json::{Json, Query, given, path_id, present};
use crate::http::operations::{Operations, operations};
use crate::idempotency::{IdempotentResponse, Mode};
use crate::paging::{self, Page};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        list_webhook_endpoints: Admin,
        create_webhook_endpoint: Admin,
        get_webhook_endpoint: Admin,
        patch_webhook_endpoint: Admin,
        delete_webhook_endpoint: Admin,
        rotate_webhook_secret: Admin,
        enable_webhook_endpoint: Admin,
        disable_webhook_endpoint: Admin,
    ]
}

/// An endpoint to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/hooks/fanfare", "description": "orders"}))]
pub struct WebhookEndpointBody {
    /// The URL that messages are posted to, exactly as in the recipient. It must be `https` and not in a private
    /// network.
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// A description for people.
    #[schema(max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<String>,
    /// The secret: `whsec_` and 24 to 64 bytes in base64. A new secret is generated if absent. It is never shown again.
    #[schema(write_only)]
    secret: Option<String>,
}

/// Changes to an endpoint: an absent field stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"description": "orders and returns"}))]
pub struct WebhookEndpointPatch {
    /// The same as in a new endpoint. A different URL resets the failures.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 2048)]
    url: Option<String>,
    /// The same as in a new endpoint; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 500, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    description: Option<Option<String>>,
    /// A new secret. Messages are signed with the old secret as well for a while.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, write_only)]
    secret: Option<String>,
}

/// Register a webhook endpoint
///
/// Registers an endpoint. Messages to its URL are signed with its own secret (Standard Webhooks). Only this response
/// contains the secret.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints",
    operation_id = "create_webhook_endpoint",
    tag = "webhooks",
    request_body = WebhookEndpointBody,
    params(DryRunQuery, KeyHeader),
    responses(
        (status = 200, description = "A dry run: the endpoint that would be created, with a secret that is not stored",
            body = WebhookEndpointWithSecret),
        (status = 201, description = "The endpoint with its secret; its path is in `Location`",
            body = WebhookEndpointWithSecret,
            headers(("Location" = String, description = "The path of the endpoint"))),
        (status = 409, description = "The URL is already registered"),
    )
)]
pub async fn create_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    dry_run: DryRun,
    posted: Posted<WebhookEndpointBody>,
) -> Result<HttpResponse> {
    let WebhookEndpointBody { url, description, secret } = posted.value;
    let new = EndpointChanges { url: Some(url), description: Some(description), secret };
    let answer: BuildEndpointResponse = |endpoint, secret| {
        let location = format!("/api/v1/webhook-endpoints/{}", endpoint.id);
        IdempotentResponse::created(location, &WebhookEndpointWithSecret::new(endpoint, secret))
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
    responses((status = 200, description = "The endpoint", body = WebhookEndpointView))
)]
pub async fn get_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let endpoint = endpoints.get(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(WebhookEndpointView::from(&endpoint)))
}

/// The query parameters of the list of endpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The largest number of items to return, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 50, value_type = Option<u32>, nullable = false)]
    limit: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<EndpointId>, inline, nullable = false)]
    cursor: Option<String>,
}

/// List endpoints
///
/// Lists registered and failing endpoints in the order of creation, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/webhook-endpoints",
    operation_id = "list_webhook_endpoints",
    tag = "webhooks",
    params(ListQuery),
    responses((status = 200, description = "A page of endpoints", body = Page<WebhookEndpointView>))
)]
pub async fn list_webhook_endpoints(
    endpoints: web::Data<Endpoints>,
    query: Query<ListQuery>,
) -> Result<HttpResponse> {
    let cursor = paging::cursor(query.0.cursor.as_deref())?;
    let (items, next) = endpoints.list(cursor, paging::limit(query.0.limit.as_deref())?).await?;
    let page = Page { items, next_cursor: next.map(|id| id.to_string()) };
    Ok(HttpResponse::Ok().json(page.view::<WebhookEndpointView<'_>>()))
}

/// Change an endpoint
///
/// Changes an endpoint. An absent field stays, a null description is cleared.
#[utoipa::path(
    patch,
    path = "/api/v1/webhook-endpoints/{id}",
    operation_id = "patch_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    request_body = WebhookEndpointPatch,
    responses(
        (status = 200, description = "The changed endpoint", body = WebhookEndpointView),
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
    let endpoint = endpoints.patch(id, EndpointChanges { url, description, secret }).await?;
    Ok(HttpResponse::Ok().json(WebhookEndpointView::from(&endpoint)))
}

/// Delete an endpoint
///
/// Deletes an endpoint. Messages to its URL are signed with the default secret from then on.
#[utoipa::path(
    delete,
    path = "/api/v1/webhook-endpoints/{id}",
    operation_id = "delete_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 204, description = "The endpoint is deleted"))
)]
pub async fn delete_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    endpoints.delete(path_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Rotate the secret of an endpoint
///
/// Replaces the secret with a generated one. Only this response contains it. Messages are signed with the old secret as
/// well for a while (a day by default).
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
    let answer: BuildEndpointResponse = |endpoint, secret| {
        IdempotentResponse::new(200, None, &WebhookEndpointWithSecret::new(endpoint, secret))
    };
    Ok(respond(endpoints.rotate_secret(path_id(&id)?, Mode::Commit(key), answer).await?))
}

/// Enable an endpoint
///
/// Enables an endpoint and resets its failures. Messages that failed in the meantime stay failed.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints/{id}/enable",
    operation_id = "enable_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 200, description = "The changed endpoint", body = WebhookEndpointView))
)]
pub async fn enable_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let endpoint = endpoints.enable(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(WebhookEndpointView::from(&endpoint)))
}

/// Disable an endpoint
///
/// Disables an endpoint. Messages to it fail until it is enabled.
#[utoipa::path(
    post,
    path = "/api/v1/webhook-endpoints/{id}/disable",
    operation_id = "disable_webhook_endpoint",
    tag = "webhooks",
    params(("id" = uuid::Uuid, Path, description = "The id of the endpoint")),
    responses((status = 200, description = "The changed endpoint", body = WebhookEndpointView))
)]
pub async fn disable_webhook_endpoint(
    endpoints: web::Data<Endpoints>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    let endpoint = endpoints.disable(path_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(WebhookEndpointView::from(&endpoint)))
}
