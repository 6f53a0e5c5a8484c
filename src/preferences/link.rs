//! The unsubscribe links of mails (RFC 8058). Each contains a token, of which nothing is stored: the encrypted address
//! and group of the mail. So a link does not reveal the address, and works after the message and the client have been
//! deleted. It never expires, because a mail may be read years later.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;

use super::model::{OptOutAddress, UnsubscribeSubject};
use crate::db::types::{ClientId, MessageId};
use crate::error::{Error, Result};
use crate::kinds::{self, ChannelKind};
use crate::seal::Signer;

/// The purpose of the codes in tokens of earlier versions.
const OLD_PURPOSE: &[u8] = b"fanfare unsubscribe token 1";
/// The purposes of the encryption key and of the nonces.
const KEY_PURPOSE: &[u8] = b"fanfare unsubscribe key 2";
const NONCE_PURPOSE: &[u8] = b"fanfare unsubscribe nonce 2";
/// The largest length of a token: base64 of the longest address.
pub const LONGEST_TOKEN: usize = 5700;
const CODE: usize = 32;

/// Issues and reads tokens.
pub struct UnsubscribeTokens {
    cipher: Option<LessSafeKey>,
    nonces: Signer,
    old: Signer,
}

impl UnsubscribeTokens {
    /// Creates an issuer with a secret. Nodes with the same secret read each other's tokens.
    pub fn new(secret: &[u8]) -> Self {
        let key = Signer::new(secret, KEY_PURPOSE).code(b"");
        // a code has the length of a key
        let cipher = UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new);
        Self { cipher, nonces: Signer::new(secret, NONCE_PURPOSE), old: Signer::new(secret, OLD_PURPOSE) }
    }

    /// Returns the token for an address on a channel, and for a group or all messages. It consists of letters, digits,
    /// `-` and `_`, and is always the same for the same input.
    ///
    /// # Errors
    /// None in practice, because encrypting a short text does not fail.
    pub fn issue(&self, channel: ChannelKind, address: &str, group: Option<&str>) -> Result<String> {
        let broken = || Error::internal("encryption of an unsubscribe link failed");
        let group = group.unwrap_or_default();
        let mut token = vec![
            u8::try_from(channel.code()).map_err(|_| broken())?,
            u8::try_from(group.len()).map_err(|_| broken())?,
        ];
        token.extend_from_slice(group.as_bytes());
        token.extend_from_slice(address.as_bytes());
        // derived from the plaintext: a nonce repeats only for the same text, which reveals nothing new
        let nonce: [u8; NONCE_LEN] = self.nonces.code(&token).first_chunk().copied().ok_or_else(broken)?;
        let cipher = self.cipher.as_ref().ok_or_else(broken)?;
        let once = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(once, Aad::empty(), &mut token).map_err(|_| broken())?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &token].concat()))
    }

    /// Returns the subject of a token; `None` if this service did not issue it.
    pub fn read(&self, token: &str) -> Option<UnsubscribeSubject> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        self.open(&bytes).or_else(|| self.read_old(&bytes))
    }

    fn open(&self, bytes: &[u8]) -> Option<UnsubscribeSubject> {
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let once = Nonce::assume_unique_for_key(*nonce);
        let text = self.cipher.as_ref()?.open_in_place(once, Aad::empty(), &mut text).ok()?;
        let ([channel, length], rest) = text.split_first_chunk::<2>()?;
        let (group, address) = rest.split_at_checked(usize::from(*length))?;
        Some(UnsubscribeSubject {
            who: OptOutAddress::Address(String::from_utf8(address.to_vec()).ok()?),
            channel: ChannelKind::from_code(i16::from(*channel)).ok()?,
            group: group_of(group)?,
        })
    }

    /// Reads a token of an earlier version, which contains the id of a client or a message and a code.
    fn read_old(&self, bytes: &[u8]) -> Option<UnsubscribeSubject> {
        let (signed, code) = bytes.split_at_checked(bytes.len().checked_sub(CODE)?)?;
        if !self.old.confirms(signed, code) {
            return None;
        }
        let ([kind, channel], rest) = signed.split_first_chunk::<2>()?;
        let (id, group) = rest.split_first_chunk::<16>()?;
        let id = Uuid::from_bytes(*id);
        let who = match kind {
            0 => OptOutAddress::Client(ClientId(id)),
            _ => OptOutAddress::RecipientOf(MessageId(id)),
        };
        let channel = ChannelKind::from_code(i16::from(*channel)).ok()?;
        Some(UnsubscribeSubject { who, channel, group: group_of(group)? })
    }
}

