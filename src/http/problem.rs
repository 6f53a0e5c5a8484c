//! Converts each [`Error`] into RFC 9457 problem details. No other place turns errors into responses.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use tracing_actix_web::RequestId;
use utoipa::ToSchema;

use crate::db::effects;
use crate::error::{Error, FieldError};

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An RFC 9457 problem: the reason why a request failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// The stable name of the problem's kind, for programs.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid", pattern = "^/problems/[a-z-]+$")]
    pub kind: &'static str,
    /// The kind of problem in words.
    #[schema(example = "Validation failed")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422, minimum = 400, maximum = 599)]
    pub status: u16,
    /// The cause, and the remedy if there is one.
    pub detail: String,
    /// The id of the affected resource, if the resource exists despite the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The wrong fields, if validation failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// Builds a problem of this kind.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, title, status: status.as_u16(), detail: detail.into(), id: None, errors: Vec::new() }
    }

    /// Adds the id of the affected resource.
    #[must_use]
    pub fn about(self, id: String) -> Self {
        Self { id: Some(id), ..self }
    }

    fn outcome_unknown() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/outcome-unknown",
            "Outcome unknown",
            "the database failed during the request, so all, part or nothing of it may have taken effect; repeat \
             the request with the same Idempotency-Key, or check the state before you repeat it without a key",
        )
    }

    /// Returns the response, as `application/problem+json`.
    pub fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // the rest of the body is not read
            response.force_close();
        }
        response.body(body)
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        match error {
            Error::Invalid(fields) => Self {
                errors: fields.clone(),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "/problems/invalid",
                    "Validation failed",
                    error.to_string(),
                )
            },
            Error::Malformed(why) => {
                Self::new(StatusCode::BAD_REQUEST, "/problems/malformed", "Malformed request", why.clone())
            }
            Error::Unsupported(why) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "/problems/unsupported-media-type",
                "Unsupported media type",
                why.clone(),
            ),
            Error::TooLarge(why) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "/problems/too-large",
                "Content too large",
                why.clone(),
            ),
            Error::TooSlow(why) => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "/problems/request-timeout",
                "Request timeout",
                why.clone(),
            ),
            Error::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "Not found", error.to_string())
            }
            Error::Conflict(why) => {
                Self::new(StatusCode::CONFLICT, "/problems/conflict", "Conflict", why.clone())
            }
            Error::InWork { why, .. } => {
                Self::new(StatusCode::CONFLICT, "/problems/in-work", "Request in progress", why.clone())
            }
            Error::Busy(why) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/busy",
                "Service overloaded",
                why.clone(),
            ),
            // the response omits the cause, which may name hosts, files or statements
            Error::Unavailable(_) if effects::are_noted() => Self::outcome_unknown(),
            Error::OutcomeUnknown(_) => Self::outcome_unknown(),
            Error::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/unavailable",
                "Service unavailable",
                "the database is unavailable and nothing was changed; retry after 1 s",
            ),
            Error::Internal(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/internal",
                "Internal server error",
                "the service failed; its log has the cause under the x-request-id of this response",
            ),
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(Problem::from(self).status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = Problem::from(self).response();
        if let Error::InWork { retry_after, .. } = self {
            let seconds = retry_after.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Returns 404 for an unknown path.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    Problem::new(
        StatusCode::NOT_FOUND,
        "/problems/not-found",
        "Not found",
        format!("unknown path: {} {}; see /api/v1/docs", request.method(), request.path()),
    )
    .response()
}

/// Returns 405 for a known path and a method that it does not support.
pub fn method_not_allowed(request: &HttpRequest) -> HttpResponse {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "/problems/method-not-allowed",
        "Method not allowed",
        format!("{} does not support {}; see /api/v1/docs", request.path(), request.method()),
    )
    .response()
}

/// Returns the id of this request, which the log and the response's `x-request-id` have.
pub fn request_id(request: &impl HttpMessage) -> String {
    request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default()
}
