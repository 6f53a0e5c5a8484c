//! A look at whether the database can be written to, and at its clock.

use diesel::{ExpressionMethods, QueryableByName, RunQueryDsl};

use super::any::AnyConnection;
use super::handle::Db;
use super::schema::node;
use super::types::{Instant, Timestamp};
use crate::error::{Error, Result};

/// The answer of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Its time; none of SQLite, which has this machine's.
    pub time: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct Looked {
    #[diesel(sql_type = Instant)]
    at: Timestamp,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_read_only: bool,
}

impl Db {
    /// Commits something, and notes that it could: on PostgreSQL a transaction that has a number and so a record on disk, on
    /// SQLite the node's row, without which there is no node yet and nothing to write.
    ///
    /// # Errors
    /// Those of the database; [`Error::Unavailable`] when it takes no changes.
    pub async fn pulse(&self, now: Timestamp) -> Result<Pulse> {
        let pulse = self.write(move |c| look(c, now)).await?;
        self.note_written();
        Ok(pulse)
    }
}

fn look(c: &mut AnyConnection, now: Timestamp) -> Result<Pulse> {
    match c {
        AnyConnection::Postgres(c) => {
            let looked: Looked = diesel::sql_query(
                "SELECT clock_timestamp() AS at, current_setting('transaction_read_only') = 'on' AS is_read_only \
                 WHERE pg_current_xact_id() IS NOT NULL",
            )
            .get_result(c)?;
            if looked.is_read_only {
                return Err(Error::Unavailable(
                    "PostgreSQL takes no changes: its transactions are read-only".into(),
                ));
            }
            Ok(Pulse { time: Some(looked.at) })
        }
        AnyConnection::Sqlite(c) => {
            diesel::update(node::table).set(node::heartbeat_at.eq(now)).execute(c)?;
            Ok(Pulse { time: None })
        }
    }
}
