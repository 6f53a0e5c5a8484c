//! Encryption at rest: AES-256-GCM with keys that the database does not have.
//!
//! A ciphertext is bound to its owner by *associated data*: with another name, kind or address it cannot be decrypted.
//! It begins with the fingerprint of its key, so keys can be rotated one after another.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::seal::Signer;

/// The prefix of a sealed text: `v1.<fingerprint of the key>.<nonce, ciphertext and tag in base64url>`.
const FORM: &str = "v1";
/// The length of a key, in bytes.
const KEY: usize = 32;
/// The length of a fingerprint, in bytes.
const FINGERPRINT: usize = 6;
/// The rule for keys, for error messages.
const WRONG: &str = "each must be 32 bytes in base64 or hexadecimal; `openssl rand -base64 32` generates one";

/// A list of keys, which may be empty. The first key encrypts; all of them decrypt.
#[derive(Default)]
pub struct Vault(Vec<Key>);

struct Key {
    fingerprint: String,
    cipher: LessSafeKey,
    /// Makes the codes of [`Vault::blind`], with a key derived from the same bytes.
    codes: Signer,
}

/// The reason why a text cannot be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecryptError {
    /// It was encrypted with a key that is not in the vault.
    UnknownKey,
    /// It was changed after it was encrypted, or was encrypted with other associated data.
    Changed,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.fingerprint)).finish()
    }
}

impl Vault {
    /// Parses keys separated by white space, each 32 bytes in base64 or hexadecimal.
    ///
    /// # Errors
    /// The rule that a key breaks, without the key.
    pub fn parse(texts: &str) -> std::result::Result<Self, String> {
        let keys: Vec<Key> = texts.split_whitespace().map(key).collect::<std::result::Result<_, _>>()?;
        if keys.is_empty() {
            return Err(format!("has no key: {WRONG}"));
        }
        Ok(Self(keys))
    }

    /// Adds these 32 bytes as the last key, which encrypts only if it is the only one.
    ///
    /// # Errors
    /// [`Error::Internal`] for bytes that are not a key.
    pub fn and(mut self, bytes: &[u8]) -> Result<Self> {
        self.0.push(of_bytes(bytes).map_err(Error::internal)?);
        Ok(self)
    }

    /// Checks that there is a key to encrypt with.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key; it says how to generate one.
    pub fn require_key(&self) -> Result<()> {
        self.0.first().map(drop).ok_or_else(no_key)
    }

    /// Encrypts a text, with `of` as the associated data.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn seal(&self, text: &str, of: &str) -> Result<String> {
        let key = self.0.first().ok_or_else(no_key)?;
        let broken = |_| Error::internal("a credential could not be encrypted");
        // a random nonce for each text is safe for 2^32 texts with one key (NIST SP 800-38D, 8.3)
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(broken)?;
        let mut sealed = text.as_bytes().to_vec();
        let (once, of) = (Nonce::assume_unique_for_key(nonce), Aad::from(of));
        key.cipher.seal_in_place_append_tag(once, of, &mut sealed).map_err(broken)?;
        let whole = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{FORM}.{}.{whole}", key.fingerprint))
    }

    /// Decrypts a text, with `of` as the associated data.
    ///
    /// # Errors
    /// The reason why it cannot be decrypted.
    pub fn open(&self, sealed: &str, of: &str) -> std::result::Result<SecretString, DecryptError> {
        let (fingerprint, whole) = parts(sealed).ok_or(DecryptError::Changed)?;
        let mut keys = self.0.iter().filter(|key| key.fingerprint == fingerprint).peekable();
        keys.peek().ok_or(DecryptError::UnknownKey)?;
        let whole = URL_SAFE_NO_PAD.decode(whole).map_err(|_| DecryptError::Changed)?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN).ok_or(DecryptError::Changed)?;
        let open = |key: &Key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = sealed.to_vec();
            let length = key.cipher.open_in_place(nonce, Aad::from(of), &mut text).ok()?.len();
            text.truncate(length);
            String::from_utf8(text).ok().map(SecretString::from)
        };
        keys.find_map(open).ok_or(DecryptError::Changed)
    }

    /// Returns true if the vault has the key of this text.
    pub fn knows(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(print, _)| self.0.iter().any(|key| key.fingerprint == print))
    }

    /// Returns true if this text was encrypted with the first key.
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(print, _)| self.0.first().is_some_and(|key| key.fingerprint == print))
    }

    /// Returns a keyed code of these bytes, by which they can be compared. Unlike the plain digest of a request with a
    /// password, it cannot be attacked with a dictionary.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn blind(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.0.first().map(|key| key.codes.code(bytes)).ok_or_else(no_key)
    }
}

fn no_key() -> Error {
    Error::Conflict(
        "there is no key to encrypt credentials with: generate one with `openssl rand -base64 32`, and set it as \
         CREDENTIALS_KEY on all nodes"
            .into(),
    )
}

fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')
}

fn key(text: &str) -> std::result::Result<Key, String> {
    of_bytes(&bytes(text).ok_or(WRONG)?)
}

fn of_bytes(bytes: &[u8]) -> std::result::Result<Key, String> {
    if bytes.len() != KEY {
        return Err(WRONG.to_owned());
    }
    if bytes.iter().all(|byte| bytes.first() == Some(byte)) {
        return Err(format!("must not be 32 times the same byte, which can be guessed: {WRONG}"));
    }
    let cipher = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| WRONG)?;
    let print = Signer::new(bytes, b"fingerprint of a key for credentials").code(b"");
    let fingerprint = URL_SAFE_NO_PAD.encode(print.get(..FINGERPRINT).unwrap_or_default());
    let codes = Signer::new(bytes, b"codes of requests that bear credentials");
    Ok(Key { fingerprint, cipher: LessSafeKey::new(cipher), codes })
}

/// Decodes a key. Hexadecimal comes first: 64 hexadecimal digits are valid base64 too, but for 48 bytes.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() == 2 * KEY && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let pairs = text.as_bytes().chunks(2);
        return pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    }
    let forgiving = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, forgiving).decode(text).ok()
}

#[cfg(test)]
mod tests;
