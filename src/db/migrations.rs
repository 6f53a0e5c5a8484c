//! The migrations, embedded in the binary and run at start-up: the same list in both databases.

use std::collections::BTreeSet;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::migration::MigrationSource;
use diesel::{OptionalExtension, QueryDsl, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::any::AnyConnection;
use super::schema::mailing;
use super::types::MailingId;
use crate::error::{Error, Result};
use crate::failpoint;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Any number, the same in every version: nodes that start at once take this advisory lock one after another.
const LOCK: i64 = 0x0066_616e_6661_7265;

/// Runs what has not run yet and answers the names of it.
///
/// # Errors
/// A migration that does not apply, or a database whose schema is newer than this binary knows.
pub fn run(connection: &mut AnyConnection) -> Result<Vec<String>> {
    match connection {
        AnyConnection::Postgres(c) => {
            // a node may wait long for another one's migrations, and these for their rows, but nobody for a lock that
            // somebody else holds: all others would wait behind it
            c.batch_execute(&format!(
                "SET statement_timeout = '1h'; SELECT pg_advisory_lock({LOCK}); SET lock_timeout = '30s'"
            ))?;
            let done = pending(c, POSTGRES);
            c.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))?;
            done
        }
        AnyConnection::Sqlite(c) => {
            // one write lock around all of it: processes that start at once come one after another
            AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE")?;
            let done = pending(c, SQLITE);
            match &done {
                Ok(_) => AnsiTransactionManager::commit_transaction(c)?,
                Err(_) => AnsiTransactionManager::rollback_transaction(c)?,
            }
            done
        }
    }
}

fn pending<C, DB>(connection: &mut C, source: EmbeddedMigrations) -> Result<Vec<String>>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
{
    refuse_newer(connection, &source)?;
    let mut done = Vec::new();
    for migration in connection.pending_migrations(source).map_err(Error::Internal)? {
        done.push(connection.run_migration(&*migration).map_err(Error::Internal)?.to_string());
        failpoint::reach("migration");
    }
    Ok(done)
}

/// A schema that another version has changed may not be what this one reads and writes.
fn refuse_newer<C, DB>(connection: &mut C, source: &EmbeddedMigrations) -> Result<()>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
{
    let known = MigrationSource::<DB>::migrations(source).map_err(Error::Internal)?;
    let known: BTreeSet<String> =
        known.iter().map(|migration| migration.name().version().to_string()).collect();
    let applied = connection.applied_migrations().map_err(Error::Internal)?;
    let unknown = applied.iter().map(ToString::to_string).filter(|version| !known.contains(version)).max();
    match (unknown, known.last()) {
        (Some(unknown), Some(newest)) => Err(Error::Conflict(format!(
            "the database has the schema {unknown}, and this fanfare ({}) knows those up to {newest}: start a newer version, \
             or restore a backup of this one's",
            env!("CARGO_PKG_VERSION")
        ))),
        _ => Ok(()),
    }
}

/// Reads a table of theirs: whether they are done and the database answers.
///
/// # Errors
/// When it is not so.
pub fn are_done(connection: &mut AnyConnection) -> Result<()> {
    let _: Option<MailingId> = mailing::table.select(mailing::id).first(connection).optional()?;
    Ok(())
}

/// Takes the newest migration back; for the tests of what it carries over.
///
/// # Errors
/// As [`revert_all`].
pub fn revert_last(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        AnyConnection::Postgres(c) => c.revert_last_migration(POSTGRES).map(drop).map_err(Error::Internal),
        AnyConnection::Sqlite(c) => c.revert_last_migration(SQLITE).map(drop).map_err(Error::Internal),
    }
}

/// Takes every migration back, the newest first; for the test that each can be undone.
///
/// # Errors
/// A migration whose way back does not apply.
pub fn revert_all(connection: &mut AnyConnection) -> Result<()> {
    match connection {
        AnyConnection::Postgres(c) => c.revert_all_migrations(POSTGRES).map(drop).map_err(Error::Internal),
        AnyConnection::Sqlite(c) => c.revert_all_migrations(SQLITE).map(drop).map_err(Error::Internal),
    }
}
