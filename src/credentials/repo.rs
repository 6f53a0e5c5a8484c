//! The SQL statements on credentials.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::model::StoredCredential;
use crate::db::AnyConnection;
use crate::db::schema::credential::{self, table};
use crate::db::types::Timestamp;
use crate::error::{Error, Result};

/// A row of the table `credential`.
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

impl From<&StoredCredential> for Row {
    fn from(stored: &StoredCredential) -> Self {
        let StoredCredential { name, description, shown, sealed, created_at, updated_at } = stored.clone();
        Self { name, description, shown, sealed, created_at, updated_at }
    }
}

impl From<Row> for StoredCredential {
    fn from(row: Row) -> Self {
        let Row { name, description, shown, sealed, created_at, updated_at } = row;
        Self { name, description, shown, sealed, created_at, updated_at }
    }
}

/// Inserts a new credential.
///
/// # Errors
/// [`Error::Conflict`] if another credential has its name.
pub fn insert(c: &mut AnyConnection, new: &StoredCredential) -> Result<()> {
    let taken = |error: QueryError| match error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::Conflict("another credential has this name".into())
        }
        error => error.into(),
    };
    diesel::insert_into(table).values(Row::from(new)).execute(c).map_err(taken)?;
    Ok(())
}

/// Updates every field of a stored credential.
///
/// # Errors
/// Database errors.
pub fn update(c: &mut AnyConnection, changed: &StoredCredential) -> Result<()> {
    diesel::update(table.find(&changed.name)).set(Row::from(changed)).execute(c)?;
    Ok(())
}

/// Returns the credential with this name.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, name: &str) -> Result<Option<StoredCredential>> {
    let row: Option<Row> = table.find(name).select(Row::as_select()).first(c).optional()?;
    Ok(row.map(StoredCredential::from))
}

/// Returns true if there is a credential with this name.
///
/// # Errors
/// Database errors.
pub fn exists(c: &mut AnyConnection, name: &str) -> Result<bool> {
    let found: Option<String> = table.find(name).select(credential::name).first(c).optional()?;
    Ok(found.is_some())
}

/// Returns the credential with this name, and locks its row until the transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(c: &mut AnyConnection, name: &str) -> Result<Option<StoredCredential>> {
    let row: Option<Row> = match c {
        AnyConnection::Postgres(c) => {
            table.find(name).select(Row::as_select()).for_update().first(c).optional()?
        }
        // on SQLite this transaction is the only writer
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, name),
    };
    Ok(row.map(StoredCredential::from))
}

/// Returns up to `limit` credentials after `after`, in the order of their names.
///
/// # Errors
/// Database errors.
pub fn list(c: &mut AnyConnection, after: Option<&str>, limit: i64) -> Result<Vec<StoredCredential>> {
    let mut query = table.select(Row::as_select()).order(credential::name).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(credential::name.gt(after));
    }
    let rows: Vec<Row> = query.load(c)?;
    Ok(rows.into_iter().map(StoredCredential::from).collect())
}

/// Returns all credentials in the order of their names, and locks their rows until the transaction ends.
///
/// # Errors
/// Database errors.
pub fn all_for_update(c: &mut AnyConnection) -> Result<Vec<StoredCredential>> {
    let rows: Vec<Row> = match c {
        AnyConnection::Postgres(c) => {
            table.select(Row::as_select()).order(credential::name).for_update().load(c)?
        }
        AnyConnection::Sqlite(c) => table.select(Row::as_select()).order(credential::name).load(c)?,
    };
    Ok(rows.into_iter().map(StoredCredential::from).collect())
}

/// Deletes a credential. Returns true if it existed.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, name: &str) -> Result<bool> {
    Ok(diesel::delete(table.find(name)).execute(c)? > 0)
}
