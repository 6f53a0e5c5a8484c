//! Queries on routes.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::model::Route;
use crate::db::AnyConnection;
use crate::db::schema::route::{self, table};
use crate::db::types::{RouteId, Timestamp};
use crate::error::{Error, Result};

/// A row of `route`.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = route, treat_none_as_null = true, treat_none_as_default_value = false)]
struct RouteRow {
    id: RouteId,
    event: String,
    description: Option<String>,
    event_group: Option<String>,
    is_transactional: bool,
    is_enabled: bool,
    deliveries: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<&Route> for RouteRow {
    type Error = Error;

    fn try_from(route: &Route) -> Result<Self> {
        Ok(Self {
            id: route.id,
            event: route.event.to_string(),
            description: route.description.clone(),
            event_group: route.group.clone(),
            is_transactional: route.transactional,
            is_enabled: route.enabled,
            deliveries: serde_json::to_string(&route.deliveries).map_err(|e| Error::Internal(e.into()))?,
            created_at: route.created_at,
            updated_at: route.updated_at,
        })
    }
}

impl TryFrom<RouteRow> for Route {
    type Error = Error;

    fn try_from(row: RouteRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            event: row.event.parse().map_err(Error::internal)?,
            description: row.description,
            group: row.event_group,
            transactional: row.is_transactional,
            enabled: row.is_enabled,
            deliveries: serde_json::from_str(&row.deliveries).map_err(|e| Error::Internal(e.into()))?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Stores a new route.
///
/// # Errors
/// [`Error::Conflict`] if another route has this event.
pub fn insert(c: &mut AnyConnection, new: &Route) -> Result<()> {
    diesel::insert_into(table).values(RouteRow::try_from(new)?).execute(c).map_err(taken)?;
    Ok(())
}

/// Stores every field of an existing route.
///
/// # Errors
/// [`Error::Conflict`] if another route has this event.
pub fn update(c: &mut AnyConnection, changed: &Route) -> Result<()> {
    diesel::update(table.find(changed.id)).set(RouteRow::try_from(changed)?).execute(c).map_err(taken)?;
    Ok(())
}

/// Returns the route with this id.
///
/// # Errors
/// Database errors.
pub fn find(c: &mut AnyConnection, id: RouteId) -> Result<Option<Route>> {
    let row: Option<RouteRow> = table.find(id).select(RouteRow::as_select()).first(c).optional()?;
    row.map(Route::try_from).transpose()
}

/// Returns the route with this id, and locks it until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(c: &mut AnyConnection, id: RouteId) -> Result<Option<Route>> {
    let row: Option<RouteRow> = match c {
        AnyConnection::Postgres(c) => {
            table.find(id).select(RouteRow::as_select()).for_update().first(c).optional()?
        }
        // SQLite has one write transaction at a time
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, id),
    };
    row.map(Route::try_from).transpose()
}

/// Returns the route with exactly this event pattern.
///
/// # Errors
/// Database errors.
pub fn find_by_event(c: &mut AnyConnection, event: &str) -> Result<Option<Route>> {
    let row: Option<RouteRow> =
        table.filter(route::event.eq(event)).select(RouteRow::as_select()).first(c).optional()?;
    row.map(Route::try_from).transpose()
}

/// Returns up to `limit` routes after `after`, in id order.
///
/// # Errors
/// Database errors.
pub fn list(c: &mut AnyConnection, after: Option<RouteId>, limit: i64) -> Result<Vec<Route>> {
    let mut query = table.select(RouteRow::as_select()).order(route::id).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(route::id.gt(after));
    }
    let rows: Vec<RouteRow> = query.load(c)?;
    rows.into_iter().map(Route::try_from).collect()
}

/// Returns the number of routes.
///
/// # Errors
/// Database errors.
pub fn count(c: &mut AnyConnection) -> Result<i64> {
    Ok(table.count().get_result(c)?)
}

/// Deletes a route. Returns true if it existed.
///
/// # Errors
/// Database errors.
pub fn delete(c: &mut AnyConnection, id: RouteId) -> Result<bool> {
    Ok(diesel::delete(table.find(id)).execute(c)? > 0)
}

fn taken(error: QueryError) -> Error {
    if matches!(error, QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) {
        return Error::Conflict("another route has this event: change that route instead".into());
    }
    error.into()
}
