//! The converter: brings the clients that had an attribute before it was declared to its type, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::convert::convert;
use super::repo;
use crate::clients::model::{ClientPatch, ListFilter};
use crate::clients::repo as clients;
use crate::clock::Clock;
use crate::db::types::Timestamp;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::lifecycle::Shutdown;

/// Clients that are looked at in one transaction.
const AT_ONCE: i64 = 500;
/// Between two looks, should another node have left something.
const PAUSE: Duration = Duration::from_secs(10);

/// Converts the clients of one database.
pub struct Converter {
    db: Db,
    clock: Clock,
    wake: Arc<Notify>,
}

impl Converter {
    /// It looks when it is woken.
    pub(super) fn new(db: Db, clock: Clock, wake: Arc<Notify>) -> Self {
        Self { db, clock, wake }
    }

    /// Runs until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_fired() {
            match self.run_once().await {
                Ok(true) => {}
                Ok(false) => shutdown.rest(&self.wake, PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "clients could not be converted to a declared type; trying again");
                    shutdown.rest(&self.wake, PAUSE).await;
                }
            }
        }
    }

    /// One step; returns whether there may be more to do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_once(&self) -> Result<bool> {
        let now = self.clock.now();
        self.db.write(move |c| step(c, now)).await
    }
}

fn step(c: &mut AnyConnection, now: Timestamp) -> Result<bool> {
    let Some((mut attribute, cursor)) = repo::next_to_convert(c)? else { return Ok(false) };
    let found = clients::list(c, &ListFilter::default(), cursor, AT_ONCE)?;
    let name = attribute.name.clone();
    for client in &found {
        let Some(value) = client.attributes.get(name.as_str()) else { continue };
        match convert(attribute.kind, value) {
            Ok(None) => {}
            Err(_) => attribute.conversion.unconverted += 1,
            // looked at again under its lock, since others may have changed it meanwhile
            Ok(Some(_)) => {
                let Some(mut client) = clients::find_for_update(c, client.id)? else { continue };
                let value = client.attributes.get(name.as_str()).map(|value| convert(attribute.kind, value));
                if let Some(Ok(Some(value))) = value {
                    let attributes = vec![(name.clone(), Some(value))];
                    let patch = ClientPatch { attributes, ..ClientPatch::default() };
                    client.apply(&patch, now).map_err(|e| crate::error::Error::internal(e.reason))?;
                    clients::update(c, &client)?;
                }
                attribute.conversion.converted += 1;
            }
        }
    }
    let count = i64::try_from(found.len()).unwrap_or(AT_ONCE);
    attribute.conversion.clients += count;
    attribute.conversion.is_running = count == AT_ONCE;
    let cursor = found.last().map(|client| client.id).or(cursor);
    repo::update(c, &attribute, cursor)?;
    Ok(true)
}
