//! `/metrics`, and the middleware that counts requests.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ContentType, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, web};
use tokio::runtime::Handle;

use super::connection::Connections;
use super::operations::{Operations, operations};
use crate::db::Db;
use crate::error::Result;
use crate::metrics::Metrics;

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_metrics: Public,
    ]
}

/// Get the metrics
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub async fn get_metrics(
    metrics: web::Data<Metrics>,
    db: web::Data<Db>,
    runtime: web::Data<Handle>,
    connections: web::Data<Connections>,
) -> Result<HttpResponse> {
    let tasks = runtime.metrics().num_alive_tasks();
    metrics.active_tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    metrics.http_connections.set(i64::try_from(connections.count()).unwrap_or(i64::MAX));
    for pool in db.pools() {
        for (state, connections) in [("idle", pool.idle), ("in_use", pool.in_use)] {
            let connections = i64::try_from(connections).unwrap_or(i64::MAX);
            metrics.db_pool.with_label_values(&[pool.pool, state]).set(connections);
        }
    }
    Ok(HttpResponse::Ok().insert_header(ContentType(mime())).body(metrics.text()?))
}

fn mime() -> actix_web::mime::Mime {
    "text/plain; version=0.0.4; charset=utf-8".parse().unwrap_or(actix_web::mime::TEXT_PLAIN_UTF_8)
}

/// The middleware that counts requests by route (the pattern, never the path) and adds `x-request-id` to responses.
///
/// # Errors
/// Errors of the wrapped service.
pub async fn count<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<B>, actix_web::Error> {
    let began = Instant::now();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        // callers can invent methods: one label for all of them
        _ => "other".to_owned(),
    };
    let metrics = request.app_data::<web::Data<Metrics>>().cloned();
    let id = super::problem::request_id(&request);
    let mut response = next.call(request).await?;
    if let Some(metrics) = metrics {
        let route = response.request().match_pattern().unwrap_or_else(|| "none".into());
        metrics.http_requests.with_label_values(&[&method, &route, response.status().as_str()]).inc();
        metrics.http_duration.with_label_values(&[&method, &route]).observe(began.elapsed().as_secs_f64());
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(actix_web::http::header::HeaderName::from_static("x-request-id"), id);
    }
    Ok(response)
}
