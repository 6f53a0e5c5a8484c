//! The HTTP interface of the sandbox.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use actix_web::dev::Extensions;
use actix_web::http::header::{self, ContentType, HeaderMap, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::faults::{Faults, LONGEST_HOLD};
use super::message::{Api, SendRequest};
use super::provider::{Provider, ReceiveResult};
use super::stats::{RequestOutcome, Stats};

/// The body of a garbage response: a gateway's error page under a wrong status, with invalid UTF-8.
const GARBAGE: &[u8] = b"<html><body>502 Bad Gateway \xff\xfe</body>";

/// The prefixes of message paths; the id follows.
const PATHS: [(&str, Api); 2] = [("/v1/send/", Api::Send), ("/v1/notify/", Api::Notify)];

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Adds the routes. Message paths are matched by hand in the default service: for a path with a parameter the router
/// runs a regular expression, a slow one without its `unicode` feature, which took a quarter of the sandbox's time.
pub(super) fn configure(service: &mut web::ServiceConfig) {
    service
        .service(
            web::resource("/stats").route(web::get().to(read_stats)).route(web::delete().to(reset_stats)),
        )
        .service(web::resource("/faults").route(web::get().to(read_faults)).route(web::put().to(set_faults)))
        .service(web::resource("/health").route(web::get().to(health)))
        .service(web::resource("/").route(web::get().to(describe)))
        .default_service(web::to(send));
}

async fn send(
    provider: web::Data<Provider>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    // the path of the match, not of the request, is percent-decoded
    let path = request.match_info().as_str();
    let known = PATHS.iter().find_map(|(prefix, api)| Some((*api, path.strip_prefix(prefix)?)));
    let (api, path_id) = match known {
        Some((api, id)) if !id.is_empty() && !id.contains('/') => (api, id),
        _ => return HttpResponse::NotFound().finish(),
    };
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "POST")).finish();
    }
    let faults = provider.faults();
    let headers = request.headers();
    let verdict = provider.receive(
        &SendRequest {
            api,
            path_id,
            bearer: text_of(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")),
            key: text_of(headers, &IDEMPOTENCY_KEY),
            body: body.as_deref().ok(),
        },
        &faults,
    );
    if !faults.latency.is_zero() {
        tokio::time::sleep(faults.latency).await;
    }
    match verdict.outcome {
        RequestOutcome::Dropped => cut(&request).await,
        RequestOutcome::Hung => {
            tokio::time::sleep(LONGEST_HOLD).await;
            cut(&request).await
        }
        _ => answer(&verdict),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn answer(verdict: &ReceiveResult) -> HttpResponse {
    let (status, code) = match verdict.outcome {
        RequestOutcome::Garbage => return HttpResponse::Ok().content_type(ContentType::html()).body(GARBAGE),
        // Built as a constant, since it is by far the most frequent response.
        RequestOutcome::Received => {
            return HttpResponse::Ok().content_type(ContentType::json()).body(r#"{"code":0,"message":"OK"}"#);
        }
        RequestOutcome::Unauthorized => (StatusCode::UNAUTHORIZED, 401),
        RequestOutcome::Limited => (StatusCode::TOO_MANY_REQUESTS, 429),
        RequestOutcome::Rejected => (StatusCode::BAD_REQUEST, 1),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, 500),
    };
    let mut response = HttpResponse::build(status);
    if verdict.outcome == RequestOutcome::Limited {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response.json(Answer { code, message: &verdict.reason })
}

/// The third party's response.
#[derive(Serialize)]
struct Answer<'a> {
    code: u16,
    message: &'a str,
}

async fn read_stats(provider: web::Data<Provider>) -> web::Json<Stats> {
    web::Json(provider.tally.stats())
}

async fn reset_stats(provider: web::Data<Provider>) -> HttpResponse {
    provider.tally.reset();
    HttpResponse::NoContent().finish()
}

async fn read_faults(provider: web::Data<Provider>) -> web::Json<Faults> {
    web::Json(provider.faults())
}

/// Replaces all faults. An absent fault stops, so `{}` stops all of them.
async fn set_faults(provider: web::Data<Provider>, body: web::Bytes) -> HttpResponse {
    let refused = |message: &str| HttpResponse::BadRequest().json(Answer { code: 1, message });
    match serde_json::from_slice::<Faults>(&body) {
        Err(error) => refused(&error.to_string()),
        Ok(faults) => match provider.set_faults(faults) {
            Err(error) => refused(&error.to_string()),
            Ok(()) => HttpResponse::Ok().json(faults),
        },
    }
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(r#"{"status":"ok"}"#)
}

async fn describe() -> &'static str {
    "Fanfare's sandbox provider: POST /v1/send/{id} for text messages; POST /v1/notify/{id} for every channel; \
     GET or DELETE /stats; GET or PUT /faults; GET /health\n"
}

/// A second handle to a connection's socket, with which a handler can close it.
struct Cut(TcpStream);

/// Stores a [`Cut`] with every new connection: `PUT /faults` may enable dropped connections at any time.
pub(super) fn keep_cut(connection: &dyn Any, kept: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Ok(socket) = stream.as_fd().try_clone_to_owned()
    {
        kept.insert(Cut(TcpStream::from(socket)));
    }
}

/// Closes the connection without a byte of a response. An error in the response's body would come too late: the status
/// line would already be on its way. The server notices the end of the connection and drops this future, which
/// therefore never returns. Without a handle to the socket it would leave the client waiting.
async fn cut(request: &HttpRequest) -> HttpResponse {
    if let Some(Cut(socket)) = request.conn_data::<Cut>() {
        // It fails if the client closed first, and then nothing is left to cut.
        let _ = socket.shutdown(Shutdown::Both);
    }
    std::future::pending().await
}
