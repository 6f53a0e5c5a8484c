//! Codes that only this service can make, for tokens of which nothing is stored (HMAC-SHA256, RFC 2104).

use ring::hmac;
use subtle::ConstantTimeEq;

/// Makes codes for one purpose and checks them.
pub struct Seal(hmac::Key);

impl Seal {
    /// With a key made of this secret: nodes with one secret take each other's codes, and another secret takes none of
    /// them. The purpose keeps them apart from what else is made with the same secret.
    pub fn new(secret: &[u8], purpose: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// The code of this: 32 bytes.
    pub fn code(&self, signed: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, signed).as_ref().to_vec()
    }

    /// Whether this is its code. In constant time: how long it takes tells nothing of how much was right.
    pub fn confirms(&self, signed: &[u8], code: &[u8]) -> bool {
        self.code(signed).ct_eq(code).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_worth_something_for_its_text_secret_and_purpose_alone() {
        let seal = Seal::new(b"a secret", b"tests");
        let code = seal.code(b"text");
        assert!(seal.confirms(b"text", &code) && Seal::new(b"a secret", b"tests").confirms(b"text", &code));
        assert!(!seal.confirms(b"texts", &code) && !seal.confirms(b"text", &code[..31]));
        assert!(!seal.confirms(b"text", &[0; 32]) && !seal.confirms(b"text", b""));
        assert!(!Seal::new(b"a secret", b"others").confirms(b"text", &code));
        assert!(!Seal::new(b"other secret", b"tests").confirms(b"text", &code));
    }
}
