//! A chunk of an import at once: the hot statements, one file each for each database.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::row::Row;
use super::{remember_attributes, taken};
use crate::clients::model::{Client, ExternalId, PhoneNumber};
use crate::db::AnyConnection;
use crate::db::schema::client;
use crate::db::types::{ClientId, Id, Instant};
use crate::error::{Error, Result};

/// Every client with one of these numbers or external ids, which nobody else changes before this transaction ends.
///
/// # Errors
/// [`Error::Conflict`] when it waited for others in a circle; those of the database.
pub fn find_many_for_update<'a>(
    connection: &mut AnyConnection,
    numbers: impl Iterator<Item = PhoneNumber>,
    external_ids: impl Iterator<Item = &'a ExternalId>,
) -> Result<Vec<Client>> {
    let numbers: Vec<i64> = numbers.map(PhoneNumber::number).collect();
    let external_ids: Vec<&str> = external_ids.map(ExternalId::as_str).collect();
    let rows: Vec<Row> = match connection {
        AnyConnection::Postgres(c) => {
            diesel::sql_query(include_str!("sql/find_many_for_update.postgres.sql"))
                .bind::<Array<BigInt>, _>(numbers)
                .bind::<Array<Text>, _>(external_ids)
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

/// Takes their external ids away, so that the statement that gives them new ones may write in any order.
///
/// # Errors
/// Those of the database.
pub fn free_external_ids(connection: &mut AnyConnection, of: &[ClientId]) -> Result<()> {
    if !of.is_empty() {
        diesel::update(client::table.filter(client::id.eq_any(of)))
            .set(client::external_id.eq(None::<String>))
            .execute(connection)?;
    }
    Ok(())
}

/// Stores the clients, those that are new and those that [`find_many_for_update`] found.
///
/// # Errors
/// [`Error::Conflict`] when another writer took one of the numbers or external ids meanwhile.
pub fn upsert_many(connection: &mut AnyConnection, clients: &[Client]) -> Result<()> {
    if clients.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = clients.iter().map(Row::from).collect();
    match connection {
        AnyConnection::Postgres(c) => upsert_postgres(c, rows),
        AnyConnection::Sqlite(c) => upsert_sqlite(c, &rows)?,
    }
    .map_err(came_second)?;
    remember_attributes(connection, clients.iter().map(|client| &client.attributes))
}

fn upsert_postgres(connection: &mut PgConnection, rows: Vec<Row>) -> QueryResult<usize> {
    macro_rules! column {
        ($name:ident) => {
            rows.iter().map(|row| row.$name.clone()).collect::<Vec<_>>()
        };
    }
    diesel::sql_query(include_str!("sql/upsert_many.postgres.sql"))
        .bind::<Array<Id>, _>(column!(id))
        .bind::<Array<BigInt>, _>(column!(phone_number))
        .bind::<Array<Nullable<Text>>, _>(column!(mobile_operator_code))
        .bind::<Array<Nullable<Text>>, _>(column!(tag))
        .bind::<Array<Nullable<Text>>, _>(column!(timezone))
        .bind::<Array<Nullable<Text>>, _>(column!(email))
        .bind::<Array<Nullable<Text>>, _>(column!(push_token))
        .bind::<Array<Nullable<Text>>, _>(column!(external_id))
        .bind::<Array<Text>, _>(column!(attributes))
        .bind::<Array<Instant>, _>(column!(created_at))
        .bind::<Array<Instant>, _>(column!(updated_at))
        .execute(connection)
}

fn upsert_sqlite(connection: &mut SqliteConnection, rows: &[Row]) -> Result<QueryResult<usize>> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.id.0.simple().to_string(),
                row.phone_number,
                &row.mobile_operator_code,
                &row.tag,
                &row.timezone,
                &row.email,
                &row.push_token,
                &row.external_id,
                &row.attributes,
                row.created_at.micros(),
                row.updated_at.micros(),
            )
        })
        .collect();
    let rows = json(&rows)?;
    Ok(diesel::sql_query(include_str!("sql/upsert_many.sqlite.sql"))
        .bind::<Text, _>(rows)
        .execute(connection))
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.into()))
}

/// Somebody else took a number or an external id after the look, or waits for what this transaction holds while
/// it waits for what they hold: the next try will see what they did.
fn came_second(error: QueryError) -> Error {
    match &error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => taken(error),
        QueryError::DatabaseError(_, info) if info.message().contains("deadlock detected") => {
            Error::Conflict("two writers waited for each other".into())
        }
        _ => error.into(),
    }
}
