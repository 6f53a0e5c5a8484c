//! Queries on endpoints.

mod row;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};

use self::row::EndpointRow;
use super::model::WebhookEndpoint;
use crate::db::AnyConnection;
use crate::db::schema::webhook_endpoint::{self, table};
use crate::db::types::EndpointId;
use crate::error::{Error, Result};

/// Stores a new endpoint.
///
/// # Errors
/// [`Error::Conflict`] if another endpoint has its URL.
pub fn insert(connection: &mut AnyConnection, new: &WebhookEndpoint) -> Result<()> {
    diesel::insert_into(table).values(EndpointRow::from(new)).execute(connection).map_err(taken)?;
    Ok(())
}

/// Stores every field of an existing endpoint.
///
/// # Errors
/// [`Error::Conflict`] if another endpoint has its URL.
pub fn update(connection: &mut AnyConnection, changed: &WebhookEndpoint) -> Result<()> {
    diesel::update(table.find(changed.id))
        .set(EndpointRow::from(changed))
        .execute(connection)
        .map_err(taken)?;
    Ok(())
}

/// Returns the endpoint with this id.
///
/// # Errors
/// Database errors.
pub fn find(connection: &mut AnyConnection, id: EndpointId) -> Result<Option<WebhookEndpoint>> {
    let row: Option<EndpointRow> =
        table.find(id).select(EndpointRow::as_select()).first(connection).optional()?;
    row.map(WebhookEndpoint::try_from).transpose()
}

/// Returns the endpoint with this id, and locks it until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_for_update(connection: &mut AnyConnection, id: EndpointId) -> Result<Option<WebhookEndpoint>> {
    let row: Option<EndpointRow> = match connection {
        AnyConnection::Postgres(c) => {
            table.find(id).select(EndpointRow::as_select()).for_update().first(c).optional()?
        }
        // SQLite has one write transaction at a time
        sqlite @ AnyConnection::Sqlite(_) => return find(sqlite, id),
    };
    row.map(WebhookEndpoint::try_from).transpose()
}

/// Returns the endpoint with this URL.
///
/// # Errors
/// Database errors.
pub fn find_by_url(connection: &mut AnyConnection, url: &str) -> Result<Option<WebhookEndpoint>> {
    let at = table.filter(webhook_endpoint::url.eq(url)).select(EndpointRow::as_select());
    let row: Option<EndpointRow> = at.first(connection).optional()?;
    row.map(WebhookEndpoint::try_from).transpose()
}

/// Returns the endpoint with this URL, and locks it until this transaction ends.
///
/// # Errors
/// Database errors.
pub fn find_by_url_for_update(connection: &mut AnyConnection, url: &str) -> Result<Option<WebhookEndpoint>> {
    match find_by_url(connection, url)? {
        Some(found) => find_for_update(connection, found.id),
        None => Ok(None),
    }
}

/// Returns up to `limit` endpoints after `after`, in id order.
///
/// # Errors
/// Database errors.
pub fn list(
    connection: &mut AnyConnection,
    after: Option<EndpointId>,
    limit: i64,
) -> Result<Vec<WebhookEndpoint>> {
    let mut query =
        table.select(EndpointRow::as_select()).order(webhook_endpoint::id).limit(limit).into_boxed();
    if let Some(after) = after {
        query = query.filter(webhook_endpoint::id.gt(after));
    }
    let rows: Vec<EndpointRow> = query.load(connection)?;
    rows.into_iter().map(WebhookEndpoint::try_from).collect()
}

/// Deletes an endpoint, and returns it.
///
/// # Errors
/// Database errors.
pub fn delete(connection: &mut AnyConnection, id: EndpointId) -> Result<Option<WebhookEndpoint>> {
    let found = find_for_update(connection, id)?;
    diesel::delete(table.find(id)).execute(connection)?;
    Ok(found)
}

fn taken(error: QueryError) -> Error {
    if matches!(error, QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) {
        return Error::Conflict("another endpoint has this url".into());
    }
    error.into()
}
