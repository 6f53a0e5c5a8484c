//! Rates that all nodes keep together: each takes its share in blocks, which lie one after the other in time.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Double, Text};

use crate::db::AnyConnection;
use crate::error::{Error, Result};

#[derive(QueryableByName)]
struct Given {
    #[diesel(sql_type = Double)]
    delay: f64,
}

/// Takes the next `span` of the schedule `name` for this node alone; answers in how long it begins.
///
/// # Errors
/// Those of the database; SQLite has one node, which needs no share.
pub fn reserve(c: &mut AnyConnection, name: &str, span: Duration) -> Result<Duration> {
    let AnyConnection::Postgres(c) = c else {
        return Err(Error::internal("only nodes on PostgreSQL share a rate"));
    };
    let given: Given = diesel::sql_query(include_str!("sql/reserve_rate.postgres.sql"))
        .bind::<Text, _>(name)
        .bind::<Double, _>(span.as_secs_f64())
        .get_result(c)?;
    Ok(Duration::from_secs_f64(given.delay.max(0.0)))
}
