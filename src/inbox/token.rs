//! Inbox tokens, which a user's page sends instead of the API key. A token is valid for one user until its expiry.
//! Nothing of it is stored: it consists of its expiry and a code that only this service can compute (HMAC-SHA256, RFC
//! 2104).

use std::fmt::Write;

use subtle::ConstantTimeEq;

use super::model::{InboxToken, UserId};
use crate::db::types::Timestamp;
use crate::seal::Signer;

/// Separates these codes from others that are computed with the same secret.
const PURPOSE: &[u8] = b"fanfare inbox token 1";

/// Issues and checks tokens.
pub struct InboxTokens(Signer);

impl InboxTokens {
    /// Creates an issuer with a secret. Nodes with the same secret accept each other's tokens; a new secret invalidates
    /// all issued tokens.
    pub fn new(secret: &[u8]) -> Self {
        Self(Signer::new(secret, PURPOSE))
    }

    /// Issues a token for a user with this expiry, truncated to the second.
    pub fn issue(&self, user: &UserId, until: Timestamp) -> InboxToken {
        let seconds = until.micros().div_euclid(1_000_000);
        let mut token = format!("{seconds}.");
        for byte in self.0.code(&signed(seconds, user)) {
            // writing to a String cannot fail
            let _ = write!(token, "{byte:02x}");
        }
        InboxToken { token, expires_at: of_seconds(seconds) }
    }

    /// Returns the expiry of a token that is valid for this user; `None` if it is not valid.
    pub fn check(&self, token: &str, user: &UserId, now: Timestamp) -> Option<Timestamp> {
        self.expiry(token, user).filter(|until| now < *until)
    }

    /// Returns the expiry of a token that was issued for this user, even if it has passed; `None` for any other text.
    pub fn expiry(&self, token: &str, user: &UserId) -> Option<Timestamp> {
        let (seconds, _) = token.split_once('.')?;
        let until = of_seconds(seconds.parse().ok()?);
        // compared in constant time, so that the duration does not reveal how many characters match
        let is_ours = self.issue(user, until).token.as_bytes().ct_eq(token.as_bytes());
        bool::from(is_ours).then_some(until)
    }
}

fn of_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}

/// Returns the signed bytes. The number comes first, because its length is fixed.
fn signed(seconds: i64, user: &UserId) -> Vec<u8> {
    let mut signed = seconds.to_be_bytes().to_vec();
    signed.extend_from_slice(user.as_str().as_bytes());
    signed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn user(text: &str) -> UserId {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_worth_something_for_its_user_until_its_time() {
        let tokens = InboxTokens::new(b"a secret of more than sixteen bytes");
        let given = tokens.issue(&user("u1"), at(2_000).plus(std::time::Duration::from_millis(900)));
        assert_eq!(given.expires_at, at(2_000));
        assert_eq!(tokens.check(&given.token, &user("u1"), at(1_999)), Some(at(2_000)));
        assert_eq!(tokens.check(&given.token, &user("u1"), at(2_000)), None);
        assert_eq!(tokens.expiry(&given.token, &user("u1")), Some(at(2_000)), "it was one");
        assert_eq!(tokens.expiry(&given.token, &user("u2")), None);
        for other in ["u2", "u", "u11", "U1"] {
            assert_eq!(tokens.check(&given.token, &user(other), at(1_000)), None, "{other}");
        }
        let same = InboxTokens::new(b"a secret of more than sixteen bytes");
        assert!(same.check(&given.token, &user("u1"), at(1_000)).is_some(), "at another node");
        let other = InboxTokens::new(b"another secret of more than sixteen bytes");
        assert_eq!(other.check(&given.token, &user("u1"), at(1_000)), None);
    }

    #[test]
    fn what_was_changed_or_cut_off_is_no_token() {
        let tokens = InboxTokens::new(b"a secret of more than sixteen bytes");
        let user = user("u1");
        let given = tokens.issue(&user, at(2_000)).token;
        let (seconds, code) = given.split_once('.').unwrap();
        let changed = [
            String::new(),
            ".".to_owned(),
            seconds.to_owned(),
            format!("{seconds}."),
            format!("3000.{code}"),
            format!("+{seconds}.{code}"),
            format!("0{seconds}.{code}"),
            given.to_uppercase(),
            format!("{seconds}.{}", &code[..62]),
            format!("{seconds}.{code}00"),
            format!("{seconds}.{}", "0".repeat(64)),
            format!("{seconds}.{}", "é".repeat(32)),
            format!("{}.{code}", i64::MAX),
            format!("99999999999999999999.{code}"),
        ];
        for token in changed {
            assert_eq!(tokens.check(&token, &user, at(1_000)), None, "{token}");
        }
    }
}
