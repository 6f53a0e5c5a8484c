//! The migrations, embedded in the binary and run at start-up: the same list in both databases.

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
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
            c.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))?;
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
    let mut done = Vec::new();
    for migration in connection.pending_migrations(source).map_err(Error::Internal)? {
        done.push(connection.run_migration(&*migration).map_err(Error::Internal)?.to_string());
        failpoint::reach("migration");
    }
    Ok(done)
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
