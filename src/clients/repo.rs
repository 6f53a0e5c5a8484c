//! The SQL of clients. The cold statements use diesel's DSL, once for both databases.

mod many;
mod new;
mod row;

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, Text};

pub use self::many::{find_many_for_update, free_external_ids, free_phone_numbers, store_many};
pub use self::new::NewClients;
use self::row::Row;
use super::model::{Attributes, Client, ListFilter, tag_key};
use crate::address;
use crate::db::AnyConnection;
use crate::db::schema::{client, client_attribute, client_tag, preference};
use crate::db::types::ClientId;
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

/// Stores a new client.
///
/// # Errors
/// [`Error::Conflict`] if another client has its number or external id.
pub fn insert(connection: &mut AnyConnection, new: &Client) -> Result<()> {
    diesel::insert_into(client::table).values(Row::from(new)).execute(connection).map_err(taken)?;
    remember_attributes(connection, [&new.attributes])
}

/// Returns the client with this id.
///
/// # Errors
/// Database errors.
pub fn find(connection: &mut AnyConnection, id: ClientId) -> Result<Option<Client>> {
    let row: Option<Row> = client::table.find(id).select(Row::as_select()).first(connection).optional()?;
    row.map(Client::try_from).transpose()
}

/// Returns the client with this id, locked until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(connection: &mut AnyConnection, id: ClientId) -> Result<Option<Client>> {
    let row: Option<Row> = match connection {
        AnyConnection::Postgres(c) => {
            client::table.find(id).select(Row::as_select()).for_update().first(c).optional()?
        }
        // SQLite has one write transaction at a time
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, id),
    };
    row.map(Client::try_from).transpose()
}

/// Returns up to `limit` matching clients after `after`, in id order.
///
/// # Errors
/// Database errors.
pub fn list(
    connection: &mut AnyConnection,
    filter: &ListFilter,
    after: Option<ClientId>,
    limit: i64,
) -> Result<Vec<Client>> {
    let key = filter.tag.as_ref().map(|tag| tag.key().into_owned());
    let code = filter.mobile_operator_code.as_ref().map(|code| code.as_str().to_owned());
    let mut query = client::table.select(Row::as_select()).order(client::id).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(client::id.gt(after));
    }
    if let Some(code) = &code {
        query = query.filter(client::mobile_operator_code.eq(code.clone()));
    }
    if let Some(key) = &key {
        query = query.filter(client::tag_key.eq(key.clone()));
    }
    let mut rows: Vec<Row> = query.load(connection)?;
    if let Some(key) = key {
        rows.extend(with_further_tag(connection, (key, code), after, limit)?);
        rows.sort_unstable_by_key(|row| row.id);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    rows.into_iter().map(Client::try_from).collect()
}

/// Returns up to `limit` clients after `after` that have the tag, but not as their first one.
fn with_further_tag(
    connection: &mut AnyConnection,
    (key, code): (String, Option<String>),
    after: Option<ClientId>,
    limit: i64,
) -> Result<Vec<Row>> {
    let mut query = client_tag::table
        .inner_join(client::table.on(client::id.eq(client_tag::client_id)))
        .filter(client_tag::key.eq(key))
        .select(Row::as_select())
        .order(client_tag::client_id)
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(client_tag::client_id.gt(after));
    }
    if let Some(code) = code {
        query = query.filter(client_tag::mobile_operator_code.eq(code));
    }
    Ok(query.load(connection)?)
}

/// Updates every field of an existing client.
///
/// # Errors
/// [`Error::Conflict`] if another client has its number or external id.
pub fn update(connection: &mut AnyConnection, changed: &Client) -> Result<()> {
    diesel::update(client::table.find(changed.id))
        .set(Row::from(changed))
        .execute(connection)
        .map_err(taken)?;
    remember_attributes(connection, [&changed.attributes])
}

/// Deletes a client. Returns false if it does not exist.
///
/// # Errors
/// Database errors.
pub fn delete(connection: &mut AnyConnection, id: ClientId) -> Result<bool> {
    let gone = diesel::delete(client::table.find(id)).execute(connection)?;
    // after the client: a change of its preferences locks the client's row first
    diesel::delete(preference::table.find(id)).execute(connection)?;
    Ok(gone > 0)
}

/// Fills a key column from the column that it normalizes, for up to `$limit` clients without a key.
macro_rules! fill_keys {
    ($connection:expr, $limit:expr, $given:ident, $key:ident, $normal:expr) => {{
        let some: Vec<(ClientId, Option<String>)> = client::table
            .filter(client::$given.is_not_null())
            .filter(client::$key.is_null())
            .select((client::id, client::$given))
            .limit($limit)
            .load($connection)?;
        for (id, given) in &some {
            let key: Option<String> = given.as_deref().map($normal);
            diesel::update(client::table.find(id)).set(client::$key.eq(key)).execute($connection)?;
        }
        Ok(some.len())
    }};
}

/// Stores the normal form of up to `limit` e-mail addresses without one. Returns their number.
///
/// # Errors
/// Database errors.
pub fn fill_email_keys(connection: &mut AnyConnection, limit: i64) -> Result<usize> {
    let normal = |email: &str| address::normal(ChannelKind::Email, email).into_owned();
    fill_keys!(connection, limit, email, email_key, normal)
}

/// Stores the keys of up to `limit` tags without one. Returns their number.
///
/// # Errors
/// Database errors.
pub fn fill_tag_keys(connection: &mut AnyConnection, limit: i64) -> Result<usize> {
    fill_keys!(connection, limit, tag, tag_key, |tag: &str| tag_key(tag).into_owned())
}

/// Returns every attribute name that any client has ever had.
///
/// # Errors
/// Database errors.
pub fn attribute_names(connection: &mut AnyConnection) -> Result<Vec<String>> {
    Ok(client_attribute::table
        .select(client_attribute::name)
        .order(client_attribute::name)
        .load(connection)?)
}

/// Records the names of attributes, sorted, so that concurrent transactions lock in the same order. Most are recorded
/// already, which costs a look into a small index. A cache would have to handle rolled back transactions.
fn remember_attributes<'a>(
    connection: &mut AnyConnection,
    of: impl IntoIterator<Item = &'a Attributes>,
) -> Result<()> {
    let of = of.into_iter();
    remember_names(
        connection,
        &of.flat_map(|attributes| attributes.iter().map(|(name, _)| name.as_str())).collect(),
    )
}

fn remember_names(connection: &mut AnyConnection, names: &BTreeSet<&str>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    match connection {
        AnyConnection::Postgres(c) => {
            let names: Vec<&str> = names.iter().copied().collect();
            diesel::sql_query(include_str!("repo/sql/remember_attributes.postgres.sql"))
                .bind::<Array<Text>, _>(names)
                .execute(c)?
        }
        AnyConnection::Sqlite(c) => {
            let names = serde_json::to_string(names).map_err(|e| Error::Internal(e.into()))?;
            diesel::sql_query(include_str!("repo/sql/remember_attributes.sqlite.sql"))
                .bind::<Text, _>(names)
                .execute(c)?
        }
    };
    Ok(())
}

/// Converts a violation of a unique index into an error that names the field. PostgreSQL reports the constraint's name,
/// SQLite names the column in its message.
fn taken(error: QueryError) -> Error {
    let QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, info) = &error else {
        return error.into();
    };
    let place = info.constraint_name().unwrap_or_else(|| info.message());
    for field in ["phone_number", "external_id"] {
        if place.contains(field) {
            return Error::Conflict(format!("another client has this {field}"));
        }
    }
    error.into()
}
