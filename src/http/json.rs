//! Extractors for JSON bodies and queries, with errors that name the field.

mod faults;

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::bodies;
use crate::db::types::Timestamp;
use crate::error::{Error, FieldError, Result};

/// The size limit of JSON bodies. Imports are streams and not limited by it.
pub const LARGEST_BODY: usize = 1024 * 1024;

/// A JSON body, read strictly: an unknown, missing or mistyped field is a 422 that names it.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read_body(request, payload, LARGEST_BODY);
        Box::pin(async move { parse_object(&body.await?).map(Self) })
    }
}

/// A body that contains secrets; validation errors never repeat its values.
pub struct Redacted<T>(
    /// The value, or the errors without the body's values.
    pub Result<T>,
);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Redacted<T> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(reader)?;
        Ok(Self(parse_object(raw.get().as_bytes()).map_err(|error| match error {
            Error::Invalid(fields) => Error::Invalid(fields.into_iter().map(redact).collect()),
            other => other,
        })))
    }
}

/// Removes the value that serde repeats in its message.
fn redact(field: FieldError) -> FieldError {
    let is_of_a_name = ["unknown field", "missing field", "duplicate field"];
    if is_of_a_name.iter().any(|what| field.reason.starts_with(what)) {
        return field;
    }
    let expected = field.reason.rsplit_once("expected ").map_or("another value", |(_, expected)| expected);
    FieldError::new(field.field, format!("expected {expected}"))
}

/// Reads a body with a JSON `Content-Type`, at most `most` bytes of it.
pub(super) fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
    most: usize,
) -> impl Future<Output = Result<web::BytesMut>> + use<> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|mime| {
        let mime = mime.trim().to_ascii_lowercase();
        mime == "application/json" || mime.ends_with("+json")
    });
    let (request, payload) = (request.clone(), web::Payload::from_request(request, payload));
    async move {
        if !is_json {
            return Err(Error::Unsupported(
                "the body must be JSON, with Content-Type: application/json".into(),
            ));
        }
        let payload = payload.await.map_err(|e| Error::Malformed(e.to_string()))?;
        bodies::read(request, payload, most).await
    }
}

/// Reads a body. Duplicate keys and control characters are refused, also in free-form parts.
///
/// # Errors
/// As [`parse_envelope`], and [`Error::Invalid`] with the path of each duplicate key and control character.
pub fn parse_object<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let value = parse_envelope(body)?;
    let faults = faults::find(body);
    if faults.is_empty() { Ok(value) } else { Err(Error::Invalid(faults)) }
}

/// Reads a body whose items are read one by one later, each by [`parse_object`], so that an invalid item does not
/// affect the others. The body must be an object: serde would also accept an array as a struct, its values in the
/// fields' order.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_envelope<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    if body.trim_ascii_start().starts_with(b"{") {
        return parse(body);
    }
    parse::<serde::de::IgnoredAny>(body)?;
    Err(Error::invalid("body", "must be a JSON object"))
}

/// Reads each item of the list `field`, which must have 1 to `most` items, and returns its value or its errors.
///
/// # Errors
/// [`Error::Invalid`] for an empty list and for too many items.
pub fn each<B: DeserializeOwned, T>(
    (field, most): (&str, usize),
    items: Vec<Box<RawValue>>,
    read: impl Fn(usize, B) -> Result<T>,
) -> Result<Vec<std::result::Result<T, Vec<FieldError>>>> {
    if !(1..=most).contains(&items.len()) {
        return Err(Error::invalid(field, format!("must have 1 to {most} items, not {}", items.len())));
    }
    let read = |(index, item): (usize, Box<RawValue>)| {
        parse_object(item.get().as_bytes()).and_then(|body| read(index, body)).map_err(|error| match error {
            Error::Invalid(fields) => fields,
            other => vec![FieldError::new("body", other.to_string())],
        })
    };
    Ok(items.into_iter().enumerate().map(read).collect())
}

