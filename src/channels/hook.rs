//! The parts that channels share whose recipients are URLs, each with its own server: sending, and the meaning of a
//! refusal or a missing response.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::http::is_transient;
use super::report::{AttemptReport, DeliveryResult};
use crate::egress::guard::{Guard, HttpRequest, HttpResponse, RequestFailure, Target};

/// Bytes of a response that are read, so that its connection can be reused, and to get the provider's id.
const MOST_BODY: usize = 64 * 1024;
/// Timeout of the response's body: the status has already decided the outcome.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Posts JSON. Returns the response, or the outcome of an attempt without one.
pub(super) async fn post(
    guard: &Guard,
    target: Target,
    mut headers: HeaderMap,
    body: String,
) -> Result<HttpResponse, AttemptReport> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let ask = HttpRequest {
        method: Method::POST,
        target,
        headers,
        body,
        most_body: MOST_BODY,
        timeout: None,
        body_timeout: BODY_TIMEOUT,
    };
    guard.send(ask).await.map_err(|failure| match failure {
        RequestFailure::Refused(why) => AttemptReport::permanent(None, why.to_string()),
        RequestFailure::LocalFault => AttemptReport::local_fault(),
        failure => deferred(None, failure.to_string(), None),
    })
}

/// The answer for a server of the recipient that did not accept the message, and may later.
pub(super) fn deferred(
    status_code: Option<u16>,
    error: impl Into<String>,
    retry_after: Option<Duration>,
) -> AttemptReport {
    AttemptReport::of(DeliveryResult::Deferred { error: error.into(), retry_after }, status_code)
}

/// Maps a status other than 2xx to an outcome.
pub(super) fn refused(status: StatusCode, retry_after: Option<Duration>) -> AttemptReport {
    let (code, error) = (Some(status.as_u16()), format!("the recipient's server returned {status}"));
    match status {
        StatusCode::GONE => AttemptReport::of(DeliveryResult::Gone { error }, code),
        status if is_transient(status) => deferred(code, error, retry_after),
        status if status.is_redirection() => AttemptReport::permanent(
            code,
            format!("{error}; redirects are not followed: use the URL that it leads to"),
        ),
        _ => AttemptReport::permanent(code, error),
    }
}
