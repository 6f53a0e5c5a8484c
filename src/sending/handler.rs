//! `/api/v1/sending`: whether the installation sends, and the switch.

use actix_web::{HttpResponse, web};

use super::usecase::{Sending, SendingView};
use crate::error::Result;
use crate::http::routing::{get, others};

/// The routes.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/sending").route(get().to(get_sending)).route(others("GET, HEAD")))
        .service(web::resource("/sending/pause").route(web::post().to(pause_sending)).route(others("POST")))
        .service(
            web::resource("/sending/resume").route(web::post().to(resume_sending)).route(others("POST")),
        );
}

/// Does the installation send?
#[utoipa::path(get, path = "/api/v1/sending", operation_id = "get_sending", tag = "sending",
    responses((status = 200, description = "Whether it is paused, and since when", body = SendingView)))]
pub async fn get_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.get().await?))
}

/// Pause all sending
///
/// For the whole installation: nothing leaves over any channel, requests and their reports included, until it is resumed;
/// also not after a restart. What is in flight is finished. Everything is accepted meanwhile and waits; windows and expiry
/// times go on.
#[utoipa::path(post, path = "/api/v1/sending/pause", operation_id = "pause_sending", tag = "sending",
    responses((status = 200, description = "It is paused", body = SendingView)))]
pub async fn pause_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.pause().await?))
}

/// Resume sending
#[utoipa::path(post, path = "/api/v1/sending/resume", operation_id = "resume_sending", tag = "sending",
    responses((status = 200, description = "It is not paused", body = SendingView)))]
pub async fn resume_sending(sending: web::Data<Sending>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(sending.resume().await?))
}
