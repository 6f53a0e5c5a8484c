//! Secrets that are not configured: generated once from the system's random source, and stored.

use diesel::prelude::*;
use ring::rand::{SecureRandom, SystemRandom};

use super::any::AnyConnection;
use super::schema::generated_secret;
use super::types::Timestamp;
use crate::error::{Error, Result};

/// The length of a secret in bytes.
const LENGTH: usize = 32;

/// Returns the secret of this name, and generates it if it does not exist. Nodes that do this at once get the same
/// secret.
///
/// # Errors
/// Errors of the database and of the random source.
pub fn secret(c: &mut AnyConnection, name: &str, now: Timestamp) -> Result<Vec<u8>> {
    let find = |c: &mut AnyConnection| {
        generated_secret::table.find(name).select(generated_secret::secret).first(c).optional()
    };
    if let Some(secret) = find(c)? {
        return Ok(secret);
    }
    let mut fresh = vec![0; LENGTH];
    SystemRandom::new().fill(&mut fresh).map_err(|_| Error::internal("the system's random source failed"))?;
    let row = (
        generated_secret::name.eq(name),
        generated_secret::secret.eq(fresh),
        generated_secret::created_at.eq(now),
    );
    match c {
        AnyConnection::Postgres(c) => {
            diesel::insert_into(generated_secret::table).values(row).on_conflict_do_nothing().execute(c)?
        }
        AnyConnection::Sqlite(c) => {
            diesel::insert_into(generated_secret::table).values(row).on_conflict_do_nothing().execute(c)?
        }
    };
    // if several nodes insert one, the first is kept
    find(c)?.ok_or_else(|| Error::internal(format!("the secret `{name}` is missing after its insertion")))
}
