//! The paths of the API, and those of a node with the role `worker`.

use actix_web::{HttpResponse, Resource, Route, web};

use super::api;
use crate::http::routing::{get, method_not_allowed};
use crate::http::{openapi, problem};
use crate::inbox;

fn read(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(method_not_allowed("GET, HEAD"))
}

pub(super) fn probes(cfg: &mut web::ServiceConfig) {
    api::probes().register(cfg, "");
    cfg.default_service(web::route().to(problem::not_found));
}

pub(super) fn every_path(cfg: &mut web::ServiceConfig) {
    api::operations().register(cfg, "");
    cfg.service(read("/", get().to(to_docs)))
        .service(read("/api/v1/docs", get().to(to_docs)))
        .service(read(openapi::DOCUMENT, get().to(openapi::get_document)))
        .service(openapi::swagger())
        .configure(inbox::handler::element_route)
        .configure(inbox::handler::routes)
        .default_service(web::route().to(problem::not_found));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::Found().insert_header((actix_web::http::header::LOCATION, "/api/v1/docs/")).finish()
}
