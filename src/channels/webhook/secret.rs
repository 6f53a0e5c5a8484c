//! Secrets of Standard Webhooks, and the signatures made with them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};

const PREFIX: &str = "whsec_";
/// The bounds of the specification, in bytes.
const SHORTEST: usize = 24;
const LONGEST: usize = 64;
const GENERATED: usize = 32;

/// Accepts missing padding, as the published libraries do; always writes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing secret: `whsec_` and 24 to 64 bytes in base64. Only [`Secret::expose`] reveals it.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    key: hmac::Key,
}

impl Secret {
    /// Generates a random secret.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; GENERATED];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::internal("the system provides no random bytes for a secret"))?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        let text = format!("{PREFIX}{}", BASE64.encode(bytes));
        Self { text: text.into(), key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    /// The text that the receiver verifies signatures with.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns `v1,` and the signature of a body that is sent at this time, in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            context.update(part.as_bytes());
        }
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let wrong = "a webhook secret is whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)";
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| BASE64.decode(encoded).ok()).ok_or(wrong)?;
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(
                "a webhook secret has 24 to 64 bytes, in base64 after whsec_; this one has fewer or more",
            );
        }
        Ok(Self::of(&bytes))
    }
}
