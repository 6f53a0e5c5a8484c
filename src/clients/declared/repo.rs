//! The SQL of declared attributes.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::model::{Conversion, DeclaredAttribute, Types};
use crate::clients::model::AttributeName;
use crate::db::AnyConnection;
use crate::db::schema::declared_attribute::{self, table};
use crate::db::types::{ClientId, Timestamp};
use crate::error::{Error, Result};
use crate::kinds::AttributeKind;

#[derive(Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = declared_attribute, treat_none_as_null = true)]
struct Row {
    name: String,
    kind: i16,
    label: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    converting: i16,
    cursor_id: Option<ClientId>,
    looked_at: i64,
    converted: i64,
    unconverted: i64,
}

impl Row {
    fn new(attribute: &DeclaredAttribute, cursor_id: Option<ClientId>) -> Self {
        let Conversion { is_running, clients, converted, unconverted } = attribute.conversion;
        Self {
            name: attribute.name.to_string(),
            kind: attribute.kind.code(),
            label: attribute.label.clone(),
            created_at: attribute.created_at,
            updated_at: attribute.updated_at,
            converting: i16::from(is_running),
            cursor_id,
            looked_at: clients,
            converted,
            unconverted,
        }
    }
}

impl TryFrom<Row> for DeclaredAttribute {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: row.name.parse().map_err(|why: &str| Error::internal(why))?,
            kind: AttributeKind::from_code(row.kind)?,
            label: row.label,
            conversion: Conversion {
                is_running: row.converting != 0,
                clients: row.looked_at,
                converted: row.converted,
                unconverted: row.unconverted,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Stores a declaration.
///
/// # Errors
/// [`Error::Conflict`] if the name is already declared.
pub fn insert(c: &mut AnyConnection, attribute: &DeclaredAttribute) -> Result<()> {
    diesel::insert_into(table).values(Row::new(attribute, None)).execute(c).map_err(|error| match error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            let name = &attribute.name;
            Error::Conflict(format!("{name} is already declared; PATCH /api/v1/attributes/{name} changes it"))
        }
        other => other.into(),
    })?;
    Ok(())
}

/// Returns the declaration of this name, locked until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(c: &mut AnyConnection, name: &str) -> Result<Option<DeclaredAttribute>> {
    let row: Option<Row> = match c {
        AnyConnection::Postgres(c) => {
            table.find(name).select(Row::as_select()).for_update().first(c).optional()?
        }
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, name),
    };
    row.map(DeclaredAttribute::try_from).transpose()
}

/// Returns the declaration of this name.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, name: &str) -> Result<Option<DeclaredAttribute>> {
    let row: Option<Row> = table.find(name).select(Row::as_select()).first(c).optional()?;
    row.map(DeclaredAttribute::try_from).transpose()
}

/// Returns up to `limit` declarations after `after`, by name.
///
/// # Errors
/// Database errors.
pub fn list(c: &mut AnyConnection, after: Option<&str>, limit: i64) -> Result<Vec<DeclaredAttribute>> {
    let mut query = table.select(Row::as_select()).order(declared_attribute::name).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(declared_attribute::name.gt(after));
    }
    let rows: Vec<Row> = query.load(c)?;
    rows.into_iter().map(DeclaredAttribute::try_from).collect()
}

/// Updates a declaration, and the cursor of its conversion.
///
/// # Errors
/// Database errors.
pub fn update(c: &mut AnyConnection, attribute: &DeclaredAttribute, cursor: Option<ClientId>) -> Result<()> {
    diesel::update(table.find(attribute.name.as_str())).set(Row::new(attribute, cursor)).execute(c)?;
    Ok(())
}

/// Updates a declaration. With `begins` the conversion restarts at the first client.
///
/// # Errors
/// Database errors.
pub fn change(c: &mut AnyConnection, attribute: &DeclaredAttribute, begins: bool) -> Result<()> {
    let cursor: Option<Option<ClientId>> =
        table.find(attribute.name.as_str()).select(declared_attribute::cursor_id).first(c).optional()?;
    update(c, attribute, cursor.flatten().filter(|_| !begins))
}

/// Deletes a declaration. Returns false if it does not exist.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, name: &str) -> Result<bool> {
    Ok(diesel::delete(table.find(name)).execute(c)? > 0)
}

/// Returns the types of the declared ones among these attributes.
///
/// # Errors
/// Database errors.
pub fn types<'a>(c: &mut AnyConnection, names: impl Iterator<Item = &'a AttributeName>) -> Result<Types> {
    let names: std::collections::BTreeSet<&str> = names.map(AttributeName::as_str).collect();
    if names.is_empty() {
        return Ok(Types::default());
    }
    let found: Vec<(String, i16)> = table
        .filter(declared_attribute::name.eq_any(names.into_iter().collect::<Vec<_>>()))
        .select((declared_attribute::name, declared_attribute::kind))
        .load(c)?;
    let types: Result<Vec<_>> =
        found.into_iter().map(|(name, kind)| Ok((name, AttributeKind::from_code(kind)?))).collect();
    types.map(Types::new)
}

/// Returns an attribute whose conversion is unfinished, with its cursor, locked until this transaction ends. Returns
/// `None` if there is none, or other transactions have locked all.
///
/// # Errors
/// Database errors.
pub fn next_to_convert(c: &mut AnyConnection) -> Result<Option<(DeclaredAttribute, Option<ClientId>)>> {
    let converting = declared_attribute::converting.ne(0);
    let row: Option<Row> = match c {
        AnyConnection::Postgres(c) => table
            .filter(converting)
            .select(Row::as_select())
            .for_update()
            .skip_locked()
            .first(c)
            .optional()?,
        AnyConnection::Sqlite(c) => table.filter(converting).select(Row::as_select()).first(c).optional()?,
    };
    let Some(row) = row else { return Ok(None) };
    let cursor = row.cursor_id;
    Ok(Some((row.try_into()?, cursor)))
}
