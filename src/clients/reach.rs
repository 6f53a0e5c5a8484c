//! The addresses of each channel: their syntax, and a client's address.

use serde_json::{Map, Value};
use url::Url;

use crate::clients::model::{Email, PhoneNumber, PushToken};
use crate::db::types::ClientId;
use crate::kinds::{AddressSyntax, ChannelKind, ClientAddress};

const LONGEST_URL: usize = 2048;
const LONGEST_USER: usize = 200;

/// Parses an address of a channel and returns the form that is stored.
///
/// # Errors
/// The text is not an address of this channel. The message describes the syntax and does not repeat the address.
pub fn parse(channel: ChannelKind, text: &str) -> Result<String, String> {
    match channel.spec().address {
        AddressSyntax::Phone => {
            let number: PhoneNumber = text.parse().map_err(String::from)?;
            Ok(e164(number.number()))
        }
        AddressSyntax::Email => Ok(text.parse::<Email>()?.to_string()),
        AddressSyntax::Token => Ok(text.parse::<PushToken>()?.to_string()),
        AddressSyntax::Url => url(text),
        AddressSyntax::UserId => {
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
    let form = "must be a URL like https://example.com/hooks/1, without user and password";
    let url = Url::parse(text).map_err(|_| form)?;
    // egress allows plain http only to the networks of the settings, and refuses other destinations
    let is_good = matches!(url.scheme(), "https" | "http")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && text.len() <= LONGEST_URL;
    if is_good { Ok(url.into()) } else { Err(form.into()) }
}

fn e164(number: i64) -> String {
    format!("+{number}")
}

/// The addresses of a client.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddresses<'c> {
    /// The id of the client.
    pub id: ClientId,
    /// The E.164 digits of its phone number.
    pub phone_number: Option<i64>,
    /// The e-mail address.
    pub email: Option<&'c str>,
    /// The push token of its device.
    pub push_token: Option<&'c str>,
    /// The id in the caller's other systems.
    pub external_id: Option<&'c str>,
    /// The attributes as JSON.
    pub attributes: &'c str,
}

impl ClientAddresses<'_> {
    /// Returns the client's address on a channel, if it has one. On `in_app` this is its external id, so that a page of
    /// the caller's own systems can show the inbox.
    pub fn on(&self, channel: ChannelKind) -> Option<String> {
        match channel.spec().client {
            ClientAddress::PhoneNumber => self.phone_number.map(e164),
            ClientAddress::Email => self.email.map(str::to_owned),
            ClientAddress::PushToken => self.push_token.map(str::to_owned),
            ClientAddress::Id => {
                let own = self.external_id.and_then(|id| parse(channel, id).ok());
                Some(own.unwrap_or_else(|| self.id.to_string()))
            }
            ClientAddress::Attribute(name) => self.attribute(channel, name),
            ClientAddress::Nothing => None,
        }
    }

    fn attribute(&self, channel: ChannelKind, name: &str) -> Option<String> {
        // this service wrote the JSON; unreadable attributes have no address
        let attributes: Map<String, Value> = serde_json::from_str(self.attributes).ok()?;
        parse(channel, attributes.get(name)?.as_str()?).ok()
    }
}

/// Returns the reason why a client cannot be reached on a channel.
pub fn lacks(channel: ChannelKind) -> String {
    let what = match channel.spec().client {
        ClientAddress::PhoneNumber => "phone number",
        ClientAddress::Email => "e-mail address",
        ClientAddress::PushToken => "push token",
        ClientAddress::Id => "id",
        ClientAddress::Attribute(name) => &format!("URL in its attribute `{name}`"),
        ClientAddress::Nothing => "URL",
    };
    format!("the client has no {what}, which `{channel}` needs")
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
            (ChannelKind::Webhook, "ftp://example.com/"),
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

    #[test]
    fn a_client_is_reached_by_what_it_has() {
        let id = ClientId::new();
        let attributes = r#"{"webhook_url": "https://example.com/h", "discord_url": "no URL"}"#;
        let bare = ClientAddresses {
            id,
            phone_number: Some(79031234567),
            email: None,
            push_token: None,
            external_id: None,
            attributes: "{}",
        };
        let rich = ClientAddresses {
            email: Some("a@b.com"),
            push_token: Some("t"),
            external_id: Some("crm-1"),
            attributes,
            ..bare
        };
        for (channel, of_bare, of_rich) in [
            (ChannelKind::Sms, Some("+79031234567"), Some("+79031234567")),
            (ChannelKind::Email, None, Some("a@b.com")),
            (ChannelKind::Push, None, Some("t")),
            (ChannelKind::Webhook, None, Some("https://example.com/h")),
            (ChannelKind::Discord, None, None),
            (ChannelKind::InApp, Some(id.to_string().as_str()), Some("crm-1")),
        ] {
            assert_eq!(bare.on(channel).as_deref(), of_bare, "{channel}");
            assert_eq!(rich.on(channel).as_deref(), of_rich, "{channel}");
        }
        let odd = ClientAddresses { external_id: Some("two words"), ..bare };
        assert_eq!(odd.on(ChannelKind::InApp), Some(id.to_string()));
    }
}
