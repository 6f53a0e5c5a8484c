//! The header `Idempotency-Key`, and the responses that are stored under it.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::json::{LARGEST_BODY, canonical, parse_envelope, parse_object, read_body};
use super::problem::PROBLEM_JSON;
use crate::error::{Error, Result};
use crate::idempotency::{Created, IdempotencyKey, LONGEST_KEY};

/// The name of the request header, for the document.
pub const KEY_NAME: &str = "Idempotency-Key";
/// The name of the response header, for the document.
pub const REPLAYED_NAME: &str = "Idempotency-Replayed";
/// The name in the IETF draft, and the variant that some clients use.
const NAMES: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
/// Marks a stored response that was returned again.
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The retention of stored responses.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyRetention(pub Duration);

/// The header, for the document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct KeyHeader {
    /// Printable ASCII. An equal request with the same key gets the same response with `Idempotency-Replayed: true` and
    /// creates nothing, even if the resource was deleted since; a different request is refused. `X-Idempotency-Key` is
    /// an alias.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[ -~]+$",
        nullable = false
    )]
    pub key: Option<String>,
}

/// A body of at most `MOST` bytes, read like [`super::json::Json`], and the key of its request.
pub struct Posted<T, const MOST: usize = LARGEST_BODY> {
    /// The body.
    pub value: T,
    /// The key, if there is one.
    pub key: Option<IdempotencyKey>,
}

impl<T: DeserializeOwned + 'static, const MOST: usize> FromRequest for Posted<T, MOST> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let posted = posted(request, payload, MOST, parse_object);
        Box::pin(async move { posted.await.map(|(value, key)| Self { value, key }) })
    }
}

/// A body of items that are accepted or rejected one by one, and the key of its request. The items are read later.
pub struct PostedItems<T, const MOST: usize> {
    /// The body.
    pub value: T,
    /// The key, if there is one.
    pub key: Option<IdempotencyKey>,
}

impl<T: DeserializeOwned + 'static, const MOST: usize> FromRequest for PostedItems<T, MOST> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let posted = posted(request, payload, MOST, parse_envelope);
        Box::pin(async move { posted.await.map(|(value, key)| Self { value, key }) })
    }
}

fn posted<T>(
    request: &HttpRequest,
    payload: &mut Payload,
    most: usize,
    parse: fn(&[u8]) -> Result<T>,
) -> impl Future<Output = Result<(T, Option<IdempotencyKey>)>> + use<T> {
    let (given, body) = (GivenKey::with(request), read_body(request, payload, most));
    async move {
        let given = given?;
        let body = body.await?;
        let value = parse(&body)?;
        Ok((value, given.map(|given| given.key(&body))))
    }
}

/// The key of a request without a body, if there is one.
pub struct Keyed(pub Option<IdempotencyKey>);

impl FromRequest for Keyed {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(GivenKey::with(request).map(|given| Self(given.map(|given| given.key(b"")))))
    }
}

/// The key of a request whose body is read in pieces. Bodies are compared by bytes, since they are not JSON.
pub struct StreamedKey {
    given: Option<GivenKey>,
    digest: Context,
}

impl StreamedKey {
    /// Reads the key of the request, if there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid key.
    pub fn with(request: &HttpRequest) -> Result<Self> {
        let (given, mut digest) = (GivenKey::with(request)?, Context::new(&SHA256));
        if let Some(given) = &given {
            digest.update(given.target.as_bytes());
            digest.update(b"\n");
        }
        Ok(Self { given, digest })
    }

    /// Returns true if the request has a key.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Adds the next piece of the body.
    pub fn add(&mut self, piece: &[u8]) {
        if self.given.is_some() {
            self.digest.update(piece);
        }
    }

    /// Returns the key with the fingerprint of the whole body.
    pub fn finish(self) -> Option<IdempotencyKey> {
        let fingerprint = self.digest.finish().as_ref().to_vec();
        self.given.map(|GivenKey { name, keep, .. }| IdempotencyKey { key: name, fingerprint, keep })
    }
}

/// A key, and the request target that it applies to.
struct GivenKey {
    name: String,
    target: String,
    keep: Duration,
}

impl GivenKey {
    fn with(request: &HttpRequest) -> Result<Option<Self>> {
        let Some(name) = key_name(request)? else { return Ok(None) };
        let keep =
            request.app_data::<web::Data<IdempotencyRetention>>().map_or(Duration::ZERO, |keeping| keeping.0);
        let target = format!("{} {}", request.method(), request.uri());
        Ok(Some(Self { name, target, keep }))
    }

    fn key(self, body: &[u8]) -> IdempotencyKey {
        IdempotencyKey { key: self.name, fingerprint: fingerprint(&self.target, body), keep: self.keep }
    }
}

fn key_name(request: &HttpRequest) -> Result<Option<String>> {
    let mut keys = NAMES.iter().flat_map(|name| request.headers().get_all(*name));
    let (Some(key), second) = (keys.next(), keys.next()) else { return Ok(None) };
    let wrong = |reason: &str| Err(Error::invalid("Idempotency-Key", reason));
    if second.is_some_and(|second| second != key) {
        return wrong("was given twice with different values");
    }
    match key.to_str() {
        // to_str accepts tabs
        Ok(text) if (1..=LONGEST_KEY).contains(&text.len()) && !text.contains('\t') => {
            Ok(Some(text.to_owned()))
        }
        _ => wrong("must be 1 to 255 printable ASCII characters"),
    }
}

/// Returns the hash of method, path, query and canonical body: spaces and the order of fields make no difference.
fn fingerprint(target: &str, body: &[u8]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    digest.update(target.as_bytes());
    digest.update(b"\n");
    digest.update(&canonical(body));
    digest.finish().as_ref().to_vec()
}

/// Builds the response of a creating request; a stored response is marked as replayed.
pub fn respond<T>(made: Created<T>) -> HttpResponse {
    let (answer, is_replayed) = match made {
        Created::New(_, answer) => (answer, false),
        Created::Before(answer) => (answer, true),
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if status.is_success() {
        response.content_type(ContentType::json());
    } else {
        response.content_type(PROBLEM_JSON);
    }
    if let Some(location) = answer.location {
        response.insert_header((header::LOCATION, location));
    }
    let mut response = response.body(answer.body);
    replayed(&mut response, is_replayed);
    response
}

/// Adds `Idempotency-Replayed` to a response if it is replayed.
pub fn replayed(answer: &mut HttpResponse, is_replayed: bool) {
    if is_replayed {
        answer.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_have_one_fingerprint_and_others_have_another() {
        let print = |target: &str, body: &str| fingerprint(target, body.as_bytes());
        let one = print("POST /a", r#"{"x": 1, "y": [1, 2]}"#);
        assert_eq!(one, print("POST /a", r#"{"y":[1,2],"x":1}"#));
        assert_ne!(one, print("POST /b", r#"{"x": 1, "y": [1, 2]}"#));
        assert_ne!(one, print("POST /a", r#"{"x": 1, "y": [2, 1]}"#));
        let long = print("POST /a", r#"{"n": 12345678901234567890123}"#);
        assert_ne!(long, print("POST /a", r#"{"n": 12345678901234567890124}"#));
        assert_ne!(print("POST /a", r#"{"n": 0.1000000000000000001}"#), print("POST /a", r#"{"n": 0.1}"#));
    }
}
