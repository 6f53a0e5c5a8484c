//! Errors as RFC 9457 problem details, the one place that turns an [`Error`] into a response.

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

/// An RFC 9457 problem: what went wrong with a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem, to be compared by programs.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid", pattern = "^/problems/[a-z-]+$")]
    pub kind: &'static str,
    /// The kind of problem in words.
    #[schema(example = "The input is not valid")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422, minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened, to what, and what to do.
    pub detail: String,
    /// The id of what it is about, where that is there all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The wrong fields, when the input was understood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, title, status: status.as_u16(), detail: detail.into(), id: None, errors: Vec::new() }
    }

    /// The same about what has this id.
    #[must_use]
    pub fn about(self, id: String) -> Self {
        Self { id: Some(id), ..self }
    }

    fn outcome_unknown() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "/problems/outcome-unknown",
            "Outcome unknown",
            "the database did not say what became of this: all, some or nothing of it may be done; repeat the request with the \
             same Idempotency-Key, or look before you repeat it without one",
        )
    }

    /// The response of `application/problem+json`.
    pub fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // the rest of the body is not waited for
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
                    "The input is not valid",
                    error.to_string(),
                )
            },
            Error::Malformed(why) => Self::new(
                StatusCode::BAD_REQUEST,
                "/problems/malformed",
                "The request cannot be read",
                why.clone(),
            ),
            Error::Unsupported(why) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "/problems/unsupported-media-type",
                "The media type is not taken here",
                why.clone(),
            ),
            Error::TooLarge(why) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "/problems/too-large",
                "The body is too large",
                why.clone(),
            ),
            Error::TooSlow(why) => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "/problems/request-timeout",
                "Request timeout",
                why.clone(),
            ),
            Error::NotFound { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "/problems/not-found",
                "There is no such thing",
                error.to_string(),
            ),
            Error::Conflict(why) => Self::new(
                StatusCode::CONFLICT,
                "/problems/conflict",
                "Its state does not allow this",
                why.clone(),
            ),
            Error::InWork { why, .. } => Self::new(
                StatusCode::CONFLICT,
                "/problems/in-work",
                "An equal request is in work",
                why.clone(),
            ),
            Error::Busy(why) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/busy", "Too much at once", why.clone())
            }
            // nothing of the cause: it may name hosts, files or statements
            Error::Unavailable(_) if effects::are_noted() => Self::outcome_unknown(),
            Error::OutcomeUnknown(_) => Self::outcome_unknown(),
            Error::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/unavailable",
                "Temporarily unavailable",
                "the database cannot be used right now and nothing was changed; try again in a moment",
            ),
            Error::Internal(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/internal",
                "Internal error",
                "the service failed; its log has the cause under this response's x-request-id",
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

/// Answers a path that nothing serves.
pub async fn no_such_path(request: HttpRequest) -> HttpResponse {
    Problem::new(
        StatusCode::NOT_FOUND,
        "/problems/not-found",
        "There is no such thing",
        format!(
            "nothing answers {} {}; the API is described at /api/v1/docs",
            request.method(),
            request.path()
        ),
    )
    .response()
}

/// Answers a path that is served, by a method that it does not take.
pub fn no_such_method(request: &HttpRequest) -> HttpResponse {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "/problems/method-not-allowed",
        "The method is not allowed",
        format!("{} does not take {}; see /api/v1/docs", request.path(), request.method()),
    )
    .response()
}

/// The id under which this request stands in the log and in the answer's `x-request-id`.
pub fn request_id(request: &impl HttpMessage) -> String {
    request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default()
}
