//! A client. Its parts are validated when they enter the process.

mod attributes;
mod field;
mod fields;
mod numbering;
mod patch;
mod phone;
mod tags;

pub use attributes::{
    AttributeName, AttributeValue, Attributes, LARGEST_ATTRIBUTE_COUNT, LONGEST_ATTRIBUTE_TEXT,
};
pub use field::Field;
pub use fields::{Email, ExternalId, OperatorCode, PushToken, Timezone};
pub use patch::ClientPatch;
pub use phone::{GivenPhoneNumber, HomeCountry, PhoneNumber};
pub use tags::{MOST_TAGS, Tag, distinct_by_key, join, more_of_stored, more_to_stored, tag_key};

use crate::db::types::{ClientId, Timestamp};
use crate::error::FieldError;
use crate::locale::Locale;

/// The validation error of a client without an address.
pub const NO_ADDRESS: &str =
    "is missing: a client needs a phone_number, an email, a push_token or an external_id";

/// A person who can be reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// The id that this service assigned: a UUIDv7, which sorts by the time of creation.
    pub id: ClientId,
    /// The digits of the E.164 number, unique among clients.
    pub phone_number: Option<PhoneNumber>,
    /// The mobile operator's code. It is derived from a Russian number when it was not given.
    pub mobile_operator_code: Option<OperatorCode>,
    /// The first of its tags.
    pub tag: Option<Tag>,
    /// Labels that select audiences, compared without case.
    pub tags: Vec<Tag>,
    /// The IANA name of the client's time zone.
    pub timezone: Option<Timezone>,
    /// The client's language, which selects the variant of a template.
    pub locale: Option<Locale>,
    /// The address for the e-mail channel.
    pub email: Option<Email>,
    /// The token for the push channel.
    pub push_token: Option<PushToken>,
    /// The client's id in your other systems, unique among clients.
    pub external_id: Option<ExternalId>,
    /// The values for the placeholders of a text.
    pub attributes: Attributes,
    /// The time at which the client was created.
    pub created_at: Timestamp,
    /// The time of the client's last change.
    pub updated_at: Timestamp,
}

impl Client {
    /// Creates a client from `patch`. An operator code that is not given is derived from the number.
    ///
    /// # Errors
    /// There are more attributes than a client may have, or there is no address.
    pub fn create(id: ClientId, patch: &ClientPatch, now: Timestamp) -> Result<Self, FieldError> {
        Self::with_number(id, None, patch, now)
    }

    /// Creates a client as [`Client::create`] does, with a number that is passed beside the patch.
    ///
    /// # Errors
    /// The same as [`Client::create`].
    pub fn with_number(
        id: ClientId,
        number: Option<PhoneNumber>,
        patch: &ClientPatch,
        now: Timestamp,
    ) -> Result<Self, FieldError> {
        let mut client = Self {
            id,
            phone_number: number,
            mobile_operator_code: None,
            tag: None,
            tags: Vec::new(),
            timezone: None,
            locale: None,
            email: None,
            push_token: None,
            external_id: None,
            attributes: Attributes::default(),
            created_at: now,
            updated_at: now,
        };
        client.apply(patch, now)?;
        if client.mobile_operator_code.is_none() {
            client.mobile_operator_code = client.phone_number.and_then(PhoneNumber::operator_code);
        }
        Ok(client)
    }

    /// Applies `patch`. A new number brings its own operator code, unless the patch has one. A code that was derived
    /// from the old number is dropped with it.
    ///
    /// # Errors
    /// There are more attributes than a client may have, or no address is left. The client is then partly changed, and
    /// the caller must discard it.
    pub fn apply(&mut self, patch: &ClientPatch, now: Timestamp) -> Result<(), FieldError> {
        if let Some(number) = patch.phone_number {
            let of = |number: Option<PhoneNumber>| number.and_then(PhoneNumber::operator_code);
            let derived = of(number);
            if derived.is_some() || self.mobile_operator_code == of(self.phone_number) {
                self.mobile_operator_code = derived;
            }
            self.phone_number = number;
        }
        set(&mut self.mobile_operator_code, &patch.mobile_operator_code);
        if let Some(tags) = &patch.tags {
            self.tag = tags.first().cloned();
            self.tags.clone_from(tags);
        }
        set(&mut self.timezone, &patch.timezone);
        set(&mut self.locale, &patch.locale);
        set(&mut self.email, &patch.email);
        set(&mut self.push_token, &patch.push_token);
        set(&mut self.external_id, &patch.external_id);
        if patch.clears_attributes {
            self.attributes = Attributes::default();
        }
        self.attributes.merge(&patch.attributes)?;
        self.updated_at = now;
        if self.has_address() { Ok(()) } else { Err(FieldError::new(Field::PhoneNumber.name(), NO_ADDRESS)) }
    }

