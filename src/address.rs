//! Addresses of people: their validation, and the normal form by which two of them are compared.

pub mod email;
pub mod text;

use std::borrow::Cow;

use self::email::EmailAddress;
use crate::kinds::{AddressSyntax, ChannelKind};

/// Returns the normal form of an address that was accepted on a channel; all spellings of one address have the same.
/// The normal form of a phone number is its E.164 digits. A text that is not an address of the channel is returned
/// unchanged, an e-mail address in lower case.
pub fn normal(channel: ChannelKind, address: &str) -> Cow<'_, str> {
    match channel.spec().address {
        AddressSyntax::Phone => address.strip_prefix('+').unwrap_or(address).into(),
        AddressSyntax::Email => match EmailAddress::parse(address) {
            Ok(email) => email.normal().into(),
            Err(_) => address.to_lowercase().into(),
        },
        // tokens, ids, and URLs that the URL parser has already normalized
        AddressSyntax::Token | AddressSyntax::UserId | AddressSyntax::Url => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_normal_form() {
        for (channel, spellings) in [
            (ChannelKind::Sms, ["+79031234567", "79031234567"]),
            (ChannelKind::Email, ["Dora@Example.COM", "dora@example.com"]),
            (ChannelKind::Email, ["anna@münchen.example", "Anna@XN--MNCHEN-3YA.example"]),
            (ChannelKind::Email, ["zoe\u{308}@example.com", "ZOË@example.com"]),
            (ChannelKind::Push, ["Token", "Token"]),
        ] {
            assert_eq!(normal(channel, spellings[0]), normal(channel, spellings[1]), "{spellings:?}");
        }
        assert_ne!(normal(ChannelKind::Push, "a"), normal(ChannelKind::Push, "A"));
    }
}
