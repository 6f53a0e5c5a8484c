//! Who may look into an inbox: the API key's bearer into each, and a user's page, which must not hold the key, into that
//! user's with a token. Pages of other origins only when they are configured (the Fetch standard's CORS protocol).

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::error::{Error, Result};
use crate::http::access::{Access, bearer, refused, unauthorized};
use crate::inbox::Inbox;
use crate::inbox::model::UserId;

/// Origins such as `https://shop.example.com` whose pages may call; a page of the service's own origin always may.
pub struct Origins(pub Vec<String>);

/// What a preflight is answered.
const PREFLIGHT: &[(HeaderName, &str)] = &[
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, last-event-id"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// How far a request is let in.
#[derive(Debug, Clone, Copy)]
enum Pass {
    /// It may do everything.
    Operator,
    /// It bears a token of the user in its path, which is worth something for so long.
    User(Duration),
}

/// The path of a user's inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct UserPath {
    /// The user: what notifications over `in_app` call their `recipient`.
    #[param(min_length = 1, max_length = 200, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$")]
    user_id: String,
}

/// The user whose inbox a path names; an error for one that is none.
fn user_of(request: &HttpRequest) -> Result<UserId> {
    let wrong = |why: String| Error::invalid("user_id", why);
    let path = request.match_info().load::<UserPath>().map_err(|_| wrong("must be UTF-8".to_owned()))?;
    path.user_id.parse().map_err(wrong)
}

/// Lets a request in, or answers it. The middleware of all paths of inboxes.
///
/// # Errors
/// Those of the service behind it.
pub async fn check<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let origin = allowed_origin(request.request());
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(origin) = &origin
        && is_preflight
    {
        let mut response = HttpResponse::NoContent();
        for (name, value) in PREFLIGHT {
            response.insert_header((name.clone(), *value));
        }
        let mut response = request.into_response(response.finish()).map_into_right_body();
        share(response.headers_mut(), origin);
        return Ok(response);
    }
    let mut response = match admit(request.request()) {
        Some(pass) => {
            request.extensions_mut().insert(pass);
            next.call(request).await?.map_into_left_body()
        }
        None => {
            let what_to_do = "send Authorization: Bearer <the API key, or a token of this user>, or ?token=";
            let title = "An API key or a token is needed";
            let response = match has_expired(request.request()) {
                true => unauthorized(title, what_to_do),
                false => refused(request.request(), title, what_to_do).await,
            };
            request.into_response(response).map_into_right_body()
        }
    };
    let headers = response.headers_mut();
    // what a person was told, at an address that may hold a token
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = &origin {
        share(headers, origin);
    }
    Ok(response)
}

fn admit(request: &HttpRequest) -> Option<Pass> {
    let access = request.app_data::<web::Data<Access>>();
    if access.is_some_and(|access| access.grants_all(request.headers())) {
        return Some(Pass::Operator);
    }
    let (inbox, user) = (request.app_data::<web::Data<Inbox>>()?, user_of(request).ok()?);
    let in_query =
        || form_urlencoded::parse(request.query_string().as_bytes()).find(|(name, _)| name == "token");
    let token = match bearer(request.headers()) {
        Some(token) => token.into(),
        None => in_query()?.1,
    };
    inbox.admit(&token, &user).map(Pass::User)
}

/// Returns whether a request bears a token that was the user's: nobody guesses, so nobody is slowed.
fn has_expired(request: &HttpRequest) -> bool {
    let inbox = request.app_data::<web::Data<Inbox>>();
    match (inbox, bearer(request.headers()), user_of(request)) {
        (Some(inbox), Some(token), Ok(user)) => inbox.has_issued(token, &user),
        _ => false,
    }
}

/// The request's origin, if its pages may call.
fn allowed_origin(request: &HttpRequest) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let Origins(known) = request.app_data::<web::Data<Origins>>()?.get_ref();
    known.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Lets pages of this origin read the answer.
fn share(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    // a cache must not give the answer to pages of another one
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Who asks for an inbox, and whose it is.
pub struct Visitor {
    /// Whose it is.
    pub user: UserId,
    /// For how long from now a token lets its bearer in; none for who bears the key.
    pub left: Option<Duration>,
}

impl FromRequest for Visitor {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pass = request.extensions().get::<Pass>().copied();
        let left = match pass {
            Some(Pass::Operator) => Ok(None),
            Some(Pass::User(left)) => Ok(Some(left)),
            // nobody comes in by another way than the door
            None => Err(Error::internal("a path of an inbox is not behind its door")),
        };
        ready(left.and_then(|left| Ok(Self { user: user_of(request)?, left })))
    }
}
