//! The credentials that requests name.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::channels;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::credentials::{Credentials, Vault};
use crate::db::Db;
use crate::error::{Error, Result};

/// The keys of this configuration.
///
/// # Errors
/// [`Error::Invalid`] for one that is none.
pub(super) fn vault(config: &Config) -> Result<Vault> {
    let Some(keys) = &config.credentials.key else { return Ok(Vault::default()) };
    Vault::parse(keys.expose_secret()).map_err(|why| Error::invalid(config::named("credentials.key"), why))
}

/// The credentials of a database, for a command that changes them beside a service.
///
/// # Errors
/// What of the configuration does not work.
pub fn credentials_beside(config: &Config, db: Db) -> Result<Credentials> {
    let guard = Arc::new(channels::guard(config)?);
    Ok(Credentials::new(db, Clock::System, guard, vault(config)?))
}
