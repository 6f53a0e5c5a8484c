//! A cache of all routes, so that events are matched in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::model::{CompiledRoute, MOST_ROUTES};
use super::pattern::EventName;
use super::repo;
use crate::db::Db;
use crate::error::{Error, Result};

/// The time after which a change by another node takes effect here.
const FRESH: Duration = Duration::from_secs(1);

/// All routes, read again when they may have changed.
#[derive(Debug, Default)]
pub struct RouteCache {
    known: Mutex<CachedRoutes>,
    /// Held by the task that reads the routes; others wait for it.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct CachedRoutes {
    /// The number of changes by this node. Routes that were read before the last change are not cached.
    changes: u64,
    routes: Option<(Instant, Arc<Vec<CompiledRoute>>)>,
}

impl RouteCache {
    /// Returns all routes.
    ///
    /// # Errors
    /// Database errors.
    pub async fn routes(&self, db: &Db) -> Result<Arc<Vec<CompiledRoute>>> {
        if let Some(routes) = self.fresh() {
            return Ok(routes);
        }
        let _turn = self.reading.lock().await;
        if let Some(routes) = self.fresh() {
            return Ok(routes);
        }
        let (began, changes) = (Instant::now(), self.known().changes);
        let most = i64::try_from(MOST_ROUTES).unwrap_or(i64::MAX);
        let routes = db.read(move |c| repo::list(c, None, most)).await?;
        let routes = routes.into_iter().map(|route| route.compile().map_err(Error::internal));
        let routes = Arc::new(routes.collect::<Result<Vec<_>>>()?);
        let mut known = self.known();
        if known.changes == changes {
            known.routes = Some((began, Arc::clone(&routes)));
        }
        Ok(routes)
    }

    fn fresh(&self) -> Option<Arc<Vec<CompiledRoute>>> {
        self.known()
            .routes
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, routes)| Arc::clone(routes))
    }

    /// Discards the cached routes after a change by this node.
    pub fn forget(&self) {
        let mut known = self.known();
        known.changes += 1;
        known.routes = None;
    }

    fn known(&self) -> MutexGuard<'_, CachedRoutes> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the routes that match an event, in the order of creation.
pub fn matching<'r>(routes: &'r [CompiledRoute], name: &EventName) -> Vec<&'r CompiledRoute> {
    routes.iter().filter(|route| route.knows(name)).collect()
}
