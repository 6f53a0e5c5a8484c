//! The converter: converts existing values to the declared type of their attribute, a few clients at a time.

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

/// The number of clients that one transaction checks.
const AT_ONCE: i64 = 500;
/// The interval of the poll for conversions that another node has left unfinished.
const PAUSE: Duration = Duration::from_secs(10);

/// Converts the clients of one database.
pub struct Converter {
    db: Db,
    clock: Clock,
    wake: Arc<Notify>,
}

impl Converter {
    /// Creates a converter that runs a step when `wake` is notified.
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
                    tracing::warn!(%error, "conversion to a declared type failed; will retry");
                    shutdown.rest(&self.wake, PAUSE).await;
                }
            }
        }
    }

    /// Runs one step. Returns true if there may be more to do.
    ///
    /// # Errors
    /// Database errors.
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
            // read again under a lock, because another transaction may have changed it meanwhile
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
