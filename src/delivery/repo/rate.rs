//! Rate limits that all nodes share: each node reserves blocks of slots, which follow each other in time.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Double, Text};

use crate::db::AnyConnection;
use crate::error::{Error, Result};

#[derive(QueryableByName)]
struct RateRow {
    #[diesel(sql_type = Double)]
    delay: f64,
}

/// Reserves the next `span` of the schedule `name` for this node. Returns the time until it begins.
///
/// # Errors
/// Database errors, and any call on SQLite, which has one node.
pub fn reserve(c: &mut AnyConnection, name: &str, span: Duration) -> Result<Duration> {
    let AnyConnection::Postgres(c) = c else {
        return Err(Error::internal("rate limits are shared only on PostgreSQL"));
    };
    let given: RateRow = diesel::sql_query(include_str!("sql/reserve_rate.postgres.sql"))
        .bind::<Text, _>(name)
        .bind::<Double, _>(span.as_secs_f64())
        .get_result(c)?;
    Ok(Duration::from_secs_f64(given.delay.max(0.0)))
}
