//! The SQL of credentials.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::model::Stored;
use crate::db::AnyConnection;
use crate::db::schema::credential::{self, table};
use crate::db::types::Timestamp;
use crate::error::{Error, Result};

/// A row of `credential`.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = credential, treat_none_as_null = true)]
struct Row {
    name: String,
    description: Option<String>,
    shown: String,
    sealed: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Stored> for Row {
    fn from(stored: &Stored) -> Self {
        let Stored { name, description, shown, sealed, created_at, updated_at } = stored.clone();
        Self { name, description, shown, sealed, created_at, updated_at }
    }
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        let Row { name, description, shown, sealed, created_at, updated_at } = row;
        Self { name, description, shown, sealed, created_at, updated_at }
    }
}

/// Stores a new credential.
///
/// # Errors
/// [`Error::Conflict`] when another has its name.
pub fn insert(c: &mut AnyConnection, new: &Stored) -> Result<()> {
    let taken = |error: QueryError| match error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::Conflict("another credential has this name".into())
        }
        error => error.into(),
    };
    diesel::insert_into(table).values(Row::from(new)).execute(c).map_err(taken)?;
    Ok(())
}

/// Stores every field of a credential that exists.
///
/// # Errors
/// Those of the database.
pub fn update(c: &mut AnyConnection, changed: &Stored) -> Result<()> {
    diesel::update(table.find(&changed.name)).set(Row::from(changed)).execute(c)?;
    Ok(())
}

/// The credential of this name.
///
/// # Errors
/// Those of the database.
pub fn find(c: &mut AnyConnection, name: &str) -> Result<Option<Stored>> {
    let row: Option<Row> = table.find(name).select(Row::as_select()).first(c).optional()?;
    Ok(row.map(Stored::from))
}

/// Whether there is one of this name.
///
/// # Errors
/// Those of the database.
pub fn exists(c: &mut AnyConnection, name: &str) -> Result<bool> {
    let found: Option<String> = table.find(name).select(credential::name).first(c).optional()?;
    Ok(found.is_some())
}

/// The credential of this name, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub fn find_for_update(c: &mut AnyConnection, name: &str) -> Result<Option<Stored>> {
    let row: Option<Row> = match c {
        AnyConnection::Postgres(c) => {
            table.find(name).select(Row::as_select()).for_update().first(c).optional()?
        }
        // a SQLite transaction that may write is the only one
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, name),
    };
    Ok(row.map(Stored::from))
}

/// Up to `limit` credentials after `after`, in the order of their names.
///
/// # Errors
/// Those of the database.
pub fn list(c: &mut AnyConnection, after: Option<&str>, limit: i64) -> Result<Vec<Stored>> {
    let mut query = table.select(Row::as_select()).order(credential::name).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(credential::name.gt(after));
    }
    let rows: Vec<Row> = query.load(c)?;
    Ok(rows.into_iter().map(Stored::from).collect())
}

/// All credentials in the order of their names, which nobody else changes before this transaction ends.
///
/// # Errors
/// Those of the database.
pub fn all_for_update(c: &mut AnyConnection) -> Result<Vec<Stored>> {
    let rows: Vec<Row> = match c {
        AnyConnection::Postgres(c) => {
            table.select(Row::as_select()).order(credential::name).for_update().load(c)?
        }
        AnyConnection::Sqlite(c) => table.select(Row::as_select()).order(credential::name).load(c)?,
    };
    Ok(rows.into_iter().map(Stored::from).collect())
}

/// Removes a credential; answers whether it was there.
///
/// # Errors
/// Those of the database.
pub fn delete(c: &mut AnyConnection, name: &str) -> Result<bool> {
    Ok(diesel::delete(table.find(name)).execute(c)? > 0)
}
