//! Maps FCM's responses to outcomes: <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::channels::http::is_transient;
use crate::channels::report::{AttemptReport, DeliveryResult};

/// "A minimum initial delay of 1 minute" after an exceeded quota; also the delay after a 429 without `Retry-After`.
const QUOTA_DELAY: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Sent {
    name: String,
}

#[derive(Deserialize, Default)]
struct Failed {
    #[serde(default)]
    error: Failure,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    message: String,
    status: String,
    details: Vec<Detail>,
}

/// `FcmError`, `BadRequest` and `QuotaFailure` in one type: their field names do not overlap.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: String,
    field_violations: Vec<FieldViolation>,
    violations: Vec<QuotaViolation>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FieldViolation {
    field: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct QuotaViolation {
    subject: String,
    description: String,
}

impl Failure {
    /// FCM's own error code, or else the canonical one.
    fn code(&self) -> &str {
        let own = self.details.iter().map(|detail| detail.error_code.as_str()).find(|code| !code.is_empty());
        own.unwrap_or(&self.status)
    }

    /// "INVALID_ARGUMENT … signals an invalid token only if the payload is completely valid": the error must name the
    /// token (<https://firebase.google.com/docs/cloud-messaging/manage-tokens>).
    fn is_about_token(&self) -> bool {
        let fields = self.details.iter().flat_map(|detail| &detail.field_violations);
        let mut fields = fields.map(|violation| violation.field.as_str()).peekable();
        match fields.peek() {
            Some(_) => fields.all(|field| field == "message.token"),
            None => self.message == "The registration token is not a valid FCM registration token",
        }
    }

    /// Returns true if the quota is that of this device, so that FCM may still be used for others.
    fn is_of_device(&self) -> bool {
        let mut violations = self.details.iter().flat_map(|detail| &detail.violations);
        let names_device = |text: &str| text.to_ascii_lowercase().contains("device");
        violations.any(|violation| names_device(&violation.subject) || names_device(&violation.description))
    }
}

/// Returns true if FCM refused the access token. The same status is used when Apple's or the browser's service refused
/// its own.
pub(super) fn is_token_refused(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::UNAUTHORIZED && failure(body).code() != "THIRD_PARTY_AUTH_ERROR"
}

fn failure(body: &[u8]) -> Failure {
    serde_json::from_slice::<Failed>(body).unwrap_or_default().error
}

/// Interprets a response. `body` is empty if it could not be read.
pub(super) fn read(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> AttemptReport {
    let status_code = Some(status.as_u16());
    if status.is_success() {
        return match serde_json::from_slice(body) {
            Ok(Sent { name }) => AttemptReport::delivered(status_code, Some(name)),
            // FCM may or may not have accepted the message
            Err(_) => AttemptReport {
                status_code,
                ..AttemptReport::none(format!("FCM's response ({status}) cannot be read"))
            },
        };
    }
    let failure = failure(body);
    let code = failure.code();
    let is_word = (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let error =
        if is_word { format!("FCM returned {status} ({code})") } else { format!("FCM returned {status}") };
    let verdict = match (status.as_u16(), code) {
        (429, _) | (_, "QUOTA_EXCEEDED") if failure.is_of_device() => {
            DeliveryResult::Transient { error, retry_after: Some(retry_after.unwrap_or(QUOTA_DELAY)) }
        }
        (429, _) | (_, "QUOTA_EXCEEDED") => {
            DeliveryResult::Throttled { retry_after: retry_after.unwrap_or(QUOTA_DELAY) }
        }
        (_, "UNREGISTERED") => DeliveryResult::Gone { error },
        (400, "INVALID_ARGUMENT") if failure.is_about_token() => DeliveryResult::Gone { error },
        (_, "SENDER_ID_MISMATCH") => DeliveryResult::Permanent { error },
        _ if is_transient(status) => DeliveryResult::Transient { error, retry_after },
        // credentials, permissions or the project's name: not the message's fault, and an operator can fix it
        (401 | 403 | 404, _) => DeliveryResult::Transient {
            error: format!("{error}: check the project and its credentials"),
            retry_after,
        },
        _ => DeliveryResult::Permanent { error },
    };
    AttemptReport::of(verdict, status_code)
}
