//! The methods of a path: GET with its HEAD, and a response to methods that the path does not support.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, Route, guard, web};

use super::problem;

/// A route for GET and HEAD; the server omits the body for HEAD.
pub fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A route for all other methods: 405, with `allow` in the header `Allow`.
pub fn method_not_allowed(allow: &str) -> Route {
    let allow = HeaderValue::from_str(allow).ok();
    web::route().to(move |request: HttpRequest| {
        let allow = allow.clone();
        async move {
            let mut response = problem::method_not_allowed(&request);
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            response
        }
    })
}
