//! The targets of an event, as its sender names them: a client, or addresses.

use serde_json::Value;

use crate::clients::model::{Email, ExternalId, PhoneNumber};
use crate::clients::reach;
use crate::db::types::ClientId;
use crate::error::Complaints;
use crate::kinds::{AddressSyntax, ChannelKind};

/// The longest reference, in characters.
const LONGEST: usize = 254;
/// The fields of a target that identify a client.
const IDENTIFIERS: [&str; 4] = ["client_id", "external_id", "email", "phone_number"];

/// A target of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A text that may be any identifier of a client, or an address.
    reference: Option<String>,
    client_id: Option<ClientId>,
    external_id: Option<String>,
    addresses: Vec<(ChannelKind, String)>,
}

/// The identifiers by which a client can be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientNames {
    /// Its id.
    pub id: Option<ClientId>,
    /// Its id in the user's other systems.
    pub external_id: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its phone number, as E.164 digits.
    pub phone_number: Option<i64>,
}

impl Target {
    /// Creates a target from one text.
    pub fn reference(text: &str) -> Self {
        Self { reference: Some(text.to_owned()), ..Self::default() }
    }

    /// Parses a target of an event, and adds its errors to `wrong` under `field`.
    pub fn read(field: &str, value: &Value, wrong: &mut Complaints) -> Self {
        match value {
            Value::String(text) => {
                wrong.check(field, is_reference(text));
                Self::reference(text)
            }
            Value::Object(parts) => {
                let mut target = Self::default();
                for (name, value) in parts {
                    let at = format!("{field}.{name}");
                    match value.as_str() {
                        Some(text) => target.take(&at, name, text, wrong),
                        None => wrong.add(at, "must be a text"),
                    }
                }
                if parts.is_empty() {
                    wrong.add(field, form());
                }
                target
            }
            _ => {
                wrong.add(field, form());
                Self::default()
            }
        }
    }

    fn take(&mut self, at: &str, name: &str, text: &str, wrong: &mut Complaints) {
        let of_channel = |channel: &&ChannelKind| channel.spec().client.field() == Some(name);
        let channel = match name {
            "client_id" => {
                self.client_id = wrong.check(at, text.parse().map_err(|_| "must be a client's UUID"));
                return;
            }
            "external_id" => {
                let id = wrong.check(at, text.parse::<ExternalId>());
                self.external_id = id.map(|id| id.to_string());
                return;
            }
            _ => match ChannelKind::TO_PEOPLE.iter().find(of_channel) {
                Some(channel) => *channel,
                None => return wrong.add(at, format!("is not a field of a target, which {}", form())),
            },
        };
        let address = wrong.check(at, reach::parse(channel, text));
        self.addresses.extend(address.map(|address| (channel, address)));
    }

    /// Returns the identifiers by which its client can be found.
    pub fn names(&self) -> ClientNames {
        let mut names = ClientNames {
            id: self.client_id,
            external_id: self.external_id.clone(),
            ..ClientNames::default()
        };
        for (channel, address) in &self.addresses {
            names.take_address(*channel, address);
        }
        if let Some(text) = &self.reference {
            names.id = text.parse().ok();
            names.external_id = Some(text.clone());
            names.take_address(ChannelKind::Email, text);
            names.take_address(ChannelKind::Sms, text);
        }
        names
    }

    /// Returns its own address on a channel, without a client. A text is used as an address if it is valid on the
    /// channel; on `in_app` it is a user's id.
    pub fn address(&self, channel: ChannelKind) -> Option<String> {
        if let Some((_, address)) = self.addresses.iter().find(|(kind, _)| *kind == channel) {
            return Some(address.clone());
        }
        let own = match channel.spec().address {
            // any text could be a token
            AddressSyntax::Token => None,
            AddressSyntax::UserId => self.external_id.as_ref().or(self.reference.as_ref()),
            AddressSyntax::Phone | AddressSyntax::Email | AddressSyntax::Url => self.reference.as_ref(),
        };
        own.and_then(|text| reach::parse(channel, text).ok())
    }

    /// Adds the top-level addresses of a payload for channels on which the target has no address.
    pub fn with_payload(mut self, payload: &serde_json::Map<String, Value>) -> Self {
        let field = |channel: &ChannelKind| Some((channel.spec().client.field()?, *channel));
        let fields = ChannelKind::TO_PEOPLE.iter().filter_map(field);
        for (name, channel) in fields.chain([("phone", ChannelKind::Sms)]) {
            let address = payload.get(name).and_then(|value| match value {
                Value::String(text) => reach::parse(channel, text).ok(),
                Value::Number(number) => reach::parse(channel, &number.to_string()).ok(),
                _ => None,
            });
            if let Some(address) = address
                && !self.addresses.iter().any(|(kind, _)| *kind == channel)
            {
                self.addresses.push((channel, address));
            }
        }
        self
    }

