//! The links by which a mail's recipient unsubscribes (RFC 8058). Each bears a token of which nothing is stored: for whom
//! and what of, with a code that only this service can make. It never ends: a mail is read years later.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::model::{Subject, Who};
use crate::db::types::{ClientId, MessageId};
use crate::kinds::{self, ChannelKind};
use crate::seal::Seal;

const PURPOSE: &[u8] = b"fanfare unsubscribe token 1";
/// The longest token.
pub const LONGEST_TOKEN: usize = 152;
const CODE: usize = 32;

/// Makes tokens and reads them.
pub struct Tokens(Seal);

impl Tokens {
    /// With this secret: nodes with one secret read each other's tokens.
    pub fn new(secret: &[u8]) -> Self {
        Self(Seal::new(secret, PURPOSE))
    }

    /// The token of this subject: letters, digits, `-` and `_`.
    pub fn issue(&self, subject: &Subject) -> String {
        let (kind, id) = match subject.who {
            Who::Client(id) => (0, id.0),
            Who::RecipientOf(id) => (1, id.0),
        };
        let mut token = vec![kind, u8::try_from(subject.channel.code()).unwrap_or_default()];
        token.extend_from_slice(id.as_bytes());
        token.extend_from_slice(subject.group.as_deref().unwrap_or_default().as_bytes());
        let code = self.0.code(&token);
        token.extend_from_slice(&code);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What the token is for; none for one that this service did not make.
    pub fn read(&self, token: &str) -> Option<Subject> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, code) = bytes.split_at_checked(bytes.len().checked_sub(CODE)?)?;
        if !self.0.confirms(signed, code) {
            return None;
        }
        let ([kind, channel], rest) = signed.split_first_chunk::<2>()?;
        let (id, group) = rest.split_first_chunk::<16>()?;
        let id = Uuid::from_bytes(*id);
        let who = match kind {
            0 => Who::Client(ClientId(id)),
            _ => Who::RecipientOf(MessageId(id)),
        };
        let group = match group {
            [] => None,
            word => Some(kinds::group(std::str::from_utf8(word).ok()?).ok()?),
        };
        Some(Subject { who, channel: ChannelKind::from_code(i16::from(*channel)).ok()?, group })
    }
}

/// Makes the links.
pub struct Links {
    base: String,
    tokens: Tokens,
}

impl Links {
    /// Under this URL, by which recipients reach the service.
    pub fn new(public_url: &str, secret: &[u8]) -> Self {
        Self { base: public_url.trim_end_matches('/').to_owned(), tokens: Tokens::new(secret) }
    }

    /// The link of this subject.
    pub fn url(&self, subject: &Subject) -> String {
        format!("{}/unsubscribe/{}", self.base, self.tokens.issue(subject))
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(who: Who, group: Option<&str>) -> Subject {
        Subject { who, channel: ChannelKind::Email, group: group.map(str::to_owned) }
    }

    #[test]
    fn a_token_names_whom_and_what_it_was_made_for() {
        let tokens = Tokens::new(b"a secret of more than sixteen bytes");
        let longest = "g".repeat(64);
        for who in [Who::Client(ClientId::new()), Who::RecipientOf(MessageId::new())] {
            for group in [None, Some("newsletter"), Some(longest.as_str())] {
                let subject = subject(who, group);
                let token = tokens.issue(&subject);
                assert!(token.len() <= LONGEST_TOKEN, "{}", token.len());
                assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
                assert_eq!(tokens.read(&token), Some(subject));
                assert_eq!(Tokens::new(b"another secret of enough bytes").read(&token), None);
            }
        }
    }

    #[test]
    fn what_was_changed_or_cut_off_is_no_token() {
        let tokens = Tokens::new(b"a secret of more than sixteen bytes");
        let token = tokens.issue(&subject(Who::Client(ClientId::new()), Some("news")));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(tokens.read(std::str::from_utf8(&changed).unwrap()), None, "{at}");
            assert_eq!(tokens.read(&token[..at]), None, "{at}");
        }
        for other in [format!("{token}A"), format!("{token}="), "é".to_owned(), "A".repeat(10_000)] {
            assert_eq!(tokens.read(&other), None);
        }
    }

    #[test]
    fn a_link_stands_under_the_public_url_whether_or_not_that_ends_in_a_slash() {
        for base in ["https://mail.example.com/x", "https://mail.example.com/x/"] {
            let url = Links::new(base, b"secret").url(&subject(Who::Client(ClientId::new()), None));
            assert!(url.starts_with("https://mail.example.com/x/unsubscribe/"), "{url}");
        }
    }
}
