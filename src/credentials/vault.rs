//! Encryption at rest: AES-256-GCM with keys that the database does not have.
//!
//! What is encrypted is bound to what it belongs to (the *associated data*): put beside another name, kind or address, it
//! does not open. Each text says by a fingerprint which key opens it, so keys can be changed one after another.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::seal::Seal;

/// The form of a text: `v1.<fingerprint of the key>.<nonce, ciphertext and tag in base64url>`.
const FORM: &str = "v1";
/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of a fingerprint.
const FINGERPRINT: usize = 6;
/// What a key may be, for whoever has a wrong one.
const WRONG: &str = "each must be 32 bytes in base64 or hexadecimal; `openssl rand -base64 32` makes one";

/// Keys, the first of which encrypts; all of them decrypt. There may be none.
#[derive(Default)]
pub struct Vault(Vec<Key>);

struct Key {
    fingerprint: String,
    cipher: LessSafeKey,
    /// Codes made with the same key, for what must be compared and not be guessed.
    codes: Seal,
}

/// Why a text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// None of the keys encrypted it.
    UnknownKey,
    /// It is not as it was written, or was written for something else.
    Changed,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.fingerprint)).finish()
    }
}

impl Vault {
    /// Reads keys, each 32 bytes in base64 or hexadecimal, separated by white space.
    ///
    /// # Errors
    /// What is wrong, without the key.
    pub fn parse(texts: &str) -> std::result::Result<Self, String> {
        let keys: Vec<Key> = texts.split_whitespace().map(key).collect::<std::result::Result<_, _>>()?;
        if keys.is_empty() {
            return Err(format!("has no key: {WRONG}"));
        }
        Ok(Self(keys))
    }

    /// With another key behind the others, of these 32 bytes: it encrypts only where there is no other.
    ///
    /// # Errors
    /// [`Error::Internal`] for bytes that are not a key.
    pub fn and(mut self, bytes: &[u8]) -> Result<Self> {
        self.0.push(of_bytes(bytes).map_err(Error::internal)?);
        Ok(self)
    }

    /// # Errors
    /// [`Error::Conflict`] when nothing can be encrypted, which says how to make a key.
    pub fn require_key(&self) -> Result<()> {
        self.0.first().map(drop).ok_or_else(no_key)
    }

    /// Encrypts a text that belongs to this.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn seal(&self, text: &str, of: &str) -> Result<String> {
        let key = self.0.first().ok_or_else(no_key)?;
        let broken = |_| Error::internal("a credential could not be encrypted");
        // drawn anew each time: with one key 2^32 texts are safe (NIST SP 800-38D, 8.3)
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(broken)?;
        let mut sealed = text.as_bytes().to_vec();
        let (once, of) = (Nonce::assume_unique_for_key(nonce), Aad::from(of));
        key.cipher.seal_in_place_append_tag(once, of, &mut sealed).map_err(broken)?;
        let whole = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{FORM}.{}.{whole}", key.fingerprint))
    }

    /// Decrypts a text that belongs to this.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, sealed: &str, of: &str) -> std::result::Result<SecretString, Unopened> {
        let (fingerprint, whole) = parts(sealed).ok_or(Unopened::Changed)?;
        let mut keys = self.0.iter().filter(|key| key.fingerprint == fingerprint).peekable();
        keys.peek().ok_or(Unopened::UnknownKey)?;
        let whole = URL_SAFE_NO_PAD.decode(whole).map_err(|_| Unopened::Changed)?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN).ok_or(Unopened::Changed)?;
        let open = |key: &Key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = sealed.to_vec();
            let length = key.cipher.open_in_place(nonce, Aad::from(of), &mut text).ok()?.len();
            text.truncate(length);
            String::from_utf8(text).ok().map(SecretString::from)
        };
        keys.find_map(open).ok_or(Unopened::Changed)
    }

    /// Whether a key for this text is here.
    pub fn knows(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(print, _)| self.0.iter().any(|key| key.fingerprint == print))
    }

    /// Whether the key that encrypts now encrypted this.
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(print, _)| self.0.first().is_some_and(|key| key.fingerprint == print))
    }

    /// What stands for these bytes where they may be compared and not be guessed: a digest of a request that bears a
    /// password could be tried against a dictionary.
    ///
    /// # Errors
    /// [`Error::Conflict`] without a key.
    pub fn blind(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.0.first().map(|key| key.codes.code(bytes)).ok_or_else(no_key)
    }
}

fn no_key() -> Error {
    Error::Conflict(
        "no credential can be kept here, since there is no key to encrypt it with: make one with `openssl rand \
         -base64 32`, and set it as CREDENTIALS_KEY at every node"
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
        return Err(format!("is 32 times the same byte, which anybody can guess: {WRONG}"));
    }
    let cipher = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| WRONG)?;
    let print = Seal::new(bytes, b"fingerprint of a key for credentials").code(b"");
    let fingerprint = URL_SAFE_NO_PAD.encode(print.get(..FINGERPRINT).unwrap_or_default());
    let codes = Seal::new(bytes, b"codes of requests that bear credentials");
    Ok(Key { fingerprint, cipher: LessSafeKey::new(cipher), codes })
}

/// Hexadecimal before base64: 64 digits are both, and only the one is 32 bytes.
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