/// Reads strict JSON.
///
/// # Errors
/// [`Error::Malformed`] for a body that is not JSON, [`Error::Invalid`] naming the field for JSON of the wrong shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        if inner.to_string().starts_with("number out of range") {
            Error::Invalid(vec![wrong_field(&path, "is a number out of range")])
        } else if inner.is_data() {
            Error::Invalid(vec![wrong_field(&path, &inner.to_string())])
        } else if serde_json::from_slice::<serde_json::Value>(body).is_ok() {
            // serde_json reports a list in the place of an enum's name as a syntax error
            Error::Invalid(vec![wrong_field(&path, "has the wrong type, expected a string")])
        } else {
            not_json(&inner)
        }
    })?;
    reader.end().map_err(|e| not_json(&e))?;
    Ok(value)
}

/// Returns the canonical form of a body: without spaces, with sorted keys, and with the digits of numbers unchanged. A
/// body that is not JSON is returned unchanged.
pub fn canonical(body: &[u8]) -> Vec<u8> {
    let value = serde_json::from_slice::<serde_json::Value>(body);
    value.map_or_else(|_| body.to_vec(), |value| value.to_string().into_bytes())
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::Malformed(format!("the body is not valid JSON: {error}"))
}

/// Builds the error of one field. serde names an unknown or missing field only in its message.
fn wrong_field(path: &str, message: &str) -> FieldError {
    let parent = if path == "." { "" } else { path };
    let reason = message.split(" at line ").next().unwrap_or(message);
    let named = reason
        .strip_prefix("unknown field `")
        .or_else(|| reason.strip_prefix("missing field `"))
        .or_else(|| reason.strip_prefix("duplicate field `"))
        .and_then(|rest| rest.split('`').next());
    let field = match named {
        Some(name) if parent.is_empty() || parent == name || parent.ends_with(&format!(".{name}")) => {
            if parent.is_empty() {
                name.to_owned()
            } else {
                parent.to_owned()
            }
        }
        Some(name) => format!("{parent}.{name}"),
        None if parent.is_empty() => "body".to_owned(),
        None => parent.to_owned(),
    };
    FieldError::new(field, reason)
}

/// A query string, read as strictly as a JSON body.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = web::Query::<T>::from_query(request.query_string()).map(|q| Self(q.into_inner()));
        std::future::ready(read.map_err(|e| {
            let text = e.to_string();
            let reason = text.strip_prefix("Query deserialize error: ").unwrap_or(&text);
            let field = wrong_field(".", reason);
            let name = if field.field == "body" { "query".to_owned() } else { field.field };
            Error::invalid(name, reason)
        }))
    }
}

/// Parses an id of a path. A text that is not a UUID cannot be an id, so it is a 422 instead of a 404.
///
/// # Errors
/// [`Error::Invalid`] for `id`.
pub fn path_id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid("id", format!("`{text}` is not a UUID")))
}

/// Parses an RFC 3339 time in the range of years that both databases support.
///
/// # Errors
/// A message with the accepted format or range.
pub fn time(text: &str) -> std::result::Result<Timestamp, String> {
    let at = chrono::DateTime::parse_from_rfc3339(text.trim())
        .map_err(|_| format!("`{text}` is not an RFC 3339 time such as 2026-01-31T09:00:00+03:00"))?
        .to_utc();
    let year = chrono::Datelike::year(&at);
    if (1970..=9999).contains(&year) {
        Ok(Timestamp::from_datetime(at))
    } else {
        Err(format!("`{text}` is not in the years 1970 to 9999"))
    }
}

/// Deserializes a field of a patch: absent (`None`), null (`Some(None)`), or a value.
///
/// # Errors
/// Errors of the value's own deserialization.
pub fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    reader: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(reader).map(Some)
}

