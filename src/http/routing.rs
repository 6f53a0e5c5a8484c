//! The methods of a path: GET with its HEAD, and an answer to those that the path does not take.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, Route, guard, web};

use super::problem;

/// GET, and HEAD with it: the server leaves the body out.
pub fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Every method but those of `allow`, which the answer names in its header of that name.
pub fn others(allow: &'static str) -> Route {
    web::route().to(move |request: HttpRequest| async move {
        let mut response = problem::no_such_method(&request);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        response
    })
}
