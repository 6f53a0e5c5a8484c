//! The changes that a request or a row makes to a client: fields that are set or cleared. Create, replace, patch and
//! import all use it.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::attributes::{AttributeName, AttributeValue};
use super::field::Field;
use super::fields::{Email, ExternalId, OperatorCode, PushToken, Timezone};
use super::phone::PhoneNumber;
use super::tags::{self, Tag};
use crate::error::{Complaints, Result};
use crate::locale::Locale;

/// Changes to a client: `None` leaves a field as it is, `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientPatch {
    /// The phone number.
    pub phone_number: Option<Option<PhoneNumber>>,
    /// The operator's code.
    pub mobile_operator_code: Option<Option<OperatorCode>>,
    /// The tags, each once; an empty list clears them.
    pub tags: Option<Vec<Tag>>,
    /// The client's time zone.
    pub timezone: Option<Option<Timezone>>,
    /// The client's language.
    pub locale: Option<Option<Locale>>,
    /// The address for the e-mail channel.
    pub email: Option<Option<Email>>,
    /// The token for the push channel.
    pub push_token: Option<Option<PushToken>>,
    /// The client's id in other systems.
    pub external_id: Option<Option<ExternalId>>,
    /// True if the present attributes are removed before the new ones are merged.
    pub clears_attributes: bool,
    /// Changes to the attributes, merged by RFC 7396: `None` removes.
    pub attributes: Vec<(AttributeName, Option<AttributeValue>)>,
}

impl ClientPatch {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field.
    pub fn from_json(body: Map<String, Value>) -> Result<Self> {
        let mut wrong = Complaints::default();
        let patch = Self::read(body, &mut wrong);
        wrong.finish().map(|()| patch)
    }

    /// Parses field by field, so that all errors are reported at once: a derived `Deserialize` would stop at the first.
    fn read(mut body: Map<String, Value>, wrong: &mut Complaints) -> Self {
        let mut patch = Self::default();
        let tags = body.remove(Field::Tags.name());
        for (name, value) in body {
            if name == "attributes" {
                patch.read_attributes(value, wrong);
                continue;
            }
            let outcome = match (Field::named(&name), value) {
                (None, _) => Err(unknown(&name)),
                (Some(field), Value::Null) => patch.set(field, None),
                (Some(field), Value::String(text)) => patch.set(field, Some(&text)),
                (Some(_), _) => Err("must be a string"),
            };
            wrong.check(&name, outcome);
        }
        if let Some(tags) = tags {
            let alone = patch.tags.take();
            patch.read_tags(tags, wrong);
            if let (Some(alone), Some(all)) = (alone, &patch.tags)
                && alone.first() != all.first()
            {
                wrong
                    .add(Field::Tag.name(), "must be the first of the tags; give only one of the two fields");
            }
        }
        patch
    }

    /// Sets one field from its text, or clears it.
    ///
    /// # Errors
    /// The text is not valid; the message says which form is.
    pub fn set(&mut self, field: Field, text: Option<&str>) -> Result<(), &'static str> {
        match field {
            Field::PhoneNumber => self.phone_number = change(text)?,
            Field::OperatorCode => self.mobile_operator_code = change(text)?,
            Field::Tag => {
                let tags = text.map(str::parse).transpose()?;
                self.add_tags(tags.into_iter().collect())?;
            }
            Field::Tags => self.add_tags(text.map(tags::split).transpose()?.unwrap_or_default())?,
            Field::Timezone => self.timezone = change(text)?,
            Field::Locale => self.locale = change(text)?,
            Field::Email => self.email = change(text)?,
            Field::PushToken => self.push_token = change(text)?,
            Field::ExternalId => self.external_id = change(text)?,
        }
        Ok(())
    }

    /// Adds tags to those that are already set.
    fn add_tags(&mut self, more: Vec<Tag>) -> Result<(), &'static str> {
        self.tags = Some(match self.tags.take() {
            None => more,
            Some(before) => tags::distinct(before.into_iter().chain(more))?,
        });
        Ok(())
    }

    /// Parses tags from a list of texts; null clears them.
    fn read_tags(&mut self, value: Value, wrong: &mut Complaints) {
        let words = match value {
            Value::Array(words) => words,
            Value::Null => Vec::new(),
            _ => return wrong.add(Field::Tags.name(), "must be an array of strings"),
        };
        let mut read = Vec::new();
        for (i, word) in words.iter().enumerate() {
            let tag = word.as_str().ok_or("must be a string").and_then(str::parse);
            read.extend(wrong.check(&format!("tags[{i}]"), tag));
        }
        if let Some(read) = wrong.check(Field::Tags.name(), tags::distinct(read)) {
            let outcome = self.add_tags(read);
            wrong.check(Field::Tags.name(), outcome);
        }
    }

    /// Parses attributes from an object; null clears them all. Errors name the attribute as `attributes.<name>`.
    pub fn read_attributes(&mut self, value: Value, wrong: &mut Complaints) {
        let pairs = match value {
            Value::Object(pairs) => pairs,
            Value::Null => {
                self.clears_attributes = true;
                return;
            }
            _ => {
                return wrong.add("attributes", "must be an object of strings, numbers, booleans or nulls");
            }
        };
        for (name, value) in pairs {
            let outcome =
                name.parse().and_then(|name| AttributeValue::from_json(value).map(|value| (name, value)));
            let pair = wrong.check(&format!("attributes.{name}"), outcome);
            self.attributes.extend(pair);
        }
    }
}

