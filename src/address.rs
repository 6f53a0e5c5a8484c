//! Addresses of people: which texts are one, and the normal form by which two of them are the same.

pub mod email;
pub mod text;

use std::borrow::Cow;

use self::email::EmailAddress;
use crate::kinds::ChannelKind;

/// The normal form of an address that was accepted on a channel: equal for all spellings of one address. A phone number is
/// its E.164 digits. What cannot be read as an address of the channel stands for itself.
pub fn normal(channel: ChannelKind, address: &str) -> Cow<'_, str> {
    match channel {
        ChannelKind::Sms => address.strip_prefix('+').unwrap_or(address).into(),
        ChannelKind::Email => match EmailAddress::parse(address) {
            Ok(email) => email.normal().into(),
            Err(_) => address.to_lowercase().into(),
        },
        // tokens, ids, and URLs as the parser of URLs has written them
        ChannelKind::Push
        | ChannelKind::Webhook
        | ChannelKind::Discord
        | ChannelKind::InApp
        | ChannelKind::Request => address.into(),
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
