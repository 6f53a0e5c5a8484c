//! What the channels share whose recipients are URLs, each with a server of its own: how such a server is asked, and
//! what its silence means.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::http::is_transient;
use super::{Answer, Verdict};
use crate::egress::guard::{Answered, Ask, Failure, Guard, Target};

/// Bytes of an answer that are read: so that its connection can be used again, and for the provider's id.
const MOST_BODY: usize = 64 * 1024;
/// For the body of an answer: the status has said what became of the message.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Posts JSON, and answers with what came or with what it means that nothing did.
pub(super) async fn post(
    guard: &Guard,
    target: Target,
    mut headers: HeaderMap,
    body: String,
) -> Result<Answered, Answer> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let ask = Ask {
        method: Method::POST,
        target,
        headers,
        body,
        most_body: MOST_BODY,
        timeout: None,
        body_timeout: BODY_TIMEOUT,
    };
    guard.send(ask).await.map_err(|failure| match failure {
        Failure::Refused(why) => Answer::permanent(None, why.to_string()),
        Failure::LocalFault => Answer::local_fault(),
        failure => deferred(None, failure.to_string(), None),
    })
}

/// The recipient's server did not take it, and may later.
pub(super) fn deferred(
    status_code: Option<u16>,
    error: impl Into<String>,
    retry_after: Option<Duration>,
) -> Answer {
    Answer::of(Verdict::Deferred { error: error.into(), retry_after }, status_code)
}

/// What a status means when it is no 2xx.
pub(super) fn refused(status: StatusCode, retry_after: Option<Duration>) -> Answer {
    let (code, error) = (Some(status.as_u16()), format!("the recipient's server answered {status}"));
    match status {
        StatusCode::GONE => Answer::of(Verdict::Gone { error }, code),
        status if is_transient(status) => deferred(code, error, retry_after),
        status if status.is_redirection() => Answer::permanent(
            code,
            format!("{error}; redirects are not followed: give the URL that it leads to"),
        ),
        _ => Answer::permanent(code, error),
    }
}
