//! A client as one mailing sees it: where its message goes, and what fills the placeholders.

use std::collections::BTreeMap;

use minijinja::value::Value;

use crate::clients::reach;
use crate::db::types::{ClientId, Timestamp};
use crate::kinds::ChannelKind;

/// The client's own fields that a text may name; every other name is an attribute.
pub const FIELDS: &[&str] =
    &["phone_number", "mobile_operator_code", "tag", "timezone", "locale", "email", "external_id"];

/// One client of an audience.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipient {
    /// Which client.
    pub client_id: ClientId,
    /// E.164 digits.
    pub phone_number: i64,
    /// Where its message goes, when that is no phone number and the client has it.
    pub address: Option<Box<str>>,
    /// What fills the placeholders, and chooses the language; none when nothing depends on it, to keep what waits in
    /// memory small.
    pub profile: Option<Box<Profile>>,
    /// When the client was changed last.
    pub updated_at: Timestamp,
}

/// The parts of a client that a text may name.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its mobile operator.
    pub mobile_operator_code: Option<String>,
    /// Its tag.
    pub tag: Option<String>,
    /// Its IANA time zone.
    pub timezone: Option<String>,
    /// The language that it is written to in.
    pub locale: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its id in the user's other systems.
    pub external_id: Option<String>,
    /// Its attributes as JSON.
    pub attributes: String,
}

impl Recipient {
    /// The address on the channel that it was read for.
    ///
    /// # Errors
    /// What the client lacks.
    pub fn address(&self, channel: ChannelKind) -> Result<String, String> {
        match (channel, &self.address) {
            (ChannelKind::Sms, _) => Ok(self.phone_number.to_string()),
            (_, Some(address)) => Ok(address.to_string()),
            (_, None) => Err(reach::lacks(channel)),
        }
    }

    /// The language that it is written to in, if that was read and is known.
    pub fn locale(&self) -> Option<&str> {
        self.profile.as_ref().and_then(|profile| profile.locale.as_deref())
    }

    /// What fills the placeholders. A field that the client does not have has no value: strict texts fail on it.
    pub fn values(&self) -> Value {
        Value::from(self.fields())
    }

    /// The same, by their names.
    pub fn fields(&self) -> BTreeMap<String, Value> {
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        if let Some(profile) = &self.profile {
            // written by this service; what cannot be read leaves its placeholders without a value
            values = serde_json::from_str(&profile.attributes).unwrap_or_default();
            let fields = [
                ("mobile_operator_code", &profile.mobile_operator_code),
                ("tag", &profile.tag),
                ("timezone", &profile.timezone),
                ("locale", &profile.locale),
                ("email", &profile.email),
                ("external_id", &profile.external_id),
            ];
            for (name, value) in fields {
                values.extend(value.as_ref().map(|value| (name.to_owned(), Value::from(value.as_str()))));
            }
        }
        values.insert("phone_number".into(), Value::from(self.phone_number.to_string()));
        values
    }
}
