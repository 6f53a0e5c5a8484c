//! Message authentication codes for tokens that are not stored (HMAC-SHA256, RFC 2104).

use ring::hmac;
use subtle::ConstantTimeEq;

/// Creates and verifies codes for one purpose.
pub struct Signer(hmac::Key);

impl Signer {
    /// Derives a key from this secret. Nodes with the same secret accept each other's codes. Codes for different
    /// purposes differ, even with the same secret.
    pub fn new(secret: &[u8], purpose: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// Returns the code of a text: 32 bytes.
    pub fn code(&self, signed: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, signed).as_ref().to_vec()
    }

    /// Returns true if this is the code of the text. It takes constant time, so that the duration does not reveal how
    /// many bytes were right.
    pub fn confirms(&self, signed: &[u8], code: &[u8]) -> bool {
        self.code(signed).ct_eq(code).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_worth_something_for_its_text_secret_and_purpose_alone() {
        let seal = Signer::new(b"a secret", b"tests");
        let code = seal.code(b"text");
        assert!(seal.confirms(b"text", &code) && Signer::new(b"a secret", b"tests").confirms(b"text", &code));
        assert!(!seal.confirms(b"texts", &code) && !seal.confirms(b"text", &code[..31]));
        assert!(!seal.confirms(b"text", &[0; 32]) && !seal.confirms(b"text", b""));
        assert!(!Signer::new(b"a secret", b"others").confirms(b"text", &code));
        assert!(!Signer::new(b"other secret", b"tests").confirms(b"text", &code));
    }
}
