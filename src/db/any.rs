//! The connection to either database, in its own file because of the lints that its derived code needs.
#![expect(missing_docs, reason = "diesel's derive writes public items without docs")]

use diesel::{PgConnection, SqliteConnection};

/// A connection to either database. Cold statements are written once against it; hot ones match on it.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// PostgreSQL, for production and several nodes.
    Postgres(PgConnection),
    /// SQLite, embedded, for one node.
    Sqlite(SqliteConnection),
}
