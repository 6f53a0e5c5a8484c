//! Interprets the responses of token endpoints (RFC 6749, 5.1 and 5.2).

use hyper::StatusCode;
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::tokens::{Grant, TokenFailure};

/// The lifetime of a token whose response omits `expires_in`, which is optional. A 401 ends it sooner.
const UNTOLD_SECONDS: i64 = 300;
/// The longest lifetime of any token.
const MOST_SECONDS: i64 = 24 * 3600;
/// Error codes of RFC 6749, 4.1.2.1, that some token endpoints use too: a later request may succeed.
const PASSING: &[&str] = &["temporarily_unavailable", "server_error", "slow_down"];

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<i64>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Accepts a number, or a string of digits, which some servers send.
fn seconds<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<i64>, D::Error> {
    let wrong = || serde::de::Error::custom("not a number of seconds");
    let seconds: f64 = match Value::deserialize(reader)? {
        Value::Null => return Ok(None),
        Value::Number(seconds) => seconds.as_f64().ok_or_else(wrong)?,
        Value::String(text) => text.trim().parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    #[expect(clippy::cast_possible_truncation, reason = "it is within the bounds")]
    if seconds.is_finite() { Ok(Some(seconds.clamp(0.0, MOST_SECONDS as f64) as i64)) } else { Err(wrong()) }
}

/// Interprets a response. `advice`, such as `check the service account`, is appended to the error of a permanent
/// refusal.
///
/// # Errors
/// The reason why no token was granted. The only text of the response in it is an error code of RFC 6749.
pub fn read(status: StatusCode, body: &[u8], advice: &str) -> Result<Grant, TokenFailure> {
    if status != StatusCode::OK {
        return Err(refusal(status, body, advice));
    }
    let unreadable =
        || TokenFailure::passing(format!("the token endpoint's response ({status}) cannot be read"));
    let granted: Granted = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        let why = format!("the token endpoint returned a token that is not a bearer token: {advice}");
        return Err(TokenFailure::lasting(why));
    }
    let token = granted.access_token.expose_secret();
    if token.is_empty() {
        return Err(unreadable());
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| unreadable())?;
    bearer.set_sensitive(true);
    let seconds = granted.expires_in.unwrap_or(UNTOLD_SECONDS).clamp(1, MOST_SECONDS);
    Ok(Grant { bearer, seconds })
}

/// Interprets a refusal. Codes like `invalid_client` need a fix by an operator; without a code, the response may come
/// from another server on the way.
fn refusal(status: StatusCode, body: &[u8], advice: &str) -> TokenFailure {
    let is_word = |word: &str| {
        (1..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let word = serde_json::from_slice(body).ok().map(|Refused { error }| error).filter(|word| is_word(word));
    match word {
        Some(word) => {
            let why = format!("the token endpoint returned {status} ({word}): {advice}");
            let is_for_good = matches!(status.as_u16(), 400 | 401 | 403) && !PASSING.contains(&word.as_str());
            if is_for_good { TokenFailure::lasting(why) } else { TokenFailure::passing(why) }
        }
        None if matches!(status.as_u16(), 400 | 401) => {
            TokenFailure::lasting(format!("the token endpoint returned {status}: {advice}"))
        }
        None if status.is_redirection() => TokenFailure::lasting(format!(
            "the token endpoint returned {status}; redirects are not followed: use the URL that it leads to"
        )),
        None => TokenFailure::passing(format!("the token endpoint returned {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, body: &str) -> Result<Grant, TokenFailure> {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "check it")
    }

    #[test]
    fn what_is_granted_is_kept_as_long_as_it_says() {
        for (said, seconds) in [
            (r#""expires_in": 3599"#, 3599),
            (r#""expires_in": "3599""#, 3599),
            (r#""expires_in": 3599.9"#, 3599),
            (r#""expires_in": null"#, 300),
            (r#""scope": "x""#, 300),
            (r#""expires_in": 0"#, 1),
            (r#""expires_in": -5"#, 1),
            (r#""expires_in": 1e300"#, 86_400),
        ] {
            let grant = asked(200, &format!(r#"{{"access_token": "a.b", "token_type": "BEARER", {said}}}"#));
            let grant = grant.unwrap();
            assert_eq!((grant.bearer.to_str().unwrap(), grant.seconds), ("Bearer a.b", seconds), "{said}");
            assert!(grant.bearer.is_sensitive());
        }
    }

    #[test]
    fn what_refuses_for_good_is_told_from_what_may_pass() {
        let refused = |status, body: &str| {
            let failure = asked(status, body).unwrap_err();
            assert!(!failure.why.contains("planted"), "{failure:?}");
            failure.kind == crate::oauth::FailureKind::Lasting
        };
        for (status, body, is_for_good) in [
            (400, r#"{"error": "invalid_client", "error_description": "planted"}"#, true),
            (401, r#"{"error": "invalid_client"}"#, true),
            (403, r#"{"error": "access_denied"}"#, true),
            (401, "planted", true),
            (400, r#"{"error": "planted word 1"}"#, true),
            (302, "", true),
            (400, r#"{"error": "temporarily_unavailable"}"#, false),
            (403, "<html>planted</html>", false),
            (404, "planted", false),
            (429, r#"{"error": "slow_down"}"#, false),
            (500, r#"{"error": "invalid_client"}"#, false),
            (503, "", false),
            (200, "<html>planted</html>", false),
            (200, "{}", false),
            (200, r#"{"access_token": ""}"#, false),
            (200, r#"{"access_token": "planted\r\nX-Evil: 1"}"#, false),
            (200, r#"{"access_token": "planted", "expires_in": "planted"}"#, false),
            (200, r#"{"access_token": "planted", "expires_in": [1]}"#, false),
            (200, r#"{"access_token": "planted", "token_type": "DPoP"}"#, true),
        ] {
            assert_eq!(refused(status, body), is_for_good, "{status} {body}");
        }
    }
}
