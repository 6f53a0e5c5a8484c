//! Wires the credentials of outgoing requests.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::channels;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::credentials::{Credentials, Vault};
use crate::db::Db;
use crate::error::{Error, Result};

/// Returns the vault with the configured keys.
///
/// # Errors
/// [`Error::Invalid`] for an invalid key.
pub(super) fn vault(config: &Config) -> Result<Vault> {
    let Some(keys) = &config.credentials.key else { return Ok(Vault::default()) };
    Vault::parse(keys.expose_secret()).map_err(|why| Error::invalid(config::named("credentials.key"), why))
}

/// Returns the credentials of a database, for a command that changes them while a service may be running.
///
/// # Errors
/// [`Error::Invalid`] for an invalid setting.
pub fn credentials_beside(config: &Config, db: Db) -> Result<Credentials> {
    let guard = Arc::new(channels::guard(config)?);
    Ok(Credentials::new(db, Clock::System, guard, vault(config)?))
}
