//! What FCM's answers mean: <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::channels::http::is_transient;
use crate::channels::{Answer, Verdict};

/// "A minimum initial delay of 1 minute" after an exceeded quota, and when a 429 says nothing else.
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

/// `FcmError`, `BadRequest` and `QuotaFailure` in one: each has names of its own.
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
    /// FCM's own code, or else the canonical one.
    fn code(&self) -> &str {
        let own = self.details.iter().map(|detail| detail.error_code.as_str()).find(|code| !code.is_empty());
        own.unwrap_or(&self.status)
    }

    /// "INVALID_ARGUMENT … signals an invalid token only if the payload is completely valid": it must be said of the
    /// token (<https://firebase.google.com/docs/cloud-messaging/manage-tokens>).
    fn is_about_token(&self) -> bool {
        let fields = self.details.iter().flat_map(|detail| &detail.field_violations);
        let mut fields = fields.map(|violation| violation.field.as_str()).peekable();
        match fields.peek() {
            Some(_) => fields.all(|field| field == "message.token"),
            None => self.message == "The registration token is not a valid FCM registration token",
        }
    }

    /// Whether the quota is this device's alone, and no reason to leave FCM alone.
    fn is_of_device(&self) -> bool {
        let mut violations = self.details.iter().flat_map(|detail| &detail.violations);
        let names_device = |text: &str| text.to_ascii_lowercase().contains("device");
        violations.any(|violation| names_device(&violation.subject) || names_device(&violation.description))
    }
}

/// Whether FCM refused the access token. The same status says that Apple's or the browser's refused its own.
pub(super) fn is_token_refused(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::UNAUTHORIZED && failure(body).code() != "THIRD_PARTY_AUTH_ERROR"
}

fn failure(body: &[u8]) -> Failure {
    serde_json::from_slice::<Failed>(body).unwrap_or_default().error
}

/// What an answer comes to; its body is empty when it could not be had.
pub(super) fn read(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    let status_code = Some(status.as_u16());
    if status.is_success() {
        return match serde_json::from_slice(body) {
            Ok(Sent { name }) => Answer::delivered(status_code, Some(name)),
            // it may have taken the message and may not
            Err(_) => {
                Answer { status_code, ..Answer::none(format!("FCM's answer ({status}) cannot be read")) }
            }
        };
    }
    let failure = failure(body);
    let code = failure.code();
    let is_word = (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let error =
        if is_word { format!("FCM answered {status} ({code})") } else { format!("FCM answered {status}") };
    let verdict = match (status.as_u16(), code) {
        (429, _) | (_, "QUOTA_EXCEEDED") if failure.is_of_device() => {
            Verdict::Transient { error, retry_after: Some(retry_after.unwrap_or(QUOTA_DELAY)) }
        }
        (429, _) | (_, "QUOTA_EXCEEDED") => {
            Verdict::Throttled { retry_after: retry_after.unwrap_or(QUOTA_DELAY) }
        }
        (_, "UNREGISTERED") => Verdict::Gone { error },
        (400, "INVALID_ARGUMENT") if failure.is_about_token() => Verdict::Gone { error },
        (_, "SENDER_ID_MISMATCH") => Verdict::Permanent { error },
        _ if is_transient(status) => Verdict::Transient { error, retry_after },
        // credentials, permissions and the project's name: nothing of the message's, and an operator mends it
        (401 | 403 | 404, _) => Verdict::Transient {
            error: format!("{error}: check the project and its credentials"),
            retry_after,
        },
        _ => Verdict::Permanent { error },
    };
    Answer::of(verdict, status_code)
}