    fn has_address(&self) -> bool {
        self.phone_number.is_some()
            || self.email.is_some()
            || self.push_token.is_some()
            || self.external_id.is_some()
    }
}

fn set<T: Clone>(field: &mut Option<T>, change: &Option<Option<T>>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

/// A filter of the list of clients: every field that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// The mobile operator's code.
    pub mobile_operator_code: Option<OperatorCode>,
    /// The tag, in any spelling.
    pub tag: Option<Tag>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_760_000_000_000_000;

    fn client(number: &str, code: Option<&str>) -> Client {
        let patch = ClientPatch {
            mobile_operator_code: Some(code.map(|c| c.parse().unwrap())),
            ..ClientPatch::default()
        };
        let patch = ClientPatch { phone_number: Some(Some(number.parse().unwrap())), ..patch };
        Client::create(ClientId::new(), &patch, Timestamp::from_micros(NOW)).unwrap()
    }

    fn code_after(client: &mut Client, patch: ClientPatch) -> Option<String> {
        client.apply(&patch, Timestamp::from_micros(NOW + 1)).unwrap();
        client.mobile_operator_code.as_ref().map(ToString::to_string)
    }

    fn to_number(number: &str) -> ClientPatch {
        ClientPatch { phone_number: Some(Some(number.parse().unwrap())), ..ClientPatch::default() }
    }

    #[test]
    fn a_code_that_is_not_given_comes_from_a_russian_number() {
        let code = |number, given| client(number, given).mobile_operator_code.map(|c| c.to_string());
        assert_eq!(code("79031234567", None), Some("903".into()));
        assert_eq!(code("79031234567", Some("999")), Some("999".into()));
        assert_eq!(code("4915112345678", None), None);
    }

    #[test]
    fn a_new_number_brings_its_own_code() {
        let mut anna = client("79031234567", Some("999"));
        assert_eq!(code_after(&mut anna, to_number("79161234567")), Some("916".into()));
        assert_eq!(code_after(&mut anna, to_number("4915112345678")), None);
    }

    #[test]
    fn a_given_code_outlives_a_foreign_number() {
        let mut hans = client("4915112345678", Some("151"));
        assert_eq!(code_after(&mut hans, to_number("4915112345679")), Some("151".into()));
    }

    #[test]
    fn a_client_has_an_address_and_may_lose_the_others() {
        let mut anna = client("79031234567", None);
        let without_number = ClientPatch { phone_number: Some(None), ..ClientPatch::default() };
        let mut alone = anna.clone();
        let error = alone.apply(&without_number, anna.updated_at).unwrap_err();
        assert_eq!((error.field.as_str(), error.reason.as_str()), ("phone_number", NO_ADDRESS));
        let email = Some(Some("anna@example.com".parse().unwrap()));
        assert_eq!(code_after(&mut anna, ClientPatch { email, ..without_number }), None);
        assert_eq!(anna.phone_number, None);
        let now = anna.updated_at;
        assert!(Client::create(ClientId::new(), &ClientPatch::default(), now).is_err());
    }

    #[test]
    fn a_cleared_code_stays_cleared() {
        let mut anna = client("79031234567", None);
        let patch = ClientPatch { mobile_operator_code: Some(None), ..to_number("79161234567") };
        assert_eq!(code_after(&mut anna, patch), None);
        assert_eq!(anna.updated_at.micros(), NOW + 1);
        assert_eq!(anna.created_at.micros(), NOW);
    }
}
