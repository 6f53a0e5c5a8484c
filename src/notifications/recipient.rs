//! Whom a notification is for: an address that fits its channel, or a client who has one.

use url::Url;

use super::repo::Addresses;
use crate::clients::model::{Email, PhoneNumber, PushToken};
use crate::db::types::ClientId;
use crate::kinds::ChannelKind;

const LONGEST_URL: usize = 2048;
const LONGEST_USER: usize = 200;

/// The address in the form in which it is kept.
///
/// # Errors
/// Says what an address of this channel looks like; it does not repeat the address.
pub fn parse(channel: ChannelKind, text: &str) -> Result<String, String> {
    match channel {
        ChannelKind::Sms => {
            let number: PhoneNumber = text.parse().map_err(String::from)?;
            Ok(e164(number.number()))
        }
        ChannelKind::Email => Ok(text.parse::<Email>()?.to_string()),
        ChannelKind::Push => Ok(text.parse::<PushToken>()?.to_string()),
        ChannelKind::Webhook | ChannelKind::Discord => url(text),
        ChannelKind::InApp => {
            let is_user = (1..=LONGEST_USER).contains(&text.chars().count())
                && !text.chars().any(|c| c.is_control() || c.is_whitespace());
            if is_user {
                Ok(text.to_owned())
            } else {
                Err(format!("must be a user's id: 1 to {LONGEST_USER} characters without spaces"))
            }
        }
    }
}

fn url(text: &str) -> Result<String, String> {
    let form = "must be an https URL such as https://example.com/hooks/1, without user and password";
    let url = Url::parse(text).map_err(|_| form)?;
    let is_good = url.scheme() == "https"
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && text.len() <= LONGEST_URL;
    if is_good { Ok(url.into()) } else { Err(form.into()) }
}

fn e164(number: i64) -> String {
    format!("+{number}")
}

/// Where a client is reached on a channel.
///
/// # Errors
/// Says what the client lacks.
pub fn of_client(channel: ChannelKind, id: ClientId, addresses: &Addresses) -> Result<String, String> {
    let lacks = |what: &str| format!("the client has no {what}, which `{channel}` needs");
    match channel {
        ChannelKind::Sms => Ok(e164(addresses.phone_number)),
        ChannelKind::Email => addresses.email.clone().ok_or_else(|| lacks("e-mail address")),
        ChannelKind::Push => addresses.push_token.clone().ok_or_else(|| lacks("push token")),
        ChannelKind::InApp => Ok(id.to_string()),
        ChannelKind::Webhook | ChannelKind::Discord => {
            Err(format!("a client has no URL; give the `recipient` of a `{channel}` notification"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_takes_addresses_of_its_own() {
        let good = [
            (ChannelKind::Sms, "+905551234567", "+905551234567"),
            (ChannelKind::Sms, "79031234567", "+79031234567"),
            (ChannelKind::Email, "user@example.com", "user@example.com"),
            (ChannelKind::Push, "device-token", "device-token"),
            (ChannelKind::Webhook, "https://example.com/h?a=1", "https://example.com/h?a=1"),
            (
                ChannelKind::Discord,
                "https://discord.com/api/webhooks/1/x",
                "https://discord.com/api/webhooks/1/x",
            ),
            (ChannelKind::InApp, "user-1", "user-1"),
        ];
        for (channel, text, kept) in good {
            assert_eq!(parse(channel, text).as_deref(), Ok(kept));
        }
        let bad = [
            (ChannelKind::Sms, "12"),
            (ChannelKind::Sms, "user@example.com"),
            (ChannelKind::Email, "user"),
            (ChannelKind::Email, "a@b.com\r\nBcc: c@d.com"),
            (ChannelKind::Push, ""),
            (ChannelKind::Webhook, "http://example.com/"),
            (ChannelKind::Webhook, "https://user:secret@example.com/"),
            (ChannelKind::Webhook, "file:///etc/passwd"),
            (ChannelKind::Discord, "discord"),
            (ChannelKind::InApp, "two words"),
            (ChannelKind::InApp, "nul\0"),
        ];
        for (channel, text) in bad {
            assert!(parse(channel, text).is_err(), "{channel} {text}");
        }
    }
}