/// Parses a group; `Some(None)` means all messages, `None` an invalid group.
fn group_of(word: &[u8]) -> Option<Option<String>> {
    match word {
        [] => Some(None),
        word => Some(Some(kinds::group(std::str::from_utf8(word).ok()?).ok()?)),
    }
}

/// Builds the links.
pub struct UnsubscribeLinks {
    base: String,
    tokens: UnsubscribeTokens,
}

impl UnsubscribeLinks {
    /// Creates a builder of links under the URL by which recipients reach the service.
    pub fn new(public_url: &str, secret: &[u8]) -> Self {
        Self { base: public_url.trim_end_matches('/').to_owned(), tokens: UnsubscribeTokens::new(secret) }
    }

    /// Returns the link for an address on a channel, and for a group or all messages.
    ///
    /// # Errors
    /// Those of [`UnsubscribeTokens::issue`].
    pub fn url(&self, channel: ChannelKind, address: &str, group: Option<&str>) -> Result<String> {
        Ok(format!("{}/unsubscribe/{}", self.base, self.tokens.issue(channel, address, group)?))
    }
}

impl std::fmt::Debug for UnsubscribeLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of more than sixteen bytes";

    #[test]
    fn a_token_names_whom_and_what_it_was_made_for_and_shows_neither() {
        let tokens = UnsubscribeTokens::new(SECRET);
        let longest = "g".repeat(64);
        for address in ["dora@example.com", "zoë@xn--mnchen-3ya.example", &"t".repeat(4096)] {
            for group in [None, Some("newsletter"), Some(longest.as_str())] {
                let token = tokens.issue(ChannelKind::Email, address, group).unwrap();
                assert!(token.len() <= LONGEST_TOKEN, "{}", token.len());
                assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
                let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
                assert!(!bytes.windows(8).any(|part| address.as_bytes().starts_with(part)));
                let (who, group) = (OptOutAddress::Address(address.to_owned()), group.map(str::to_owned));
                let subject = UnsubscribeSubject { who, channel: ChannelKind::Email, group };
                assert_eq!(tokens.read(&token), Some(subject));
                assert_eq!(UnsubscribeTokens::new(b"another secret of enough bytes").read(&token), None);
            }
        }
    }

    #[test]
    fn a_token_of_an_earlier_version_is_still_read() {
        let old = Signer::new(SECRET, OLD_PURPOSE);
        let (client, message) = (ClientId::new(), MessageId::new());
        for (kind, id, who) in [
            (0, client.0, OptOutAddress::Client(client)),
            (1, message.0, OptOutAddress::RecipientOf(message)),
        ] {
            let mut token = vec![kind, 2];
            token.extend_from_slice(id.as_bytes());
            token.extend_from_slice(b"news");
            token.extend_from_slice(&old.code(&token.clone()));
            let subject =
                UnsubscribeSubject { who, channel: ChannelKind::Email, group: Some("news".to_owned()) };
            assert_eq!(UnsubscribeTokens::new(SECRET).read(&URL_SAFE_NO_PAD.encode(token)), Some(subject));
        }
    }

    #[test]
    fn what_was_changed_or_cut_off_is_no_token() {
        let tokens = UnsubscribeTokens::new(SECRET);
        let token = tokens.issue(ChannelKind::Email, "dora@example.com", Some("news")).unwrap();
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
            let url = UnsubscribeLinks::new(base, b"secret").url(ChannelKind::Email, "a@b.co", None).unwrap();
            assert!(url.starts_with("https://mail.example.com/x/unsubscribe/"), "{url}");
        }
    }
}
