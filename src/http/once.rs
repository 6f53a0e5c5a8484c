//! The header `Idempotency-Key`, and the answers that are kept under it.

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
use crate::idempotency::{Key, LONGEST_KEY, Made};

/// The names of the headers, for the document.
pub const KEY_NAME: &str = "Idempotency-Key";
/// As [`KEY_NAME`].
pub const REPLAYED_NAME: &str = "Idempotency-Replayed";
/// The draft's name, and the one that some clients use.
const NAMES: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
/// Says of an answer that nothing was made for it.
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// For how long answers are kept.
#[derive(Debug, Clone, Copy)]
pub struct Keeping(pub Duration);

/// The header, for the document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct KeyHeader {
    /// Printable ASCII. An equal request under the same key gets the same answer with `Idempotency-Replayed: true`, and
    /// makes nothing, also when what the first one made was deleted since; another one is refused. `X-Idempotency-Key` is
    /// the same.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[ -~]+$",
        nullable = false
    )]
    pub key: Option<String>,
}

/// A body of at most `MOST` bytes, read as [`super::json::Json`] reads it, and the key that it came with.
pub struct Posted<T, const MOST: usize = LARGEST_BODY> {
    /// What the body says.
    pub value: T,
    /// The key, if there is one.
    pub key: Option<Key>,
}

impl<T: DeserializeOwned + 'static, const MOST: usize> FromRequest for Posted<T, MOST> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let posted = posted(request, payload, MOST, parse_object);
        Box::pin(async move { posted.await.map(|(value, key)| Self { value, key }) })
    }
}

/// A body of items that are accepted or rejected each by itself, and the key that it came with. The items are not read here.
pub struct PostedItems<T, const MOST: usize> {
    /// The body.
    pub value: T,
    /// The key, if there is one.
    pub key: Option<Key>,
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
) -> impl Future<Output = Result<(T, Option<Key>)>> + use<T> {
    let (given, body) = (Given::with(request), read_body(request, payload, most));
    async move {
        let given = given?;
        let body = body.await?;
        let value = parse(&body)?;
        Ok((value, given.map(|given| given.key(&body))))
    }
}

/// The key that a request without a body came with, if there is one.
pub struct Keyed(pub Option<Key>);

impl FromRequest for Keyed {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Given::with(request).map(|given| Self(given.map(|given| given.key(b"")))))
    }
}

/// The key of a request whose body is read piece by piece. Equal bodies are equal to the byte: it is not JSON.
pub struct StreamedKey {
    given: Option<Given>,
    digest: Context,
}

impl StreamedKey {
    /// The key that the request came with, if there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that is not one.
    pub fn with(request: &HttpRequest) -> Result<Self> {
        let (given, mut digest) = (Given::with(request)?, Context::new(&SHA256));
        if let Some(given) = &given {
            digest.update(given.target.as_bytes());
            digest.update(b"\n");
        }
        Ok(Self { given, digest })
    }

    /// Returns whether there is a key.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Takes the next piece of the body.
    pub fn add(&mut self, piece: &[u8]) {
        if self.given.is_some() {
            self.digest.update(piece);
        }
    }

    /// The key for the whole body.
    pub fn finish(self) -> Option<Key> {
        let fingerprint = self.digest.finish().as_ref().to_vec();
        self.given.map(|Given { name, keep, .. }| Key { key: name, fingerprint, keep })
    }
}

/// A key as it was given, and what it was given for.
struct Given {
    name: String,
    target: String,
    keep: Duration,
}

impl Given {
    fn with(request: &HttpRequest) -> Result<Option<Self>> {
        let Some(name) = key_name(request)? else { return Ok(None) };
        let keep = request.app_data::<web::Data<Keeping>>().map_or(Duration::ZERO, |keeping| keeping.0);
        let target = format!("{} {}", request.method(), request.uri());
        Ok(Some(Self { name, target, keep }))
    }

    fn key(self, body: &[u8]) -> Key {
        Key { key: self.name, fingerprint: fingerprint(&self.target, body), keep: self.keep }
    }
}

fn key_name(request: &HttpRequest) -> Result<Option<String>> {
    let mut keys = NAMES.iter().flat_map(|name| request.headers().get_all(*name));
    let (Some(key), second) = (keys.next(), keys.next()) else { return Ok(None) };
    let wrong = |reason: &str| Err(Error::invalid("Idempotency-Key", reason));
    if second.is_some_and(|second| second != key) {
        return wrong("was given twice, and differently");
    }
    match key.to_str() {
        // to_str lets tabs pass
        Ok(text) if (1..=LONGEST_KEY).contains(&text.len()) && !text.contains('\t') => {
            Ok(Some(text.to_owned()))
        }
        _ => wrong("must be 1 to 255 printable ASCII characters"),
    }
}

/// Two requests are equal if their method, path, query and body are: of the body what it says, not how it is spaced or
/// in which order its fields stand.
fn fingerprint(target: &str, body: &[u8]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    digest.update(target.as_bytes());
    digest.update(b"\n");
    digest.update(&canonical(body));
    digest.finish().as_ref().to_vec()
}

/// What a request that makes something is answered; an answer that was given before says so.
pub fn respond<T>(made: Made<T>) -> HttpResponse {
    let (answer, is_replayed) = match made {
        Made::New(_, answer) => (answer, false),
        Made::Before(answer) => (answer, true),
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

/// Says in an answer that an earlier request made what it shows, if that is so.
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
