//! New clients of an import. The thread that reads the file prepares them, so that the one that writes does nothing else.

use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::BigInt;

use super::many::came_second;
use super::remember_names;
use super::row::{InsertClient, Row};
use crate::clients::model::{AttributeName, Client};
use crate::db::AnyConnection;
use crate::db::bulk::{Insertion, Insertions};
use crate::db::schema::client;
use crate::db::types::{ClientId, Timestamp};
use crate::error::Result;

/// Ids that are made together: as many as a chunk has rows.
const IDS_AT_ONCE: u16 = 1000;

/// Rows of one statement on SQLite. More gain nothing.
const ROWS_AT_ONCE: usize = 40;

/// Clients that have everything but their ids and their time.
#[derive(Debug, Clone, Default)]
pub struct NewClients {
    rows: Vec<Row>,
    are_identified: bool,
    attributes: BTreeSet<AttributeName>,
}

impl NewClients {
    /// Adds one. Its id and its time are given when it is stored.
    pub fn push(&mut self, client: Client) {
        for (name, _) in client.attributes.iter() {
            if !self.attributes.contains(name) {
                self.attributes.insert(name.clone());
            }
        }
        self.rows.push(client.into());
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Gives them their ids, in their order, if they have none.
    pub fn identify(&mut self) {
        if std::mem::replace(&mut self.are_identified, true) {
            return;
        }
        for rows in self.rows.chunks_mut(usize::from(IDS_AT_ONCE)) {
            for (row, id) in rows.iter_mut().zip(ClientId::run(IDS_AT_ONCE)) {
                row.id = id;
            }
        }
    }

    /// The names of their attributes.
    pub fn attributes(&self) -> impl Iterator<Item = &AttributeName> {
        self.attributes.iter()
    }

    /// Stores them in their order, up to the first whose number or external id another client has. Returns how many it
    /// stored: on SQLite all before that one, on PostgreSQL all or none.
    ///
    /// # Errors
    /// [`crate::error::Error::Conflict`] when it waited for others in a circle; those of the database.
    pub fn store(mut self, connection: &mut AnyConnection, now: Timestamp) -> Result<usize> {
        self.identify();
        for row in &mut self.rows {
            (row.created_at, row.updated_at) = (now, now);
        }
        let stored = match connection {
            AnyConnection::Postgres(c) => copy(c, self.rows),
            AnyConnection::Sqlite(c) => insert(c, &self.rows),
        }
        .map_err(came_second)?;
        if stored > 0 {
            remember_names(connection, &self.attributes.iter().map(AttributeName::as_str).collect())?;
        }
        Ok(stored)
    }
}

/// Without a statement that looks for them first: `COPY` costs half of an `INSERT` that unnests arrays.
/// In the order of the numbers and external ids, so that two imports of the same new people wait for each other in one
/// order only. What is refused is taken back to the savepoint, and the transaction goes on.
fn copy(connection: &mut PgConnection, mut rows: Vec<Row>) -> QueryResult<usize> {
    rows.sort_by(|a, b| (a.phone_number, &a.external_id).cmp(&(b.phone_number, &b.external_id)));
    let copied =
        connection.transaction(|c| diesel::copy_from(client::table).from_insertable(&rows).execute(c));
    match copied {
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(0),
        outcome => outcome,
    }
}

/// A row that is refused by a unique index leaves those before it where they are.
fn insert(connection: &mut SqliteConnection, rows: &[Row]) -> QueryResult<usize> {
    let (many, few) = rows.as_chunks::<ROWS_AT_ONCE>();
    let mut stored = 0;
    for rows in many {
        let inserted = Insertions::of(InsertClient, rows).execute(connection);
        if let Some(count) = before_refused(connection, inserted)? {
            return Ok(stored + count);
        }
        stored += ROWS_AT_ONCE;
    }
    for row in few {
        let inserted = Insertion::of(InsertClient, row).execute(connection);
        if let Some(count) = before_refused(connection, inserted)? {
            return Ok(stored + count);
        }
        stored += 1;
    }
    Ok(stored)
}

/// The rows that the last statement inserted before one that was refused; none when all were inserted.
fn before_refused(
    connection: &mut SqliteConnection,
    inserted: QueryResult<usize>,
) -> QueryResult<Option<usize>> {
    match inserted {
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            let count: i64 = diesel::select(sql::<BigInt>("changes()")).get_result(connection)?;
            Ok(Some(usize::try_from(count).unwrap_or_default()))
        }
        outcome => outcome.map(|_| None),
    }
}
