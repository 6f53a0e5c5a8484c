//! Authentication of inbox requests. The API key gives access to every inbox; a user's page, which must not have the
//! key, uses a token for that user's inbox. Pages of other origins must be configured (the Fetch standard's CORS
//! protocol).

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

/// Allowed origins, like `https://shop.example.com`. Pages of the service's own origin are always allowed.
pub struct Origins(pub Vec<String>);

/// The headers of the response to a preflight request.
const PREFLIGHT: &[(HeaderName, &str)] = &[
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, last-event-id"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// The access of a request.
#[derive(Debug, Clone, Copy)]
enum InboxAccess {
    /// Access to everything.
    Operator,
    /// Access with a token of the user in the path, with the token's remaining lifetime.
    User(Duration),
}

/// The path of a user's inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct UserPath {
    /// The user: the `recipient` of notifications over `in_app`.
    #[param(min_length = 1, max_length = 200, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$")]
    user_id: String,
}

/// Parses the user of a path.
fn user_of(request: &HttpRequest) -> Result<UserId> {
    let wrong = |why: String| Error::invalid("user_id", why);
    let path = request.match_info().load::<UserPath>().map_err(|_| wrong("must be UTF-8".to_owned()))?;
    path.user_id.parse().map_err(wrong)
}

/// Authenticates a request or refuses it. It is the middleware of all inbox paths.
///
/// # Errors
/// Those of the next service.
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
            let what_to_do = "send Authorization: Bearer <the API key or a token of this user>, or ?token=";
            let title = "Unauthorized";
            let response = match has_expired(request.request()) {
                true => unauthorized(title, what_to_do),
                false => refused(request.request(), title, what_to_do).await,
            };
            request.into_response(response).map_into_right_body()
        }
    };
    let headers = response.headers_mut();
    // the response has personal data, and its URL may contain a token
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = &origin {
        share(headers, origin);
    }
    Ok(response)
}

fn admit(request: &HttpRequest) -> Option<InboxAccess> {
    let access = request.app_data::<web::Data<Access>>();
    if access.is_some_and(|access| access.grants_all(request.headers())) {
        return Some(InboxAccess::Operator);
    }
    let (inbox, user) = (request.app_data::<web::Data<Inbox>>()?, user_of(request).ok()?);
    let in_query =
        || form_urlencoded::parse(request.query_string().as_bytes()).find(|(name, _)| name == "token");
    let token = match bearer(request.headers()) {
        Some(token) => token.into(),
        None => in_query()?.1,
    };
    inbox.admit(&token, &user).map(InboxAccess::User)
}

/// Returns true if a request has an expired token of the user. It is not a guess, so it does not count as a wrong key.
fn has_expired(request: &HttpRequest) -> bool {
    let inbox = request.app_data::<web::Data<Inbox>>();
    match (inbox, bearer(request.headers()), user_of(request)) {
        (Some(inbox), Some(token), Ok(user)) => inbox.has_issued(token, &user),
        _ => false,
    }
}

/// Returns the request's origin if it is allowed.
fn allowed_origin(request: &HttpRequest) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let Origins(known) = request.app_data::<web::Data<Origins>>()?.get_ref();
    known.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Allows pages of this origin to read the response.
fn share(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    // a cache must not serve the response to another origin
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// The authenticated caller of an inbox operation.
pub struct InboxCaller {
    /// The owner of the inbox.
    pub user: UserId,
    /// The remaining lifetime of the token; `None` if the caller has the API key.
    pub left: Option<Duration>,
}

impl FromRequest for InboxCaller {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pass = request.extensions().get::<InboxAccess>().copied();
        let left = match pass {
            Some(InboxAccess::Operator) => Ok(None),
            Some(InboxAccess::User(left)) => Ok(Some(left)),
            // the middleware covers all inbox paths
            None => Err(Error::internal("an inbox path lacks its authentication middleware")),
        };
        ready(left.and_then(|left| Ok(Self { user: user_of(request)?, left })))
    }
}
