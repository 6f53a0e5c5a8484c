//! Bulk statements for a chunk of an import: hot SQL, one file for each statement and database.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::row::{InsertClient, Row};
use super::{remember_attributes, taken};
use crate::clients::model::{Client, ExternalId, PhoneNumber};
use crate::db::bulk::Insertion;
use crate::db::schema::client;
use crate::db::types::{ClientId, Id, Instant};
use crate::db::{AnyConnection, is_deadlock};
use crate::error::{Error, Result};

/// Returns every client with one of these numbers, external ids or normal forms of addresses, locked until this
/// transaction ends.
///
/// # Errors
/// [`Error::Conflict`] after a deadlock, and database errors.
pub fn find_many_for_update<'a>(
    connection: &mut AnyConnection,
    numbers: impl Iterator<Item = PhoneNumber>,
    external_ids: impl Iterator<Item = &'a ExternalId>,
    emails: Vec<String>,
) -> Result<Vec<Client>> {
    let numbers: Vec<i64> = numbers.map(PhoneNumber::number).collect();
    let external_ids: Vec<&str> = external_ids.map(ExternalId::as_str).collect();
    let rows: Vec<Row> = match connection {
        // without addresses, which is nearly always the case, one index less is read
        AnyConnection::Postgres(c) if emails.is_empty() => {
            diesel::sql_query(include_str!("sql/find_many_for_update.postgres.sql"))
                .bind::<Array<BigInt>, _>(numbers)
                .bind::<Array<Text>, _>(external_ids)
                .load(c)
        }
        AnyConnection::Postgres(c) => {
            diesel::sql_query(include_str!("sql/find_many_by_email_for_update.postgres.sql"))
                .bind::<Array<BigInt>, _>(numbers)
                .bind::<Array<Text>, _>(external_ids)
                .bind::<Array<Text>, _>(emails)
                .load(c)
        }
        AnyConnection::Sqlite(c) if !emails.is_empty() => {
            diesel::sql_query(include_str!("sql/find_many_by_email_for_update.sqlite.sql"))
                .bind::<Text, _>(json(&numbers)?)
                .bind::<Text, _>(json(&external_ids)?)
                .bind::<Text, _>(json(&emails)?)
                .load(c)
        }
        AnyConnection::Sqlite(c) => diesel::sql_query(include_str!("sql/find_many_for_update.sqlite.sql"))
            .bind::<Text, _>(json(&numbers)?)
            .bind::<Text, _>(json(&external_ids)?)
            .load(c),
    }
    .map_err(came_second)?;
    rows.into_iter().map(Client::try_from).collect()
}

/// Clears the external ids of these clients, so that a later statement may assign new ones in any order.
///
/// # Errors
/// Database errors.
pub fn free_external_ids(connection: &mut AnyConnection, of: &[ClientId]) -> Result<()> {
    if !of.is_empty() {
        diesel::update(client::table.filter(client::id.eq_any(of)))
            .set(client::external_id.eq(None::<String>))
            .execute(connection)?;
    }
    Ok(())
}

/// Clears the phone numbers of these clients, so that a later statement may assign new ones in any order.
///
/// # Errors
/// Database errors.
pub fn free_phone_numbers(connection: &mut AnyConnection, of: &[ClientId]) -> Result<()> {
    if !of.is_empty() {
        diesel::update(client::table.filter(client::id.eq_any(of)))
            .set(client::phone_number.eq(None::<i64>))
            .execute(connection)?;
    }
    Ok(())
}

/// Stores new clients, and changed clients that [`find_many_for_update`] returned.
///
/// # Errors
/// [`Error::Conflict`] if another writer has taken one of the numbers or external ids meanwhile.
pub fn store_many(connection: &mut AnyConnection, new: &[Client], changed: &[Client]) -> Result<()> {
    let all = || new.iter().chain(changed);
    match connection {
        AnyConnection::Postgres(c) => upsert(c, &all().map(Row::from).collect::<Vec<_>>()),
        AnyConnection::Sqlite(c) => one_by_one(c, new, changed),
    }
    .map_err(came_second)?;
    remember_attributes(connection, all().map(|client| &client.attributes))
}

fn upsert(connection: &mut PgConnection, rows: &[Row]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($name:ident) => {
            rows.iter().map(|row| &row.$name).collect::<Vec<_>>()
        };
    }
    diesel::sql_query(include_str!("sql/upsert_many.postgres.sql"))
        .bind::<Array<Id>, _>(column!(id))
        .bind::<Array<Nullable<BigInt>>, _>(column!(phone_number))
        .bind::<Array<Nullable<Text>>, _>(column!(mobile_operator_code))
        .bind::<Array<Nullable<Text>>, _>(column!(tag))
        .bind::<Array<Nullable<Text>>, _>(column!(timezone))
        .bind::<Array<Nullable<Text>>, _>(column!(email))
        .bind::<Array<Nullable<Text>>, _>(column!(push_token))
        .bind::<Array<Nullable<Text>>, _>(column!(external_id))
        .bind::<Array<Text>, _>(column!(attributes))
        .bind::<Array<Instant>, _>(column!(created_at))
        .bind::<Array<Instant>, _>(column!(updated_at))
        .bind::<Array<Nullable<Text>>, _>(column!(locale))
        .bind::<Array<Nullable<Text>>, _>(column!(email_key))
        .bind::<Array<Nullable<Text>>, _>(column!(tag_key))
        .bind::<Array<Nullable<Text>>, _>(column!(more_tags))
        .execute(connection)
        .map(drop)
}

/// Executes a prepared statement for each row. SQLite is a library, so each costs only a call. One statement with a
/// JSON array of all rows would cost 10 µs a row for reading the JSON, as much as the insertion itself.
fn one_by_one(connection: &mut SqliteConnection, new: &[Client], changed: &[Client]) -> QueryResult<()> {
    for row in new.iter().map(Row::from) {
        Insertion::of(InsertClient, &row).execute(connection)?;
    }
    for row in changed.iter().map(Row::from) {
        diesel::update(client::table.find(row.id)).set(row).execute(connection)?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}

/// Converts the error of a transaction that lost a race: another one took a number or an external id after the lookup,
/// or the two waited for each other. The next attempt sees the other's changes.
pub(super) fn came_second(error: QueryError) -> Error {
    match &error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => taken(error),
        _ => match Error::from(error) {
            error if is_deadlock(&error) => Error::Conflict("two writers were deadlocked".into()),
            error => error,
        },
    }
}
