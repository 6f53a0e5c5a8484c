//! The recipient of a mailing's message: the client's address and the values for the placeholders.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::{Map, Value as Json};

use crate::clients::model::more_of_stored;
use crate::clients::reach;
use crate::db::types::{ClientId, Timestamp};
use crate::kinds::{ChannelKind, ClientAddress};
use crate::templates::Data;
use crate::templates::language::Value;

/// The client's own fields that a text can use; every other name is an attribute.
pub const FIELDS: &[&str] =
    &["phone_number", "mobile_operator_code", "tag", "tags", "timezone", "locale", "email", "external_id"];

/// One client of an audience.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipient {
    /// The client's id.
    pub client_id: ClientId,
    /// The phone number, as E.164 digits.
    pub phone_number: Option<i64>,
    /// The address on a channel other than `sms`, if the client has one.
    pub address: Option<Box<str>>,
    /// The values for the placeholders, and the language. `None` if no text depends on them, which saves memory while
    /// the message waits.
    pub profile: Option<Box<Profile>>,
    /// The time of the client's last change.
    pub updated_at: Timestamp,
}

/// The fields of a client that a text can use.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its mobile operator.
    pub mobile_operator_code: Option<String>,
    /// Its first tag.
    pub tag: Option<String>,
    /// Its further tags, in the stored form.
    pub more_tags: Option<String>,
    /// Its IANA time zone.
    pub timezone: Option<String>,
    /// Its language.
    pub locale: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its id in the user's other systems.
    pub external_id: Option<String>,
    /// Its attributes as JSON.
    pub attributes: String,
}

impl Recipient {
    /// Returns the address on the channel for which the client was read.
    ///
    /// # Errors
    /// The reason, if the client has no address.
    pub fn address(&self, channel: ChannelKind) -> Result<String, String> {
        match (channel.spec().client, &self.address) {
            (ClientAddress::PhoneNumber, _) => {
                self.phone_number.map(|number| number.to_string()).ok_or_else(|| reach::lacks(channel))
            }
            (_, Some(address)) => Ok(address.to_string()),
            (_, None) => Err(reach::lacks(channel)),
        }
    }

    /// Returns the client's language, if it was read and is known.
    pub fn locale(&self) -> Option<&str> {
        self.profile.as_ref().and_then(|profile| profile.locale.as_deref())
    }

    /// Returns the data for placeholders. A field that the client lacks has no value, so a strict text fails on it.
    pub fn data(&self) -> RecipientData<'_> {
        RecipientData { recipient: self, attributes: OnceCell::new(), tags: OnceCell::new() }
    }

    /// Returns the same data as a JSON object.
    pub fn fields(&self) -> Map<String, Json> {
        let mut fields = self.profile.as_deref().map(Profile::attributes).unwrap_or_default();
        for name in FIELDS {
            if let Some(text) = self.field(name) {
                fields.insert((*name).to_owned(), text.into());
            }
        }
        if let Some(profile) = &self.profile {
            fields.insert("tags".to_owned(), profile.tags().into());
        }
        fields
    }

    /// Returns one of the client's own fields, if it has a value.
    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        if name == "phone_number" {
            return self.phone_number.map(|number| number.to_string().into());
        }
        let profile = self.profile.as_ref()?;
        let field = match name {
            "mobile_operator_code" => &profile.mobile_operator_code,
            "tag" => &profile.tag,
            "timezone" => &profile.timezone,
            "locale" => &profile.locale,
            "email" => &profile.email,
            "external_id" => &profile.external_id,
            _ => return None,
        };
        field.as_deref().map(Cow::Borrowed)
    }
}

impl Profile {
    /// Parses the attributes. This service wrote them; if they cannot be parsed, their placeholders have no value.
    fn attributes(&self) -> Map<String, Json> {
        serde_json::from_str(&self.attributes).unwrap_or_default()
    }

    fn tags(&self) -> Vec<Json> {
        let more = more_of_stored(self.more_tags.as_deref()).into_iter().map(|(_, tag)| tag);
        self.tag.iter().cloned().chain(more).map(Json::from).collect()
    }
}

/// A client's fields and attributes. The attributes are parsed when the first one is used.
pub struct RecipientData<'r> {
    recipient: &'r Recipient,
    attributes: OnceCell<Map<String, Json>>,
    tags: OnceCell<Vec<Json>>,
}

impl Data for RecipientData<'_> {
    fn get(&self, name: &str) -> Value<'_> {
        if let Some(text) = self.recipient.field(name) {
            return Value::Text(text);
        }
        let Some(profile) = &self.recipient.profile else { return Value::Missing };
        if name == "tags" {
            return Value::List(self.tags.get_or_init(|| profile.tags()));
        }
        self.attributes.get_or_init(|| profile.attributes()).get(name).into()
    }
}
