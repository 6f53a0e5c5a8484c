//! Schema changes while no service runs.

use std::sync::Arc;
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::{Bool, Double, Text};

use super::any::AnyConnection;
use super::connection::Opener;
use super::handle::has_own_session;
use super::migrations::{self, KnownMigration, Target};
use super::opening::Opening;
use crate::error::{Error, Result};

#[derive(diesel::QueryableByName)]
struct ExistsRow {
    #[diesel(sql_type = Bool)]
    found: bool,
}

#[derive(diesel::QueryableByName)]
struct Node {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Reverts migrations, and returns their names, the newest first.
///
/// # Errors
/// [`Error::Conflict`] while a service runs, as the lock of the SQLite file shows, or on PostgreSQL a heartbeat of a
/// node within `lease`. Errors of [`migrations::revert`].
pub fn revert(url: &str, target: &Target, lease: Duration) -> Result<Vec<String>> {
    let opener = Opener::new(url, Arc::new(Opening::default()))?;
    let mut connection = opener.open()?;
    if let Some(file) = opener.file() {
        // locked until the connection is closed
        file.lock()?;
    }
    has_own_session(&opener, &mut connection)?;
    refuse_while_nodes_run(&mut connection, lease)?;
    migrations::revert(&mut connection, target)
}

/// Returns all migrations, the oldest first, without changes.
///
/// # Errors
/// Errors of [`migrations::status`].
pub fn status(url: &str) -> Result<Vec<KnownMigration>> {
    let opener = Opener::new(url, Arc::new(Opening::default()))?;
    migrations::status(&mut opener.open()?)
}

fn refuse_while_nodes_run(connection: &mut AnyConnection, lease: Duration) -> Result<()> {
    let AnyConnection::Postgres(c) = connection else { return Ok(()) };
    let has_table = diesel::sql_query("SELECT to_regclass('node') IS NOT NULL AS found");
    if !has_table.get_result::<ExistsRow>(c)?.found {
        return Ok(());
    }
    let alive: Vec<Node> = diesel::sql_query(
        "SELECT name FROM node WHERE heartbeat_at >= clock_timestamp() - make_interval(secs => $1) ORDER BY name",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .load(c)?;
    if alive.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = alive.into_iter().map(|node| node.name).collect();
    Err(Error::Conflict(format!(
        "nodes use this database ({}); stop them, or wait {} s after the last heartbeat of a dead one",
        names.join(", "),
        lease.as_secs()
    )))
}
