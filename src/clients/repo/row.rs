//! The row of a client.

use diesel::prelude::*;

use crate::clients::model::{Attributes, Client, Email, PhoneNumber, Tag, more_of_stored, more_to_stored};
use crate::db::bulk::table_row;
use crate::db::schema::client;
use crate::db::types::{ClientId, Timestamp};
use crate::error::{Error, Result};

table_row! {
    #[derive(Debug, Clone, Queryable, QueryableByName, Selectable, Insertable, AsChangeset)]
    #[diesel(table_name = client, treat_none_as_null = true, treat_none_as_default_value = false)]
    pub(super) struct Row in client {
        pub(super) id: ClientId,
        pub(super) phone_number: Option<i64>,
        pub(super) mobile_operator_code: Option<String>,
        pub(super) tag: Option<String>,
        pub(super) timezone: Option<String>,
        pub(super) email: Option<String>,
        pub(super) push_token: Option<String>,
        pub(super) external_id: Option<String>,
        pub(super) attributes: String,
        pub(super) created_at: Timestamp,
        pub(super) updated_at: Timestamp,
        pub(super) locale: Option<String>,
        pub(super) email_key: Option<String>,
        pub(super) tag_key: Option<String>,
        pub(super) more_tags: Option<String>,
    }
    insert pub(super) InsertClient only sqlite "INSERT OR FAIL"
}

impl From<&Client> for Row {
    fn from(client: &Client) -> Self {
        client.clone().into()
    }
}

impl From<Client> for Row {
    fn from(client: Client) -> Self {
        Self {
            id: client.id,
            phone_number: client.phone_number.map(PhoneNumber::number),
            mobile_operator_code: client.mobile_operator_code.map(Into::into),
            tag_key: client.tag.as_ref().map(|tag| tag.key().into_owned()),
            tag: client.tag.map(Into::into),
            timezone: client.timezone.map(|zone| zone.as_str().to_owned()),
            email_key: client.email.as_ref().map(Email::key),
            email: client.email.map(Into::into),
            push_token: client.push_token.map(Into::into),
            external_id: client.external_id.map(Into::into),
            attributes: client.attributes.to_json(),
            created_at: client.created_at,
            updated_at: client.updated_at,
            locale: client.locale.map(|locale| locale.as_str().to_owned()),
            more_tags: more_to_stored(&client.tags),
        }
    }
}

impl TryFrom<Row> for Client {
    type Error = Error;

    /// Validates every field: rows that this program wrote are valid, rows that another program wrote may not be.
    fn try_from(row: Row) -> Result<Self> {
        let id = row.id;
        let wrong = |field: &str| Error::internal(format!("the stored {field} of client {id} is not valid"));
        let tag: Option<Tag> = parsed(row.tag).ok_or_else(|| wrong("tag"))?;
        let mut tags: Vec<Tag> = tag.iter().cloned().collect();
        for (_, more) in more_of_stored(row.more_tags.as_deref()) {
            tags.push(more.parse().map_err(|_| wrong("tags"))?);
        }
        Ok(Self {
            id,
            phone_number: row
                .phone_number
                .map(PhoneNumber::from_number)
                .transpose()
                .map_err(|_| wrong("phone_number"))?,
            mobile_operator_code: parsed(row.mobile_operator_code)
                .ok_or_else(|| wrong("mobile_operator_code"))?,
            tag,
            tags,
            timezone: parsed(row.timezone).ok_or_else(|| wrong("timezone"))?,
            locale: parsed(row.locale).ok_or_else(|| wrong("locale"))?,
            email: parsed(row.email).ok_or_else(|| wrong("email"))?,
            push_token: parsed(row.push_token).ok_or_else(|| wrong("push_token"))?,
            external_id: parsed(row.external_id).ok_or_else(|| wrong("external_id"))?,
            attributes: Attributes::from_stored(&row.attributes)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Parses an optional text; `None` if the text is present and invalid.
fn parsed<T: std::str::FromStr>(text: Option<String>) -> Option<Option<T>> {
    text.map(|text| text.parse().ok()).map_or(Some(None), |value| value.map(Some))
}