/// Deserializes a field of a patch that null cannot clear: absent, or a value. By default serde would treat null as
/// absent.
///
/// # Errors
/// Errors of the value's own deserialization, which does not accept null.
pub fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    reader: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(reader).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its type matters")]
        size: u8,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its type matters")]
        inner: Inner,
    }

    fn field_of(body: &str) -> String {
        match parse::<Outer>(body.as_bytes()) {
            Err(Error::Invalid(fields)) => fields[0].field.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert_eq!(field_of("{}"), "inner");
        assert_eq!(field_of(r#"{"inner": {"size": 1}, "nope": 1}"#), "nope");
        assert_eq!(field_of(r#"{"inner": {"size": "x"}}"#), "inner.size");
        assert_eq!(field_of(r#"{"inner": {"size": 1, "nope": 1}}"#), "inner.nope");
        assert_eq!(field_of(r#"{"inner": {}}"#), "inner.size");
        assert_eq!(field_of(r#"{"inner": {"size": 1, "size": 2}}"#), "inner.size");
        assert_eq!(field_of(r#"{"inner": {"size": 1}, "inner": {"size": 2}}"#), "inner");
        assert_eq!(field_of("[]"), "body");
    }

    #[test]
    fn an_array_is_no_object_with_its_fields_in_order() {
        assert!(parse::<Outer>(b"[[1]]").is_ok(), "serde takes it");
        assert!(matches!(parse_object::<Outer>(b" [[1]]"), Err(Error::Invalid(_))));
        assert!(matches!(parse_object::<Outer>(b"null"), Err(Error::Invalid(_))));
        assert!(matches!(parse_object::<Outer>(b"[[1]"), Err(Error::Malformed(_))));
        assert!(parse_object::<Outer>(b" {\"inner\": {\"size\": 1}}").is_ok());
    }

    #[test]
    fn a_list_in_place_of_a_word_is_wrong_and_not_malformed() {
        #[derive(Debug, Deserialize)]
        struct Tagged {
            #[expect(dead_code, reason = "only its type matters")]
            kind: crate::kinds::Priority,
        }
        for body in [r#"{"kind": ["high"]}"#, r#"{"kind": 5}"#, r#"{"kind": [[]]}"#] {
            let read = parse::<Tagged>(body.as_bytes());
            let Err(Error::Invalid(fields)) = read else { panic!("{body}: {read:?}") };
            assert_eq!(fields[0].field, "kind", "{body}");
        }
        assert!(matches!(parse::<Tagged>(b"{\"kind\": [}"), Err(Error::Malformed(_))));
    }

    #[test]
    fn nothing_of_a_discreet_body_is_repeated() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Secrets {
            #[expect(dead_code, reason = "only its type matters")]
            list: Vec<u8>,
            #[expect(dead_code, reason = "only its type matters")]
            inner: Option<Inner>,
        }
        for (body, wrong) in [
            (r#"{"list": "planted"}"#, "list"),
            (r#"{"list": ["planted, expected nothing"]}"#, "list[0]"),
            (r#"{"list": [1, 4711]}"#, "list[1]"),
            (r#"{"list": {"planted": 1}}"#, "list"),
            (r#"{"list": [1], "inner": "planted"}"#, "inner"),
            (r#"{"list": [1], "inner": {"size": "planted"}}"#, "inner.size"),
            (r#"{"list": [1], "other": "planted"}"#, "other"),
            (r#"{"inner": null}"#, "list"),
        ] {
            let read = parse_object::<Redacted<Secrets>>(body.as_bytes()).unwrap().0;
            let Err(Error::Invalid(fields)) = read else { panic!("{read:?}") };
            assert_eq!(fields[0].field, wrong);
            assert!(
                !fields[0].reason.contains("planted") && !fields[0].reason.contains("4711"),
                "{fields:?}"
            );
        }
        assert!(parse_object::<Redacted<Secrets>>(br#"{"list": [1]}"#).unwrap().0.is_ok());
        assert!(matches!(parse_object::<Redacted<Secrets>>(b"{planted"), Err(Error::Malformed(_))));
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", "{} x", "nope"] {
            assert!(
                matches!(parse::<serde_json::Value>(body.as_bytes()), Err(Error::Malformed(_))),
                "{body}"
            );
        }
    }
}
