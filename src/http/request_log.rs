//! Logs each request once, when its response is sent, together with its error and under the request's id.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;
use tracing_actix_web::RootSpanBuilder;

use crate::error::Error;

/// Writes one line for each request. Queries, headers and bodies are not logged: they may hold phone numbers and
/// tokens.
pub struct RequestLog;

impl RootSpanBuilder for RequestLog {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = super::problem::request_id(request);
        let route = request.match_pattern().unwrap_or_else(|| "none".into());
        tracing::info_span!("request", id, method = %request.method(), route)
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, actix_web::Error>) {
        let _entered = span.enter();
        match outcome {
            Ok(response) => {
                let status = response.status().as_u16();
                match response.response().error().and_then(|error| error.as_error::<Error>()) {
                    Some(error) if status >= 500 => {
                        tracing::error!(status, error = %chain(error), "request failed")
                    }
                    // the text of a 4xx may quote the caller's input: its kind is enough
                    Some(error) => tracing::info!(status, kind = kind(error), "request refused"),
                    None => tracing::info!(status, "request completed"),
                }
            }
            Err(error) => {
                let status = error.as_response_error().status_code().as_u16();
                tracing::error!(status, %error, "request failed");
            }
        }
    }
}

/// Returns the error and its causes in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Invalid(_) => "invalid",
        Error::Malformed(_) => "malformed",
        Error::Unsupported(_) => "unsupported",
        Error::TooLarge(_) => "too large",
        Error::TooSlow(_) => "too slow",
        Error::NotFound { .. } => "not found",
        Error::Conflict(_) => "conflict",
        Error::InWork { .. } => "in work",
        Error::Busy(_) => "busy",
        Error::Unavailable(_) => "unavailable",
        Error::OutcomeUnknown(_) => "outcome unknown",
        Error::Internal(_) => "internal",
    }
}
