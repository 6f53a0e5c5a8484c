//! Checks the query parameters and path segments of every operation before its handler runs. The accepted parameters
//! are read from the OpenAPI document, so no handler can forget the check.

use std::collections::{HashMap, HashSet};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{ResponseError, web};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::form_urlencoded;

use super::openapi::COMMITTED;
use crate::error::{Complaints, Error, Result};

/// The query parameters of each operation, by its path's pattern and its method.
pub struct Parameters(HashMap<String, HashMap<String, Vec<String>>>);

#[derive(Deserialize)]
struct Document {
    paths: HashMap<String, HashMap<String, Operation>>,
}

#[derive(Deserialize)]
struct Operation {
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    #[serde(rename = "in")]
    place: String,
}

impl Parameters {
    /// Reads the parameters of the committed document.
    ///
    /// # Errors
    /// [`Error::Internal`] for an invalid document.
    pub fn of_the_document() -> Result<Self> {
        Self::read(COMMITTED)
    }

    fn read(document: &str) -> Result<Self> {
        let Document { paths } = serde_json::from_str(document).map_err(|e| Error::Internal(e.into()))?;
        let in_query = |operation: Operation| {
            let parameters = operation.parameters.into_iter().filter(|parameter| parameter.place == "query");
            parameters.map(|parameter| parameter.name).collect()
        };
        let of_path = |operations: HashMap<String, Operation>| {
            operations.into_iter().map(|(method, operation)| (method, in_query(operation))).collect()
        };
        Ok(Self(paths.into_iter().map(|(path, operations)| (path, of_path(operations))).collect()))
    }

    /// Returns the parameters that an operation accepts; none for an unknown operation.
    fn taken(&self, method: &Method, pattern: &str) -> Option<&[String]> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.get(pattern)?.get(&method.as_str().to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// Checks a request's path and query.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each wrong query parameter, and each wrong path segment under its name in the pattern.
    fn check(&self, method: &Method, (pattern, path): (&str, &str), query: &str) -> Result<()> {
        let Some(taken) = self.taken(method, pattern) else { return Ok(()) };
        let mut wrong = Complaints::default();
        for (name, segment) in pattern.split('/').zip(path.split('/')) {
            let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            // the pages of links in mails are for people, and report an unknown link themselves
            if let Some(name) = name.filter(|name| *name != "token")
                && percent_decode_str(segment).decode_utf8_lossy().contains(char::is_control)
            {
                wrong.add(name, "must not contain control characters");
            }
        }
        let mut seen = HashSet::new();
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !taken.iter().any(|known| *known == name) {
                wrong.add(shown(&name), unknown(taken));
            } else if !seen.insert(name.clone().into_owned()) {
                wrong.add(name, "must be given once");
            }
        }
        wrong.finish()
    }
}

/// Returns a parameter's name as a response may repeat it.
fn shown(name: &str) -> String {
    let shown: String = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if shown.is_empty() { "query".to_owned() } else { shown }
}

fn unknown(taken: &[String]) -> String {
    if taken.is_empty() {
        return "unknown parameter: this operation has no query parameters".to_owned();
    }
    format!("unknown parameter: the query parameters of this operation are {}", taken.join(", "))
}

/// The middleware that runs the checks; wrap it with `actix_web::middleware::from_fn`.
///
/// # Errors
/// Errors of the wrapped service.
pub async fn check<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let checked = match (request.app_data::<web::Data<Parameters>>(), request.match_pattern()) {
        (Some(parameters), Some(pattern)) => {
            parameters.check(request.method(), (&pattern, request.path()), request.query_string())
        }
        _ => Ok(()),
    };
    match checked {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(refused) => Ok(request.into_response(refused.error_response()).map_into_right_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, pattern: &str, path: &str, query: &str) -> Vec<String> {
        let parameters = Parameters::of_the_document().unwrap();
        match parameters.check(&method, (pattern, path), query) {
            Err(Error::Invalid(fields)) => fields.into_iter().map(|field| field.field).collect(),
            other => {
                assert!(other.is_ok(), "{other:?}");
                Vec::new()
            }
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let list = |query: &str| refused(Method::GET, "/api/v1/mailings", "/api/v1/mailings", query);
        assert_eq!(list("limit=1&cursor=x"), [""; 0]);
        assert_eq!(list(""), [""; 0]);
        assert_eq!(list("bogus=1&limit=1"), ["bogus"]);
        assert_eq!(list("limit=1&limit=2"), ["limit"]);
        assert_eq!(list("%6cimit=1&limit=1"), ["limit"]);
        assert_eq!(list("bogus"), ["bogus"]);
        assert_eq!(list("=1"), ["query"]);
        assert_eq!(list("Limit=1"), ["Limit"]);
        assert_eq!(list("a%0d=b"), ["a\u{fffd}"]);
        assert_eq!(refused(Method::HEAD, "/api/v1/mailings", "/api/v1/mailings", "a=b"), ["a"]);
    }

    #[test]
    fn control_characters_in_a_path_are_named_by_their_place() {
        let pattern = "/api/v1/events/{id}";
        assert_eq!(refused(Method::GET, pattern, "/api/v1/events/a%00b", ""), ["id"]);
        assert_eq!(refused(Method::GET, pattern, "/api/v1/events/a%C2%85b", ""), ["id"]);
        assert_eq!(refused(Method::GET, pattern, "/api/v1/events/a%20b", ""), [""; 0]);
    }

    #[test]
    fn what_is_not_an_operation_is_left_alone() {
        assert_eq!(refused(Method::GET, "/api/v1/docs/{_:.*}", "/api/v1/docs/", "url=x"), [""; 0]);
        assert_eq!(refused(Method::PUT, "/api/v1/mailings", "/api/v1/mailings", "a=b"), [""; 0]);
    }
}
