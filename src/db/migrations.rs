//! The migrations, embedded in the binary and applied at start-up: the same list for both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::migration::{Migration, MigrationSource};
use diesel::{OptionalExtension, PgConnection, QueryDsl, RunQueryDsl, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::any::AnyConnection;
use super::schema::mailing;
use super::types::MailingId;
use crate::error::{Error, Result};
use crate::failpoint;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The advisory lock that serializes the migrations of nodes that start at once; an arbitrary number, the same in every
/// version.
const LOCK: i64 = 0x0066_616e_6661_7265;

/// The number of digits of a version.
const VERSION: usize = 14;
/// The greatest number of digits of a number of migrations.
const LONGEST_COUNT: usize = 4;

/// Applies the pending migrations and returns their names.
///
/// # Errors
/// A migration fails, or the database's schema is newer than this version.
pub fn run(connection: &mut AnyConnection) -> Result<Vec<String>> {
    locked(connection, |c| pending(c, POSTGRES), |c| pending(c, SQLITE))
}

/// The migrations to revert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The newest one.
    Previous,
    /// All except the first ones, of this number.
    Count(usize),
    /// All that are newer than this version.
    Version(String),
}

impl FromStr for Target {
    type Err = String;

    /// Parses a number of migrations, or a migration's name, or the version at its beginning.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number(text) && text.len() <= LONGEST_COUNT {
            return text.parse().map(Self::Count).map_err(|_| "is too large".into());
        }
        let version = text.split('_').next().unwrap_or_default().replace('-', "");
        if is_number(&version) && version.len() == VERSION {
            return Ok(Self::Version(version));
        }
        Err("must be the number of migrations to keep, or the last one to keep, as in `fanfare migrate status`"
            .into())
    }
}

/// Reverts migrations, the newest first, and returns their names.
///
/// # Errors
/// [`Error::Invalid`] for a target that is not applied, a migration that cannot be reverted, and as [`run`].
pub fn revert(connection: &mut AnyConnection, target: &Target) -> Result<Vec<String>> {
    locked(connection, |c| revert_to(c, POSTGRES, target), |c| revert_to(c, SQLITE, target))
}

/// A migration of this version, and its state in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMigration {
    /// The name, such as `2026-12-01-000001_pause_sending`.
    pub name: String,
    /// True if it is applied.
    pub is_applied: bool,
}

/// Returns all migrations, the oldest first.
///
/// # Errors
/// Errors of the database, and a schema that is newer than this version.
pub fn status(connection: &mut AnyConnection) -> Result<Vec<KnownMigration>> {
    match connection {
        AnyConnection::Postgres(c) => known(c, &POSTGRES),
        AnyConnection::Sqlite(c) => known(c, &SQLITE),
    }
}

/// Runs one of the functions while no other process migrates the database.
fn locked<T>(
    connection: &mut AnyConnection,
    on_postgres: impl FnOnce(&mut PgConnection) -> Result<T>,
    on_sqlite: impl FnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    match connection {
        AnyConnection::Postgres(c) => {
            // a node may wait long for the migrations of another one, and a migration may run long, but it must not
            // wait long for a table's lock: all other sessions would queue behind it
            c.batch_execute(&format!(
                "SET statement_timeout = '1h'; SELECT pg_advisory_lock({LOCK}); SET lock_timeout = '30s'"
            ))?;
            let done = on_postgres(c);
            c.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))?;
            done
        }
        AnyConnection::Sqlite(c) => {
            // one write lock around all migrations serializes processes that start at once
            AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE")?;
            let done = on_sqlite(c);
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

/// Returns all migrations by version, the oldest first.
fn by_version<DB: diesel::backend::Backend>(
    source: &EmbeddedMigrations,
) -> Result<BTreeMap<String, Box<dyn Migration<DB>>>> {
    let all = MigrationSource::<DB>::migrations(source).map_err(Error::Internal)?;
    Ok(all.into_iter().map(|migration| (migration.name().version().to_string(), migration)).collect())
}

fn known<C, DB>(connection: &mut C, source: &EmbeddedMigrations) -> Result<Vec<KnownMigration>>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
{
    refuse_newer(connection, source)?;
    let applied = connection.applied_migrations().map_err(Error::Internal)?;
    let applied: BTreeSet<String> = applied.iter().map(ToString::to_string).collect();
    let all = by_version::<DB>(source)?.into_iter();
    Ok(all
        .map(|(version, migration)| KnownMigration {
            name: migration.name().to_string(),
            is_applied: applied.contains(&version),
        })
        .collect())
}

fn revert_to<C, DB>(connection: &mut C, source: EmbeddedMigrations, target: &Target) -> Result<Vec<String>>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
{
    refuse_newer(connection, &source)?;
    let all = by_version::<DB>(&source)?;
    let mut applied: Vec<String> =
        connection.applied_migrations().map_err(Error::Internal)?.iter().map(ToString::to_string).collect();
    applied.sort();
    let stay = match target {
        Target::Previous => applied.len().saturating_sub(1),
        Target::Count(count) if *count <= applied.len() => *count,
        Target::Count(_) => {
            let reason = format!("must be 0 to {}, the number of applied migrations", applied.len());
            return Err(Error::invalid("--to", reason));
        }
        Target::Version(version) => match applied.iter().position(|known| known == version) {
            Some(at) => at + 1,
            None => return Err(Error::invalid("--to", "must be an applied migration")),
        },
    };
    let mut done = Vec::new();
    for version in applied.iter().skip(stay).rev() {
        let migration = all.get(version).ok_or_else(|| Error::internal("a migration is unknown"))?;
        connection.revert_migration(&**migration).map_err(Error::Internal)?;
        done.push(migration.name().to_string());
    }
    Ok(done)
}

/// Refuses a newer schema, since this version may not read and write it correctly.
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
            "the database has schema version {unknown}, but fanfare {} supports versions up to {newest}: start a newer \
             version of fanfare, or restore a backup of the older schema",
            env!("CARGO_PKG_VERSION")
        ))),
        _ => Ok(()),
    }
}

/// Checks that the database responds and that its migrations are applied, by reading a table.
///
/// # Errors
/// The table cannot be read.
pub fn are_done(connection: &mut AnyConnection) -> Result<()> {
    let _: Option<MailingId> = mailing::table.select(mailing::id).first(connection).optional()?;
    Ok(())
}

/// Reverts the newest migration; for tests of its data changes.
///
/// # Errors
/// As [`revert`].
pub fn revert_last(connection: &mut AnyConnection) -> Result<()> {
    revert(connection, &Target::Previous).map(drop)
}

/// Reverts all migrations; for the test that each is reversible.
///
/// # Errors
/// As [`revert`].
pub fn revert_all(connection: &mut AnyConnection) -> Result<()> {
    revert(connection, &Target::Count(0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_number_or_a_migration() {
        let version = |text: &str| Ok(Target::Version(text.to_owned()));
        for (text, expected) in [
            ("0", Ok(Target::Count(0))),
            ("18", Ok(Target::Count(18))),
            ("2026-12-01-000001", version("20261201000001")),
            ("20261201000001", version("20261201000001")),
            ("2026-12-01-000001_pause_sending", version("20261201000001")),
        ] {
            assert_eq!(text.parse::<Target>(), expected, "{text}");
        }
        for text in ["", "-1", "pause_sending", "1.5", "latest"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
