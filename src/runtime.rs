//! The handles that the services of a process share.

use crate::clock::Clock;
use crate::db::Db;
use crate::live::Live;
use crate::metrics::Metrics;

/// The handles that the services of a process share. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    /// The database.
    pub db: Db,
    /// The clock; on PostgreSQL it follows the server's.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Metrics,
    /// The publisher of status changes.
    pub live: Live,
}
