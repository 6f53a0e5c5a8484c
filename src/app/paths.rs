//! The paths of the API, and those of a node that only works.

use actix_web::{HttpResponse, Resource, Route, web};

use crate::credentials::handler as credentials_handler;
use crate::http::routing::{get, others};
use crate::http::{channels as http_channels, figures, health, metrics as http_metrics, openapi, problem};
use crate::requests::{handler as requests_handler, recurring};
use crate::{
    clients, dead_letters, endpoints, events, inbox, live, mailings, messages, notifications, people,
    preferences, routes, sending, suppressions, templates,
};

fn read(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(others("GET, HEAD"))
}

pub(super) fn probes(cfg: &mut web::ServiceConfig) {
    cfg.service(read("/health", get().to(health::get_health)))
        .service(read("/ready", get().to(health::get_ready)))
        .service(read("/metrics", get().to(http_metrics::get_metrics)))
        .default_service(web::route().to(problem::no_such_path));
}

pub(super) fn every_path(cfg: &mut web::ServiceConfig) {
    cfg.configure(probes)
        .service(read("/", get().to(to_docs)))
        .service(read("/api/v1/docs", get().to(to_docs)))
        .service(read(openapi::DOCUMENT, get().to(openapi::get_document)))
        .service(openapi::swagger())
        .configure(notifications::handler::short_routes)
        .configure(events::handler::short_routes)
        .configure(inbox::handler::element_route)
        .configure(preferences::handler::unsubscribe::routes)
        .service(
            web::scope("/api/v1")
                .configure(clients::handler::routes)
                .configure(people::handler::routes(clients::handler::one()))
                .configure(clients::jobs::handler::routes)
                .configure(clients::declared::handler::routes)
                .configure(preferences::handler::routes)
                .configure(suppressions::handler::routes)
                .configure(endpoints::handler::routes)
                .configure(credentials_handler::routes)
                .configure(http_channels::routes)
                .configure(messages::handler::routes)
                .configure(templates::handler::routes)
                .configure(events::handler::routes)
                .configure(routes::handler::routes)
                .configure(recurring::handler::routes)
                .configure(requests_handler::routes)
                .configure(dead_letters::handler::routes)
                .configure(notifications::handler::routes)
                .configure(mailings::handler::routes)
                .configure(live::handler::routes)
                .configure(inbox::handler::routes)
                .configure(figures::routes)
                .configure(sending::handler::routes)
                .default_service(web::route().to(problem::no_such_path)),
        );
}

async fn to_docs() -> HttpResponse {
    HttpResponse::Found().insert_header((actix_web::http::header::LOCATION, "/api/v1/docs/")).finish()
}