fn change<T: FromStr<Err = &'static str>>(text: Option<&str>) -> Result<Option<Option<T>>, &'static str> {
    text.map(str::parse).transpose().map(Some)
}

fn unknown(name: &str) -> &'static str {
    if Field::is_taken(name) {
        "is set by the service and cannot be given"
    } else {
        "is not a field of a client; put your own data into attributes"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Error;

    fn read(body: Value) -> Result<ClientPatch> {
        match body {
            Value::Object(map) => ClientPatch::from_json(map),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let Err(Error::Invalid(fields)) = read(json!({
            "phone_number": "123", "email": 5, "tag": "", "timezone": "Mars/Base", "nickname": "x", "id": "1",
            "external_id": "fine", "attributes": {"ok": 1, "bad name": 1, "nested": {}, "tag": "x"},
        })) else {
            panic!("accepted");
        };
        let mut names: Vec<_> = fields.iter().map(|f| f.field.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "attributes.bad name",
                "attributes.nested",
                "attributes.tag",
                "email",
                "id",
                "nickname",
                "phone_number",
                "tag",
                "timezone"
            ]
        );
    }

    #[test]
    fn null_clears_and_absence_leaves() {
        let patch = read(json!({"tag": null, "attributes": {"gone": null, "here": "x"}})).unwrap();
        assert_eq!(patch.tags, Some(vec![]));
        assert_eq!(read(json!({"tags": null})).unwrap().tags, Some(vec![]));
        assert_eq!(patch.email, None);
        assert_eq!(patch.attributes.len(), 2);
        assert_eq!(read(json!({"phone_number": null})).unwrap().phone_number, Some(None));
    }

    #[test]
    fn one_tag_is_a_list_of_one() {
        let tags = |body| -> Result<Vec<String>> {
            Ok(read(body)?.tags.unwrap().iter().map(ToString::to_string).collect())
        };
        let expected: Vec<String> = vec!["VIP".into(), "new".into()];
        assert_eq!(tags(json!({"tags": ["VIP", " new ", "vip"]})).unwrap(), expected);
        assert_eq!(tags(json!({"tags": ["VIP", "new"], "tag": "VIP"})).unwrap(), expected);
        assert_eq!(tags(json!({"tag": "VIP"})).unwrap(), expected[..1]);
        assert_eq!(tags(json!({"tag": null, "tags": []})).unwrap(), expected[..0]);
        for (body, field) in [
            (json!({"tag": "new", "tags": ["VIP", "new"]}), "tag"),
            (json!({"tag": null, "tags": ["VIP"]}), "tag"),
            (json!({"tags": "VIP"}), "tags"),
            (json!({"tags": ["VIP", 5]}), "tags[1]"),
            (json!({"tags": (0..51).map(|n| n.to_string()).collect::<Vec<_>>()}), "tags"),
        ] {
            let Err(Error::Invalid(wrong)) = read(body) else { panic!("{field}") };
            assert_eq!(wrong.iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn attributes_must_be_an_object_or_cleared() {
        assert!(read(json!({"attributes": null})).unwrap().clears_attributes);
        for value in [json!([]), json!("x")] {
            assert!(matches!(read(json!({ "attributes": value })), Err(Error::Invalid(_))));
        }
    }
}
