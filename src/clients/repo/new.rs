//! New clients of an import. The thread that reads the file prepares their rows, so that the writer only writes.

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

/// The number of ids generated together: the rows of a chunk.
const IDS_AT_ONCE: u16 = 1000;

/// The number of rows of one statement on SQLite. More rows bring no gain.
const ROWS_AT_ONCE: usize = 40;

/// New clients whose ids and times are assigned later.
#[derive(Debug, Clone, Default)]
pub struct NewClients {
    rows: Vec<Row>,
    are_identified: bool,
    attributes: BTreeSet<AttributeName>,
}

impl NewClients {
    /// Adds a client. Its id and its times are assigned when it is stored.
    pub fn push(&mut self, client: Client) {
        for (name, _) in client.attributes.iter() {
            if !self.attributes.contains(name) {
                self.attributes.insert(name.clone());
            }
        }
        self.rows.push(client.into());
    }

    /// Returns the number of clients.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there are no clients.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Assigns ids in the order of the clients, unless they have ids already.
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

    /// Returns the names of their attributes.
    pub fn attributes(&self) -> impl Iterator<Item = &AttributeName> {
        self.attributes.iter()
    }

    /// Stores the clients in their order and stops at the first whose number or external id is taken. Returns the
    /// number of stored clients: on SQLite all before that one, on PostgreSQL all or none.
    ///
    /// # Errors
    /// [`crate::error::Error::Conflict`] after a deadlock, and database errors.
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

/// Copies the rows without a preceding lookup: `COPY` costs half of an `INSERT` that unnests arrays.
/// The rows are sorted by number and external id, so that two imports of the same new clients lock in the same order.
/// A refused `COPY` is rolled back to the savepoint, and the transaction continues.
fn copy(connection: &mut PgConnection, mut rows: Vec<Row>) -> QueryResult<usize> {
    rows.sort_by(|a, b| (a.phone_number, &a.external_id).cmp(&(b.phone_number, &b.external_id)));
    let copied =
        connection.transaction(|c| diesel::copy_from(client::table).from_insertable(&rows).execute(c));
    match copied {
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(0),
        outcome => outcome,
    }
}

/// Inserts rows. When a unique index refuses a row, the rows before it stay.
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

/// Returns the number of rows that the last statement inserted before a refused one; `None` if all were inserted.
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