    /// Returns true if it has no identifier and no address.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ClientNames {
    fn take_address(&mut self, channel: ChannelKind, text: &str) {
        match channel.spec().address {
            AddressSyntax::Email if self.email.is_none() => {
                self.email = text.parse::<Email>().ok().map(|email| email.key());
            }
            AddressSyntax::Phone if self.phone_number.is_none() => {
                self.phone_number = text.parse::<PhoneNumber>().ok().map(PhoneNumber::number);
            }
            _ => {}
        }
    }
}

/// Returns the rule for targets.
fn form() -> String {
    let of_channels = ChannelKind::TO_PEOPLE.iter().filter_map(|channel| channel.spec().client.field());
    let addresses = of_channels.filter(|field| !IDENTIFIERS.contains(field));
    let mut fields: Vec<&str> = IDENTIFIERS.into_iter().chain(addresses).collect();
    let last = fields.pop().unwrap_or_default();
    format!(
        "must be a client's id, external_id, e-mail address or phone number, or an object with some of {} and {last}",
        fields.join(", ")
    )
}

fn is_reference(text: &str) -> Result<(), String> {
    let is_good =
        !text.is_empty() && !text.chars().any(char::is_control) && text.chars().nth(LONGEST).is_none();
    if is_good {
        Ok(())
    } else {
        Err(format!("must be 1 to {LONGEST} characters without control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use serde_json::json;

    #[test]
    fn the_rule_names_every_field() {
        assert_eq!(
            form(),
            "must be a client's id, external_id, e-mail address or phone number, or an object with some of client_id, \
             external_id, email, phone_number, push_token, webhook_url and discord_url"
        );
    }

    fn read(value: &Value) -> Result<Target, Vec<String>> {
        let mut wrong = Complaints::default();
        let target = Target::read("user_target", value, &mut wrong);
        match wrong.finish() {
            Ok(()) => Ok(target),
            Err(Error::Invalid(fields)) => Err(fields.into_iter().map(|field| field.field).collect()),
            Err(other) => unreachable!("{other}"),
        }
    }

    #[test]
    fn a_word_may_be_any_name_of_a_client() {
        let id = ClientId::new();
        let names = |text: &str| read(&json!(text)).unwrap().names();
        assert_eq!(names("reno"), ClientNames { external_id: Some("reno".into()), ..ClientNames::default() });
        assert_eq!(names(&id.to_string()).id, Some(id));
        assert_eq!(names("reno@example.com").email.as_deref(), Some("reno@example.com"));
        assert_eq!(names("+79031234567").phone_number, Some(79031234567));
    }

    #[test]
    fn a_word_is_an_address_only_where_it_looks_like_one() {
        let address = |text: &str, channel| read(&json!(text)).unwrap().address(channel);
        assert_eq!(address("reno", ChannelKind::InApp).as_deref(), Some("reno"));
        assert_eq!(address("reno@example.com", ChannelKind::Email).as_deref(), Some("reno@example.com"));
        assert_eq!(address("+79031234567", ChannelKind::Sms).as_deref(), Some("+79031234567"));
        for channel in [ChannelKind::Email, ChannelKind::Sms, ChannelKind::Push, ChannelKind::Webhook] {
            assert_eq!(address("reno", channel), None, "{channel}");
        }
    }

    #[test]
    fn an_object_has_addresses_and_a_payload_adds_what_is_missing() {
        let target = read(&json!({"external_id": "s-1", "email": "a@b.com", "push_token": "t"})).unwrap();
        let payload = json!({"email": "c@d.com", "phone": 79031234567_i64, "webhook_url": "nonsense"});
        let target = target.with_payload(payload.as_object().unwrap());
        for (channel, expected) in [
            (ChannelKind::Email, Some("a@b.com")),
            (ChannelKind::Push, Some("t")),
            (ChannelKind::Sms, Some("+79031234567")),
            (ChannelKind::InApp, Some("s-1")),
            (ChannelKind::Webhook, None),
        ] {
            assert_eq!(target.address(channel).as_deref(), expected, "{channel}");
        }
        assert_eq!(target.names().external_id.as_deref(), Some("s-1"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, field) in [
            (json!(1), "user_target"),
            (json!(""), "user_target"),
            (json!("two\nlines"), "user_target"),
            (json!({}), "user_target"),
            (json!({"email": "not-an-address"}), "user_target.email"),
            (json!({"email": 1}), "user_target.email"),
            (json!({"client_id": "1"}), "user_target.client_id"),
            (json!({"name": "reno"}), "user_target.name"),
        ] {
            assert_eq!(read(&value), Err(vec![field.to_owned()]), "{value}");
        }
    }
}
