//! Checks that the database accepts writes, and reads its clock.

use diesel::{ExpressionMethods, QueryableByName, RunQueryDsl};

use super::any::AnyConnection;
use super::handle::Db;
use super::schema::node;
use super::types::{Instant, Timestamp};
use crate::error::{Error, Result};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// The database's time; none for SQLite, which uses this machine's clock.
    pub time: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct PulseRow {
    #[diesel(sql_type = Instant)]
    at: Timestamp,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_read_only: bool,
}

impl Db {
    /// Commits a write and records its success. On PostgreSQL it is a transaction with an id, which needs a record on
    /// disk. On SQLite it is the node's row; before that row exists there is nothing to write.
    ///
    /// # Errors
    /// Errors of the database; [`Error::Unavailable`] if it is read-only.
    pub async fn pulse(&self, now: Timestamp) -> Result<Pulse> {
        let pulse = self.write(move |c| look(c, now)).await?;
        self.note_written();
        Ok(pulse)
    }
}

fn look(c: &mut AnyConnection, now: Timestamp) -> Result<Pulse> {
    match c {
        AnyConnection::Postgres(c) => {
            let looked: PulseRow = diesel::sql_query(
                "SELECT clock_timestamp() AS at, current_setting('transaction_read_only') = 'on' AS is_read_only \
                 WHERE pg_current_xact_id() IS NOT NULL",
            )
            .get_result(c)?;
            if looked.is_read_only {
                return Err(Error::Unavailable("PostgreSQL is read-only".into()));
            }
            Ok(Pulse { time: Some(looked.at) })
        }
        AnyConnection::Sqlite(c) => {
            diesel::update(node::table).set(node::heartbeat_at.eq(now)).execute(c)?;
            Ok(Pulse { time: None })
        }
    }
}
