//! A client as it stands in its table.

use diesel::prelude::*;

use diesel::sql_types::{BigInt, Nullable, Text};

use crate::clients::model::{Attributes, Client, Email, PhoneNumber, Tag, more_of_stored, more_to_stored};
use crate::db::bulk::{Insert, Values};
use crate::db::schema::client;
use crate::db::types::{ClientId, Id, Instant, Timestamp};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Queryable, QueryableByName, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = client, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(super) struct Row {
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

    /// What this program wrote passes its own checks; what somebody else wrote into the table may not.
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

/// `None` for a text that is there and does not pass.
fn parsed<T: std::str::FromStr>(text: Option<String>) -> Option<Option<T>> {
    text.map(|text| text.parse().ok()).map_or(Some(None), |value| value.map(Some))
}

/// The insertion of a client. diesel's own cost a quarter of an import's row.
pub(super) struct InsertClient;

impl Insert for InsertClient {
    const HEAD: &'static str = "INSERT OR FAIL INTO client (id, phone_number, mobile_operator_code, tag, timezone, email, \
        push_token, external_id, attributes, created_at, updated_at, locale, email_key, tag_key, more_tags) VALUES (";
    type Row = Row;

    fn bind<'r>(row: &'r Row, values: &mut Values<'_, 'r>) -> QueryResult<()> {
        values.bind::<Id, _>(&row.id)?;
        values.bind::<Nullable<BigInt>, _>(&row.phone_number)?;
        values.bind_all::<Nullable<Text>, _, _>([
            &row.mobile_operator_code,
            &row.tag,
            &row.timezone,
            &row.email,
            &row.push_token,
            &row.external_id,
        ])?;
        values.bind::<Text, _>(&row.attributes)?;
        values.bind_all::<Instant, _, _>([&row.created_at, &row.updated_at])?;
        values.bind_all::<Nullable<Text>, _, _>([&row.locale, &row.email_key, &row.tag_key, &row.more_tags])
    }
}
